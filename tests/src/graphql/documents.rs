//! What a server shows of its schema, and which documents it answers.

use reqwest::Client;
use serde_json::{Value, json};

use super::list_and_receive;
use crate::support::{Database, Server, client, root, status_and_json};

/// The status and the first code of the answer to a request.
async fn answer(server: &Server, body: Value) -> (u16, Value) {
    let request = server.client.post(format!("{}/graphql", server.url)).json(&body);
    let (status, answer) = status_and_json(request.send().await.unwrap()).await;
    (status, answer["errors"][0]["extensions"]["code"].clone())
}

#[tokio::test]
async fn the_schema_is_shown_on_ones_own_machine_and_where_it_is_said() {
    let database = Database::create().await;
    let roles = ["--roles", "read"];
    let ask = json!({ "query": "{ __schema { queryType { name } } }" });
    let (shown, hidden) = ((200, Value::Null), (422, json!("INTROSPECTION_DISABLED")));
    for (arguments, settings, expected) in [
        (&[][..], &[][..], &hidden),
        (&["--introspection", "true"], &[], &shown),
        (&[], &[("STOREFOLD_GRAPHQL_INTROSPECTION", "true")], &shown),
        (&["--tokens", "none"], &[], &shown),
        (&["--tokens", "none", "--introspection", "false"], &[], &hidden),
    ] {
        let arguments = [&roles, arguments].concat();
        let server = Server::start_as(&database, &arguments, settings).await;
        assert_eq!(&answer(&server, ask.clone()).await, expected, "{arguments:?} {settings:?}");
    }
    // The key that a shop makes for itself is for this machine alone.
    let no_key = [("STOREFOLD_TOKEN_KEY", "")];
    let mut server = Server::start_as(&database, &roles, &no_key).await;
    let mut command = database.command(&["token", "--role", "operator", "--data-dir"]);
    let made = command.arg(server.data_dir()).envs(no_key).output().await.unwrap();
    server.client = client(String::from_utf8(made.stdout).unwrap().trim());
    assert_eq!(answer(&server, ask).await, shown);
}

#[tokio::test]
async fn a_list_of_documents_is_answered_and_nothing_else() {
    let database = Database::create().await;
    let list = root().join("docs/trusted-documents.json");
    let arguments = ["--roles", "write,project,read", "--trusted-only", list.to_str().unwrap()];
    let mut server = Server::start_with(&database, &arguments).await;
    list_and_receive(&server, "A").await;
    let documents: Value = serde_json::from_str(&std::fs::read_to_string(&list).unwrap()).unwrap();
    let documents = documents.as_object().unwrap();
    let (hash, text) = documents.iter().find(|(_, text)| text.as_str().unwrap().starts_with("query Parked")).unwrap();
    for body in [
        json!({ "query": text }),
        json!({ "documentId": format!("sha256:{hash}") }),
        json!({ "extensions": { "persistedQuery": { "version": 1, "sha256Hash": hash } } }),
    ] {
        assert_eq!(answer(&server, body.clone()).await, (200, Value::Null), "{body}");
    }
    let not_in_it = json!("PERSISTED_QUERY_NOT_IN_LIST");
    for body in [json!({ "query": "{ __typename }" }), json!({ "query": format!("{} ", text.as_str().unwrap()) })] {
        assert_eq!(answer(&server, body.clone()).await, (422, not_in_it.clone()), "{body}");
    }
    // A list does not stand in for a token.
    server.client = Client::new();
    assert_eq!(answer(&server, json!({ "query": text })).await.0, 401);
}

/// The hash of a document that fits no schema of ours.
const GONE: &str = "11a6ead36b7f9226665698f90b5629c8033c44658b31817e3d4a5b6ec13f9821";

#[tokio::test]
async fn a_list_that_is_not_right_is_refused_at_the_start() {
    let database = Database::create().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list.json");
    for (content, told) in [
        (None, "cannot be read"),
        (Some("[]".to_owned()), "no JSON object"),
        (Some(json!({ "00": "{ __typename }" }).to_string()), "the document under 00 has the hash"),
        // By its own hash, but of another schema.
        (Some(json!({ GONE: "{ gone }" }).to_string()), "is refused: "),
    ] {
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let arguments =
            ["serve", "--listen", "127.0.0.1:0", "--roles", "read", "--trusted-only", file.to_str().unwrap()];
        let refused = database.command(&arguments).arg("--data-dir").arg(folder.path()).output().await.unwrap();
        let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && complaint.contains(told), "{told}: {complaint}");
        assert!(complaint.contains("graphql.trusted_documents"), "{complaint}");
    }
}
