//! What frontends are made with: types that a generator makes of the schema, and the page to try queries out on.

use access::Scopes;
use serde_json::{Value, json};
use tokio::process::Command;

use super::{installed, list_and_receive, skipped};
use crate::support::{Database, Server, root, token};

/// The schema and the documents of docs/graphql.md make a client that TypeScript takes, and that it does not let misuse.
#[tokio::test]
async fn a_typed_client_is_generated_and_compiles() {
    let Some(folder) = installed("codegen").await else { return };
    let run = async |program: &str, arguments: &[&str]| {
        let ran = Command::new(program).args(arguments).current_dir(&folder).output().await.unwrap();
        let said = [ran.stdout, ran.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        assert!(ran.status.success(), "{program} {arguments:?}: {said}");
    };
    let [schema, documents] = ["read-api/schema.graphql", "docs/trusted-documents.json"].map(|file| root().join(file));
    run("node", &["generate.mjs", schema.to_str().unwrap(), documents.to_str().unwrap()]).await;
    let strict = ["--strict", "--noEmit", "--noUnusedLocals", "--module", "nodenext", "--target", "es2022"];
    run("node", &[&["node_modules/typescript/bin/tsc"], &strict[..], &["program.ts"]].concat()).await;
}

/// The Chromium of this machine.
async fn chromium() -> Option<&'static str> {
    for name in ["chromium", "chromium-browser", "google-chrome"] {
        if Command::new(name).arg("--version").output().await.is_ok_and(|output| output.status.success()) {
            return Some(name);
        }
    }
    None
}

#[tokio::test]
async fn the_page_runs_queries_in_a_browser_with_graphiql_and_without() {
    let Some(chromium) = chromium().await else { return skipped("there is no Chromium on this machine") };
    let Some(folder) = installed("browser").await else { return };
    let which = Command::new("which").arg(chromium).output().await.unwrap();
    let chromium = String::from_utf8(which.stdout).unwrap();
    let database = Database::create().await;
    let server = Server::start_with(&database, &["--roles", "write,project,read", "--introspection", "true"]).await;
    list_and_receive(&server, "TEA").await;
    let last = server.done("/v1/stock/TEA/receive", json!({ "quantity": 1 })).await["position"].clone();
    server.query("{ products { totalCount } }", json!({}), last.as_str()).await;

    let url = format!("{}/graphql", server.url);
    let mut browse = Command::new("node");
    browse.args(["browse.mjs", chromium.trim(), &url, &token("tests", Scopes::ALL, None)]).current_dir(&folder);
    let browsed = browse.kill_on_drop(true).output().await.unwrap();
    assert!(browsed.status.success(), "{}", String::from_utf8_lossy(&browsed.stderr));
    let seen: Value = serde_json::from_slice(&browsed.stdout).unwrap();

    assert_eq!(seen["title"], "Storefold: GraphiQL");
    for way in ["plain", "graphiql"] {
        let answers = &seen[way];
        assert_eq!(
            answers["catalogue"]["data"]["products"]["nodes"],
            json!([{ "sku": "TEA", "inStock": true }]),
            "{way}"
        );
        assert_eq!(answers["refused"]["errors"][0]["extensions"]["code"], "UNAUTHENTICATED", "{way}: {seen:#}");
        assert_eq!(answers["orders"]["data"]["orders"]["totalCount"], 0, "{way}: {seen:#}");
    }
    // The form stands for itself, and GraphiQL is made of just these files, whose hashes the page names.
    let files = seen["served"].as_array().unwrap();
    assert_eq!((files.len(), &seen["blocked"].as_array().unwrap().len()), (4, &4), "{seen:#}");
    assert_eq!((&seen["elsewhere"], &seen["troubles"]), (&json!([]), &json!([])), "{seen:#}");
}
