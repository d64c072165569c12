//! Tokens as somebody meets them who runs a shop: the key that it makes, keys of one's own, and the page about them.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use access::{Role, Scope, Scopes};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use uuid::Uuid;

use crate::docs::page;
use crate::support::{Database, Server, client, status_and_json, token};

/// The settings of a server without a configured key.
const NO_KEY: [(&str, &str); 1] = [("STOREFOLD_TOKEN_KEY", "")];

/// What `storefold token` prints, without a configured key.
async fn own_token(database: &Database, server: &Server, arguments: &[&str]) -> String {
    let mut command = database.command(&["token"]);
    let output = command.envs(NO_KEY).args(arguments).arg("--data-dir").arg(server.data_dir()).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let token = printed.strip_suffix('\n').unwrap();
    assert!(!token.contains(char::is_whitespace) && token.split('.').count() == 3, "the token alone: {printed}");
    token.to_owned()
}

#[tokio::test]
async fn a_shop_without_a_key_makes_one_and_signs_with_it() {
    let database = Database::create().await;
    let mut server = Server::start_as(&database, &[], &NO_KEY).await;
    let key = server.data_dir().join("token.key");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    // The key of another shop is no good here, and neither is none.
    assert_eq!(server.get("/v1/stock/MUG-1").await.status(), 401);
    server.client = Client::new();
    let bare = server.get("/v1/stock/MUG-1").await;
    assert_eq!(bare.headers()["www-authenticate"], "Bearer realm=\"storefold\"");
    let (status, problem) = status_and_json(bare).await;
    assert_eq!((status, &problem["type"]), (401, &json!("/problems/no-token")));

    server.client = client(&own_token(&database, &server, &["--sub", "alice", "--role", "operator"]).await);
    server.done("/v1/stock/MUG-1/receive", json!({ "quantity": 10 })).await;
    let (_, history) = status_and_json(server.get("/v1/stock/MUG-1/events").await).await;
    assert_eq!(history["events"][0]["metadata"]["actor"], "alice");

    server.client = client(&own_token(&database, &server, &["--scope", "stock:read,orders:read"]).await);
    assert_eq!(server.get("/v1/stock/MUG-1").await.status(), 200);
    let refused = server.command("/v1/stock/MUG-1/receive", &json!({ "quantity": 1 })).send().await.unwrap();
    let (status, problem) = status_and_json(refused).await;
    assert_eq!((status, &problem["scope"]), (403, &json!("stock:write")), "{problem}");
    assert_eq!(database.log_length().await, 1);
}

/// Whoever starts a shop is told how to get in, in one line.
#[tokio::test]
async fn a_shop_says_what_it_wants_of_its_callers() {
    let database = Database::create().await;
    let data_dir = tempfile::tempdir().unwrap();
    let path = data_dir.path().join("token.key").canonicalize().unwrap_or(data_dir.path().join("token.key"));
    for (arguments, key, told) in [
        (&[][..], "", format!("storefold token --role operator  (signed with {})", path.display())),
        (&["--tokens", "none"], "", "none are needed".to_owned()),
        (
            &[],
            r#"{"kty":"oct","k":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}"#,
            "of storefold for storefold".to_owned(),
        ),
    ] {
        let mut command = database.command(&["serve", "--listen", "127.0.0.1:0", "--log", "warn"]);
        command.args(arguments).arg("--data-dir").arg(data_dir.path()).env("STOREFOLD_TOKEN_KEY", key);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = loop {
            let line = lines.next_line().await.unwrap().expect("the server did not say what tokens it wants");
            if let Some(line) = line.trim().strip_prefix("tokens ") {
                break line.trim().to_owned();
            }
        };
        assert!(line.contains(&told), "{line:?} does not say {told:?}");
        child.kill().await.unwrap();
    }
}

#[tokio::test]
async fn the_network_is_served_with_a_key_of_ones_own_alone() {
    let database = Database::create().await;
    for (arguments, told) in [
        (&["serve", "--listen", "0.0.0.0:0"][..], "token.key_file"),
        (&["serve", "--listen", "[::]:0", "--tokens", "none"], "tokens = \"none\""),
    ] {
        let refused = database.command(arguments).envs(NO_KEY).output().await.unwrap();
        let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && complaint.contains(told), "{arguments:?}: {complaint}");
    }
    // With one, it is; and by whichever name it is called.
    let data_dir = tempfile::tempdir().unwrap();
    let mut command = database.command(&["serve", "--listen", "0.0.0.0:0", "--log", "warn", "--data-dir"]);
    let mut child = command.arg(data_dir.path()).stdout(Stdio::piped()).spawn().unwrap();
    let first = BufReader::new(child.stdout.take().unwrap()).lines().next_line().await.unwrap().unwrap();
    let port = first.strip_prefix("Storefold listens on http://0.0.0.0:").unwrap();
    let send = client(&token("tests", Scopes::ALL, None)).post(format!("http://127.0.0.1:{port}/v1/stock/A/receive"));
    let sent = send.json(&json!({ "quantity": 1 })).header("Host", "shop.example").send().await.unwrap();
    assert_eq!(sent.status(), 201);
    child.kill().await.unwrap();
}

#[tokio::test]
async fn keys_of_ones_own_are_read_from_a_file_and_sign() {
    let database = Database::create().await;
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("shop.pem");
    std::fs::write(&pem, access::Signer::new_pem().unwrap()).unwrap();
    let file = pem.to_str().unwrap();
    let settings =
        [("STOREFOLD_TOKEN_KEY", ""), ("STOREFOLD_TOKEN_KEY_FILE", file), ("STOREFOLD_TOKEN_AUDIENCE", "shop")];
    let mut server = Server::start_as(&database, &[], &settings).await;
    assert!(!server.data_dir().join("token.key").exists(), "it needs no key of its own");
    let token = async |settings: &[(&str, &str)]| {
        let mut command = database.command(&["token", "--role", "staff"]);
        command.envs(settings.iter().copied()).output().await.unwrap()
    };
    let good = String::from_utf8(token(&settings).await.stdout).unwrap();
    server.client = client(good.trim());
    assert_eq!(server.get("/v1/stock/MUG-1").await.status(), 404, "nothing has happened to it");
    let elsewhere = String::from_utf8(token(&settings[..2]).await.stdout).unwrap();
    server.client = client(elsewhere.trim());
    let (status, problem) = status_and_json(server.get("/v1/stock/MUG-1").await).await;
    assert_eq!((status, &problem["detail"]), (401, &json!("the token is for another audience")));

    // What is no key, or only verifies, is told, and no secret with it.
    let public = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    for (settings, told) in [
        ([("STOREFOLD_TOKEN_KEY", public), ("STOREFOLD_TOKEN_KEY_FILE", "")], "signs no tokens"),
        ([("STOREFOLD_TOKEN_KEY", "hunter2"), ("STOREFOLD_TOKEN_KEY_FILE", "")], "neither PEM"),
        ([("STOREFOLD_TOKEN_KEY", ""), ("STOREFOLD_TOKEN_KEY_FILE", "/no/such/file")], "/no/such/file"),
        (
            [("STOREFOLD_TOKEN_KEY", ""), ("STOREFOLD_TOKEN_JWKS_URL", "https://login.example/keys")],
            "issuer makes the tokens",
        ),
    ] {
        let output = token(&settings).await;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && output.stdout.is_empty(), "{settings:?}");
        assert!(complaint.contains(told) && !complaint.contains("hunter2"), "{settings:?}: {complaint}");
    }
}

/// What comes over the wire and is no token: no answer is a fault of the server's, and it goes on.
#[tokio::test]
async fn what_is_no_token_harms_nobody() {
    let database = Database::create().await;
    let server = Server::start(&database).await;
    let good = token("alice", Scopes::ALL, None);
    let url = format!("{}/v1/stock/MUG-1", server.url);
    let ask = async |values: &[String]| {
        let mut request = Client::new().get(&url);
        for value in values {
            request = request.header("Authorization", value);
        }
        request.send().await.unwrap().status().as_u16()
    };
    for (values, expected) in [
        (vec![format!("Bearer {good}"), format!("Bearer {good}")], 400),
        // More than twice the limit: a head of less may be there with the last piece that is read.
        (vec![format!("Bearer {}", "A".repeat(200_000))], 431),
        (vec![format!("Bearer {good}{}", "A".repeat(20_000))], 401),
        (vec!["Bearer ".to_owned() + &"..".repeat(2_000)], 401),
        (vec!["Bearer eyJhbGciOiJub25lIn0.e30.".to_owned()], 401),
        (vec!["Negotiate YII=".to_owned()], 401),
        (vec![format!("Bearer {good}")], 404),
    ] {
        let shown: String = values.join(" | ").chars().take(60).collect();
        assert_eq!(ask(&values).await, expected, "{shown}");
    }
}

/// A customer deals with its own, over real sockets and with the whole shop behind it.
#[tokio::test]
async fn a_customer_orders_and_sees_what_is_its_own() {
    let database = Database::create().await;
    let mut server = Server::start_by_hand(&database).await;
    server.done("/v1/product/A/list", json!({ "name": "Tea", "price": { "minor": 420, "currency": "GBP" } })).await;
    let [alice, bob, order] = [(); 3].map(|()| Uuid::now_v7());
    let staff = server.client.clone();
    let cart = json!({
        "customer": alice, "country": "EIRE", "currency": "GBP", "card": "tok", "lines": [{ "sku": "A", "quantity": 2 }],
    });
    server.client = client(&token("alice", Role::Customer.scopes(), Some(alice)));
    server.done(&format!("/v1/order/{order}/place"), cart).await;
    let path = format!("/v1/order/{order}");
    let (status, seen) = status_and_json(server.get(&path).await).await;
    assert_eq!((status, &seen["state"]["total"]["minor"]), (200, &json!(840)), "{seen}");
    assert_eq!(server.get(&format!("{path}/events")).await.status(), 403);

    server.client = client(&token("bob", Role::Customer.scopes(), Some(bob)));
    let (status, hidden) = status_and_json(server.get(&path).await).await;
    assert_eq!((status, &hidden["type"]), (404, &json!("/problems/nothing-happened")));
    let cancel = server.command(&format!("{path}/cancel"), &json!({ "reason": "none of mine" })).send().await.unwrap();
    assert_eq!(cancel.status(), 404);
    server.client = staff;
    let (_, seen) = status_and_json(server.get(&path).await).await;
    assert_eq!(seen["state"]["status"], "placed");
}

/// The scopes that the page tells, with what they allow and which roles have them.
fn told_scopes(page: &str) -> Vec<String> {
    let section = page.split("\n## Scopes\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    section.lines().filter(|line| line.starts_with("| `")).map(ToOwned::to_owned).collect()
}

#[test]
fn the_page_tells_every_scope_as_it_is() {
    let row = |scope: &Scope| {
        let has = |role: Role| if role.scopes().contains(*scope) { " yes |" } else { " |" };
        let roles: String = Role::ALL.into_iter().map(has).collect();
        format!("| `{scope}` | {} |{roles}", scope.allows())
    };
    let page = page("tokens.md");
    assert_eq!(told_scopes(&page), Scope::ALL.iter().map(row).collect::<Vec<_>>());
    let role = |role: Role| format!("`{}`", role.name());
    assert!(Role::ALL.into_iter().all(|name| page.contains(&role(name))));
}

/// Every kind of problem that the page tells is one, with its status; and every one is told.
#[test]
fn the_page_tells_every_answer_as_it_is() {
    use access::{Fault, Refusal};

    let page = page("tokens.md");
    for refusal in [
        Refusal::NoToken,
        Refusal::SeveralTokens,
        Refusal::Invalid(Fault::Expired),
        Refusal::MissingScope { scope: Scope::OrdersRead },
        Refusal::NotForCustomers,
        Refusal::NotForOthers,
        Refusal::NoKeys,
    ] {
        let row = format!("| {} | `/problems/{}` |", refusal.status().as_u16(), refusal.kind());
        assert!(page.contains(&row), "{row}");
    }
}

/// The flags that the page tells are those of `storefold token`.
#[tokio::test]
async fn the_page_tells_the_flags_of_storefold_token() {
    let database = Database::create().await;
    let help = database.run_well(&["token", "--help"]).await;
    let page = page("tokens.md");
    let told: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `--")?.split(['`', ' ']).next()).collect();
    assert_eq!(told, ["sub", "role", "scope", "customer", "expires"]);
    for flag in told {
        assert!(help.contains(&format!("--{flag} <")), "{flag}: {help}");
    }
}

/// The document of the commands says of each which scope it needs.
#[tokio::test]
async fn the_document_tells_the_scope_of_every_operation() {
    let database = Database::create().await;
    let document: Value = serde_json::from_str(&database.run_well(&["schema", "openapi"]).await).unwrap();
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        if path == "/v1/commands" {
            // Each line needs the scope of its command.
            assert_eq!(methods["post"]["security"], json!([{ "token": [] }]));
            continue;
        }
        for operation in methods.as_object().unwrap().values() {
            let scope = operation["security"][0]["token"][0].as_str().unwrap_or_else(|| panic!("{path}"));
            assert!(scope.parse::<Scope>().is_ok() && operation["responses"]["403"].is_object(), "{path}: {scope}");
            operations += 1;
        }
    }
    assert!(operations >= 54, "{operations}");
}
