//! R13: the document of the commands says what is so. Schemathesis, from PyPI, makes requests of it that keep to the document and
//! requests that do not, and holds the answers against it.

use std::fs;
use std::path::PathBuf;

use access::Scopes;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{Database, Server, soak, status_and_json, storefold, token};

/// How many requests are made of an operation, in each of its phases.
const EXAMPLES: usize = 50;
/// The release that the expectations below were written for.
const RELEASE: &str = "schemathesis==4.32.5";

/// Checks that cannot hold here, each with the reason.
const EXCLUDED: [&str; 2] = [
    // It takes a 404 of another aggregate's history for a resource that was lost: nothing is ever created under an id that the
    // server names, and nothing is deleted.
    "ensure_resource_availability",
    // To JSON Schema 125.0 is an integer, and a pattern knows no control characters of Unicode. Money is no floating point
    // number here, and a text is one line: both are refused with 400.
    "positive_data_acceptance",
];

/// The command line of schemathesis, installed once into the folder of what was built. `None` where it cannot be.
async fn install() -> Option<PathBuf> {
    let target = storefold().ancestors().nth(2).unwrap().join("tmp");
    let (folder, done) = (target.join("schemathesis"), target.join("schemathesis/installed"));
    let python = folder.join("bin/python");
    if fs::read_to_string(&done).is_ok_and(|release| release == RELEASE) {
        return Some(python);
    }
    fs::create_dir_all(&target).unwrap();
    // What is half there from an attempt before is made anew.
    let mut venv = Command::new("python3");
    let made = venv.args(["-m", "venv", "--clear"]).arg(&folder).output().await;
    if !made.as_ref().is_ok_and(|made| made.status.success()) {
        return skipped(&format!("python3 cannot make a venv: {made:?}"));
    }
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", RELEASE]);
    let installed = pip.output().await;
    if !installed.as_ref().is_ok_and(|installed| installed.status.success()) {
        return skipped(&format!("pip cannot install schemathesis: {installed:?}"));
    }
    fs::write(done, RELEASE).unwrap();
    Some(python)
}

#[expect(clippy::print_stderr, reason = "who runs the tests has to know what was not tested")]
fn skipped<T>(why: &str) -> Option<T> {
    eprintln!("skipped: {why}");
    None
}

/// The document without histories that are followed: a stream that goes on is for tests of its own.
fn told_of_what_ends(mut document: Value) -> Value {
    for path in document["paths"].as_object_mut().unwrap().values_mut() {
        let Some(parameters) = path.pointer_mut("/get/parameters").and_then(Value::as_array_mut) else { continue };
        parameters.retain(|parameter| {
            parameter["name"] != "follow" && parameter["$ref"] != "#/components/parameters/LastEventId"
        });
        let content = path.pointer_mut("/get/responses/200/content").and_then(Value::as_object_mut);
        content.and_then(|content| content.remove("text/event-stream"));
    }
    document
}

/// No 5xx, no answer that the document does not know, none over a second.
#[expect(clippy::print_stdout, reason = "how much was done is worth knowing")]
#[tokio::test]
async fn requests_in_bulk_are_answered_as_the_document_says() {
    let Some(python) = install().await else { return };
    let database = Database::create().await;
    let server = Server::start_by_hand(&database).await;
    // Something that requests may be about, by ids that they may come to.
    server.done("/v1/product/A/list", json!({ "name": "Tea", "price": { "minor": 420, "currency": "GBP" } })).await;
    server.done("/v1/stock/A/receive", json!({ "quantity": 100 })).await;

    let folder = tempfile::tempdir().unwrap();
    let mut run = Command::new(python);
    run.args(["-m", "schemathesis.cli", "run"]);
    let document = folder.path().join("openapi.json");
    fs::write(&document, told_of_what_ends(status_and_json(server.get("/openapi.json").await).await.1).to_string())
        .unwrap();
    run.arg(&document).args(["--url", &server.url, "--no-color", "--generation-database", "none"]);
    run.arg("--header").arg(format!("Authorization: Bearer {}", token("schemathesis", Scopes::ALL, None)));
    run.args(["--max-examples", &(EXAMPLES * soak::times()).to_string(), "--seed", &soak::seed().to_string()]);
    run.args(["--checks", "all", "--exclude-checks", &EXCLUDED.join(","), "--max-response-time", "1"]);
    // Lines of JSON are none of its formats; tests of their own send them.
    run.args(["--exclude-path", "/v1/commands"]);
    run.args(["--phases", "examples,coverage,fuzzing", "--continue-on-failure"]);
    // How long the machine takes to make up a request is not what is tested.
    run.args(["--suppress-health-check", "all"]).current_dir(folder.path()).kill_on_drop(true);
    let output = run.output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}\n{complaint}");
    let summary: Vec<&str> = told.lines().rev().take(25).collect();
    println!("{}", summary.into_iter().rev().collect::<Vec<_>>().join("\n"));
    assert_eq!(server.get("/readyz").await.status(), 200);
}
