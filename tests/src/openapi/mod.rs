//! The OpenAPI document as those meet it who write clients: committed, held against older ones, with examples that are so,
//! and good for a client that a generator makes.

use access::{Scope, Scopes};
use serde_json::{Value, json};
use tokio::process::Command;
use uuid::Uuid;

use crate::graphql::installed_in;
use crate::support::{Database, Server, root, status_and_json, storefold, token};

/// Runs `storefold schema openapi`.
async fn schema(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(storefold()).args(["schema", "openapi"]).args(arguments).output().await.unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn committed() -> String {
    std::fs::read_to_string(root().join("write-side/openapi.json")).unwrap()
}

#[tokio::test]
async fn the_committed_document_is_that_of_the_code() {
    let (status, now) = schema(&[]).await;
    assert_eq!(status, Some(0));
    assert!(committed() == now, "write it anew: storefold schema openapi > write-side/openapi.json");
}

#[tokio::test]
async fn a_document_is_held_against_an_older_one() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("old.json");
    let check = ["--check", old.to_str().unwrap()];
    std::fs::write(&old, committed()).unwrap();
    assert_eq!(schema(&check).await, (Some(0), String::new()));
    let mut before: Value = serde_json::from_str(&committed()).unwrap();
    before["paths"]["/v1/stock/{id}/steal"] = json!({ "post": {} });
    let receive = &mut before["paths"]["/v1/stock/{id}/receive"]["post"];
    receive["responses"]["422"]["content"]["application/problem+json"]["examples"]["stock.gone"] = json!({});
    before["components"]["schemas"]["Quantity"]["maximum"] = json!(2_000_000_000);
    std::fs::write(&old, before.to_string()).unwrap();
    let (status, told) = schema(&check).await;
    assert_eq!(status, Some(4));
    for line in [
        "POST /v1/stock/{id}/steal is gone",
        "POST /v1/stock/{id}/receive 422 problem stock/gone is gone",
        "POST /v1/stock/{id}/receive body.quantity has the maximum 1000000000",
    ] {
        assert!(told.lines().any(|told| told == line), "{line}: {told}");
    }
    std::fs::write(&old, "nonsense").unwrap();
    assert_eq!(schema(&check).await, (Some(1), String::new()));
}

/// The document of this build, operation by operation: path, method, and the operation.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let each = |(path, methods): (&String, &Value)| {
        let methods = methods.as_object().unwrap().iter();
        methods.map(|(method, operation)| (path.clone(), method.clone(), operation.clone())).collect::<Vec<_>>()
    };
    paths.flat_map(each).collect()
}

/// What the document shows of a command is one: the shop takes it, whatever it then decides.
#[tokio::test]
async fn every_command_takes_its_example_and_every_problem_is_told() {
    let database = Database::create().await;
    let server = Server::start_with(&database, &["--roles", "write"]).await;
    let document: Value = serde_json::from_str(&committed()).unwrap();
    let known = document["components"]["examples"].as_object().unwrap();
    let (mut tried, mut refusals) = (0, std::collections::BTreeSet::new());
    for (path, method, operation) in operations(&document) {
        let answers = operation["responses"].as_object().unwrap();
        let told: Vec<&String> = answers
            .values()
            .filter_map(|answer| answer.pointer("/content/application~1problem+json/examples")?.as_object())
            .flat_map(|examples| examples.keys())
            .collect();
        // Whoever lacks the token or the scope is told by each.
        for kind in ["no-token", "invalid-token"] {
            assert!(told.iter().any(|told| *told == kind), "{method} {path} does not tell {kind}");
        }
        assert!(told.iter().all(|told| known.contains_key(*told)), "{method} {path}: {told:?}");
        let category = path.split('/').nth(2).unwrap();
        if method != "post" || path.ends_with("/explain") || path == "/v1/commands" {
            continue;
        }
        for kind in ["missing-scope", "key-reused", "precondition-failed", "busy", "log-unavailable", "body-too-large"]
        {
            assert!(told.iter().any(|told| *told == kind), "{path} does not tell {kind}");
        }
        refusals
            .extend(told.iter().filter(|told| told.starts_with(&format!("{category}."))).map(|told| told.to_string()));
        let scope = operation["security"][0]["token"][0].as_str().unwrap();
        assert!(scope.parse::<Scope>().is_ok(), "{path}: {scope}");
        let id =
            if ["product", "stock"].contains(&category) { "TEA-001".to_owned() } else { Uuid::now_v7().to_string() };
        let example = &operation["requestBody"]["content"]["application/json"]["example"];
        let request = server.command(&format!("{}/explain", path.replace("{id}", &id)), example);
        let (status, answer) = status_and_json(request.send().await.unwrap()).await;
        assert_eq!(status, 200, "{path} {example}: {answer}");
        // What the aggregate may say to it is told.
        if answer["outcome"] == "refused" {
            let kind = answer["problem"]["type"].as_str().unwrap().trim_start_matches("/problems/").replace('/', ".");
            assert!(told.iter().any(|told| **told == kind), "{path} does not tell {kind}");
        }
        tried += 1;
    }
    assert!(tried >= 40 && refusals.len() >= 30, "{tried} {}", refusals.len());
    assert_eq!(database.log_length().await, 0);
}

#[tokio::test]
async fn a_generated_client_places_an_order() {
    let Some(folder) = installed_in("openapi", "client").await else { return };
    let node = async |arguments: &[&str]| {
        let ran = Command::new("node").args(arguments).current_dir(&folder).output().await.unwrap();
        let said = [&ran.stdout[..], &ran.stderr].map(String::from_utf8_lossy).concat();
        assert!(ran.status.success(), "node {arguments:?}: {said}");
        String::from_utf8(ran.stdout).unwrap()
    };
    let document = root().join("write-side/openapi.json");
    let document = document.to_str().unwrap();
    let validated: Value = serde_json::from_str(&node(&["validate.mjs", document]).await).unwrap();
    assert_eq!(validated["wrong"], json!([]), "{validated:#}");
    let count = |what: &str| validated[what].as_u64().unwrap();
    assert!(
        count("bodies") > 80 && count("answers") > 100 && count("problems") > 1_000 && count("events") > 40,
        "{validated}"
    );

    node(&["generate.mjs", document]).await;
    let strict =
        ["--strict", "--noUnusedLocals", "--module", "nodenext", "--target", "es2022", "--skipLibCheck", "program.ts"];
    node(&[&["node_modules/typescript/bin/tsc"], &strict[..]].concat()).await;
    let database = Database::create().await;
    let server = Server::start_by_hand(&database).await;
    let order = Uuid::now_v7();
    let printed = node(&["program.js", &server.url, &token("generated", Scopes::ALL, None), &order.to_string()]).await;
    let expected = json!({
        "explained": "would-happen", "placed": ["OrderPlaced"], "again": true, "total": 840, "first": 840,
        "refused": "/problems/stock/no-reservation",
    });
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), expected);
    assert_eq!(database.number("select count(*) from log.events where type = 'OrderPlaced'").await, 1);
}
