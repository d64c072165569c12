//! An issuer that publishes its keys, and changes them, over a real socket.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use access::{Fault, Gate, Issuer, Keys, Refusal, Signer, Timing};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::support::{claims, expected, secret_jwk};

/// What the issuer answers.
type Says = Arc<dyn Fn() -> Response + Send + Sync>;

/// An issuer on a port of its own.
struct Published {
    address: SocketAddr,
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicUsize>,
    serving: tokio::task::JoinHandle<()>,
}

impl Published {
    async fn start(keys: &[&Pair]) -> Self {
        let says: Arc<Mutex<Says>> = Arc::new(Mutex::new(set(keys)));
        let asked = Arc::new(AtomicUsize::new(0));
        let (answer, counted) = (says.clone(), asked.clone());
        let handler = async move || {
            counted.fetch_add(1, Ordering::SeqCst);
            let says = answer.lock().unwrap().clone();
            says()
        };
        let elsewhere = set(keys);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router =
            Router::new().route("/keys.json", get(handler)).route("/elsewhere", get(async move || elsewhere()));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, says, asked, serving }
    }

    fn now_says(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }

    fn gate(&self, timing: Timing) -> Gate {
        let issuer = Issuer::new(&format!("http://{}/keys.json", self.address), timing).unwrap();
        Gate::new(Keys::new(Vec::new(), Some(issuer)).unwrap(), expected())
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A key of the issuer, and how it publishes it.
struct Pair {
    signer: Signer,
    jwk: Value,
}

fn pair(name: &str) -> Pair {
    let seed = *uuid::Uuid::new_v4().as_bytes();
    let seed = [seed, seed].concat();
    let public = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap().public_key().as_ref().to_vec();
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": name, "x": URL_SAFE_NO_PAD.encode(public) });
    let mut private = jwk.clone();
    private["d"] = URL_SAFE_NO_PAD.encode(seed).into();
    Pair { signer: Signer::of(&private.to_string()).unwrap(), jwk }
}

fn token(pair: &Pair) -> String {
    let header = json!({ "alg": "EdDSA", "kid": pair.jwk["kid"] });
    pair.signer.sign(&header, &claims()).unwrap()
}

fn set(keys: &[&Pair]) -> Says {
    let set = json!({ "keys": keys.iter().map(|pair| pair.jwk.clone()).collect::<Vec<_>>() });
    body(set.to_string())
}

fn body(body: String) -> Says {
    Arc::new(move || ([(header::CONTENT_TYPE, "application/json")], body.clone()).into_response())
}

const NEVER: Duration = Duration::from_secs(3_600);

fn timing() -> Timing {
    Timing { refresh: NEVER, stale: NEVER, pause: Duration::ZERO, timeout: Duration::from_secs(5) }
}

/// Asks again and again until a token is answered so. That it comes at all is for the runner's time limit to see to.
async fn until(gate: &Gate, token: &str, wanted: Result<(), Refusal>) {
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    while gate.verify(token).await.map(drop) != wanted {
        looks.tick().await;
    }
}

#[tokio::test]
async fn a_new_key_is_fetched_when_a_token_names_it() {
    let (old, new) = (pair("old"), pair("new"));
    let issuer = Published::start(&[&old]).await;
    let gate = issuer.gate(timing());
    for _ in 0..10 {
        assert!(gate.verify(&token(&old)).await.is_ok());
    }
    assert_eq!(issuer.asked(), 1, "once is enough while the keys are known");
    assert_eq!(gate.verify(&token(&new)).await, Err(Refusal::Invalid(Fault::UnknownKey)));
    issuer.now_says(set(&[&old, &new]));
    assert!(gate.verify(&token(&new)).await.is_ok());
    assert!(gate.verify(&token(&old)).await.is_ok());
    assert_eq!(issuer.asked(), 3);
}

#[tokio::test]
async fn a_key_that_is_withdrawn_counts_no_more() {
    let (old, new) = (pair("old"), pair("new"));
    let issuer = Published::start(&[&old]).await;
    let gate = issuer.gate(Timing { refresh: Duration::ZERO, ..timing() });
    let remembered = token(&old);
    until(&gate, &remembered, Ok(())).await;
    issuer.now_says(set(&[&new]));
    until(&gate, &remembered, Err(Refusal::Invalid(Fault::UnknownKey))).await;
    assert!(gate.verify(&token(&new)).await.is_ok());
    // Another key under the same name is another key.
    let other = pair("new");
    let remembered = token(&new);
    issuer.now_says(set(&[&other]));
    until(&gate, &remembered, Err(Refusal::Invalid(Fault::Signature))).await;
    // No keys at all withdraw all.
    issuer.now_says(set(&[]));
    until(&gate, &token(&other), Err(Refusal::Invalid(Fault::UnknownKey))).await;
}

#[tokio::test]
async fn tokens_with_unknown_keys_do_not_drive_the_issuer() {
    let (known, unknown) = (pair("known"), pair("unknown"));
    let issuer = Published::start(&[&known]).await;
    let gate = issuer.gate(Timing { pause: NEVER, ..timing() });
    let storm = (0..200).map(|_| {
        let (gate, token) = (gate.clone(), token(&unknown));
        tokio::spawn(async move { gate.verify(&token).await })
    });
    for refused in storm.collect::<Vec<_>>() {
        assert_eq!(refused.await.unwrap(), Err(Refusal::Invalid(Fault::UnknownKey)));
    }
    assert!(gate.verify(&token(&known)).await.is_ok());
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn an_issuer_that_fails_is_lived_with_for_a_while() {
    let key = pair("key");
    let issuer = Published::start(&[&key]).await;
    let gate = issuer.gate(Timing { refresh: Duration::ZERO, ..timing() });
    let one = token(&key);
    until(&gate, &one, Ok(())).await;
    for says in [
        Arc::new(|| StatusCode::INTERNAL_SERVER_ERROR.into_response()) as Says,
        Arc::new(|| (StatusCode::FOUND, [(header::LOCATION, "/elsewhere")]).into_response()),
        body("<!doctype html>".into()),
        body("{\"keys\": 7}".into()),
        body(format!("{{\"keys\": [], \"padding\": \"{}\"}}", "x".repeat(300_000))),
        body(json!({ "keys": (0..65).map(|n| { let mut jwk = key.jwk.clone(); jwk["kid"] = n.to_string().into(); jwk }).collect::<Vec<_>>() }).to_string()),
    ] {
        issuer.now_says(says);
        let before = issuer.asked();
        while issuer.asked() < before + 2 {
            assert!(gate.verify(&one).await.is_ok());
            tokio::task::yield_now().await;
        }
    }
    issuer.serving.abort();
    assert!(gate.verify(&one).await.is_ok());
    // For a while, and no longer.
    let impatient = issuer.gate(Timing { stale: Duration::ZERO, ..timing() });
    assert_eq!(impatient.verify(&one).await, Err(Refusal::NoKeys));
}

#[tokio::test]
async fn what_is_known_of_an_issuer_that_is_gone_becomes_too_old() {
    let key = pair("key");
    let issuer = Published::start(&[&key]).await;
    let gate = issuer.gate(Timing { refresh: Duration::from_millis(1), stale: Duration::from_millis(300), ..timing() });
    let one = token(&key);
    until(&gate, &one, Ok(())).await;
    issuer.serving.abort();
    issuer.now_says(Arc::new(|| StatusCode::INTERNAL_SERVER_ERROR.into_response()));
    until(&gate, &one, Err(Refusal::NoKeys)).await;
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_is_given_up() {
    // It takes connections and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys.json", listener.local_addr().unwrap());
    let issuer = Issuer::new(&url, Timing { timeout: Duration::from_millis(100), ..timing() }).unwrap();
    let gate = Gate::new(Keys::new(Vec::new(), Some(issuer)).unwrap(), expected());
    assert_eq!(gate.verify(&token(&pair("key"))).await, Err(Refusal::NoKeys));
    drop(listener);
}

#[tokio::test]
async fn a_published_set_has_what_can_be_used_of_it() {
    let (key, nameless) = (pair("key"), pair("nameless"));
    let secret = secret_jwk("secret", &[7; 32]);
    let issuer = Published::start(&[]).await;
    let mut bare = nameless.jwk.clone();
    bare.as_object_mut().unwrap().remove("kid");
    let shared: Value = serde_json::from_str(&secret).unwrap();
    let set = json!({ "keys": [
        shared, bare, "nonsense", { "kty": "EC", "kid": "ec", "crv": "P-256", "x": "AA", "y": "AA" }, key.jwk,
    ] });
    issuer.now_says(body(set.to_string()));
    let gate = issuer.gate(timing());
    assert!(gate.verify(&token(&key)).await.is_ok());
    // Whoever can read a set knows the secrets in it.
    let forged = Signer::of(&secret).unwrap().sign(&json!({ "alg": "HS256", "kid": "secret" }), &claims()).unwrap();
    assert_eq!(gate.verify(&forged).await, Err(Refusal::Invalid(Fault::UnknownKey)));
    assert_eq!(gate.verify(&token(&nameless)).await, Err(Refusal::Invalid(Fault::UnknownKey)));
}

#[test]
fn keys_are_fetched_over_tls_or_from_this_machine() {
    for url in ["https://issuer.example/keys.json", "http://127.0.0.1:8081/keys", "http://localhost/keys"] {
        assert!(Issuer::new(url, timing()).is_ok(), "{url}");
    }
    for url in [
        "http://issuer.example/keys",
        "ftp://issuer.example",
        "file:///etc/keys",
        "keys.json",
        "",
        "https://a:hunter2@b/",
    ] {
        let error = Issuer::new(url, timing()).unwrap_err().to_string();
        assert!(error.contains("https://") && !error.contains("hunter2"), "{error}");
    }
}

/// An issuer that takes longer than its clients wait is asked once, and its keys are known then.
#[tokio::test]
async fn who_hangs_up_does_not_break_off_the_fetching() {
    let key = pair("key");
    let (asked, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys.json", listener.local_addr().unwrap());
    let (counted, went) = (asked.clone(), go.clone());
    let keys = json!({ "keys": [key.jwk.clone()] }).to_string();
    let answer = async move || {
        counted.fetch_add(1, Ordering::SeqCst);
        went.notified().await;
        keys.clone()
    };
    tokio::spawn(axum::serve(listener, Router::new().route("/keys.json", get(answer))).into_future());
    let issuer = Issuer::new(&url, Timing { pause: NEVER, ..timing() }).unwrap();
    let gate = Gate::new(Keys::new(Vec::new(), Some(issuer)).unwrap(), expected());
    for _ in 0..5 {
        let _ = tokio::time::timeout(Duration::from_millis(50), gate.verify(&token(&key))).await;
    }
    go.notify_one();
    assert_eq!(gate.verify(&token(&key)).await.map(drop), Ok(()));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_key_without_a_name_takes_no_token_of_a_key_with_one() {
    let (nameless, own) = (pair("nameless"), pair("own"));
    let issuer = Published::start(&[]).await;
    let mut bare = nameless.jwk.clone();
    bare.as_object_mut().unwrap().remove("kid");
    issuer.now_says(body(json!({ "keys": [bare] }).to_string()));
    let source = Issuer::new(&format!("http://{}/keys.json", issuer.address), timing()).unwrap();
    let gate = Gate::new(Keys::new(vec![own.signer.verifier().unwrap()], Some(source)).unwrap(), expected());
    for key in [&own, &nameless] {
        assert_eq!(gate.verify(&token(key)).await.map(drop), Ok(()));
    }
}
