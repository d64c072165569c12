//! Tokens that must not be accepted, and the few that must.

use access::{Caller, Fault, Gate, Key, LONGEST_TOKEN, Refusal, Scope, Signer, guard};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::support::{CUSTOMER, claims, ed25519, expected, gate, now, rsa_pem, secret_jwk};

/// The status of a request with these headers `Authorization`, its `WWW-Authenticate`, and what it says.
async fn ask(gate: &Gate, authorization: &[Vec<u8>]) -> (StatusCode, String, String) {
    let router = guard(Router::new().route("/", get(async |caller: Caller| format!("{:?}", caller.subject))), gate);
    let mut request = Request::get("/").body(Body::empty()).unwrap();
    for value in authorization {
        request.headers_mut().append(header::AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
    }
    let response = router.oneshot(request).await.unwrap();
    let challenge = response.headers().get(header::WWW_AUTHENTICATE);
    let challenge = challenge.map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, challenge, String::from_utf8(body.to_vec()).unwrap())
}

fn bearer(token: &str) -> Vec<u8> {
    format!("Bearer {token}").into_bytes()
}

/// The good claims with some of them changed; `null` takes one away.
fn but(change: Value) -> Value {
    let mut claims = claims();
    for (claim, value) in change.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(claim);
        } else {
            claims[claim] = value.clone();
        }
    }
    claims
}

fn header_of(key: &Signer) -> Value {
    let algorithm = key.verifier().map(|key| format!("{key:?}")).unwrap();
    let algorithm = [("EdDsa", "EdDSA"), ("Rs256", "RS256"), ("Hs256", "HS256")]
        .into_iter()
        .find(|(name, _)| algorithm.contains(name))
        .unwrap();
    json!({ "typ": "JWT", "alg": algorithm.1 })
}

/// Three keys, one of each algorithm, and the gate that knows them.
struct Shop {
    ed: Signer,
    rsa: Signer,
    secret: Signer,
    gate: Gate,
}

fn shop() -> Shop {
    let rsa = Signer::of(&rsa_pem(KeySize::Rsa2048)).unwrap().named("rsa");
    let (ed, secret) = (ed25519().named("ed"), Signer::of(&secret_jwk("secret", &[7; 32])).unwrap());
    let gate = gate([&ed, &rsa, &secret].map(|key| key.verifier().unwrap()).to_vec());
    Shop { ed, rsa, secret, gate }
}

#[tokio::test]
async fn a_good_token_of_each_algorithm_is_accepted() {
    let shop = shop();
    for (key, name) in [(&shop.ed, "ed"), (&shop.rsa, "rsa"), (&shop.secret, "secret")] {
        let mut header = header_of(key);
        header["kid"] = name.into();
        let token = key.sign(&header, &claims()).unwrap();
        let caller = shop.gate.verify(&token).await.unwrap();
        assert_eq!(caller.subject.as_deref(), Some("alice"));
        assert_eq!(caller.scopes.to_string(), "orders:read orders:place");
        assert_eq!(caller.customer.map(|customer| customer.to_string()).as_deref(), Some(CUSTOMER));
        assert!(caller.demand(Scope::OrdersPlace).is_ok() && caller.demand(Scope::OrdersQuote).is_err());
        // A second time it is remembered, and says the same.
        assert_eq!(shop.gate.verify(&token).await, Ok(caller));
        for scheme in ["Bearer ", "bearer ", "BEARER  "] {
            assert_eq!(ask(&shop.gate, &[format!("{scheme}{token}").into_bytes()]).await.0, StatusCode::OK, "{scheme}");
        }
    }
}

#[tokio::test]
async fn what_a_good_token_may_say_differently_is_accepted_too() {
    let key = ed25519();
    let gate = gate(vec![key.verifier().unwrap()]);
    let header = header_of(&key);
    for change in [
        json!({ "aud": ["mail", "shop"] }),
        json!({ "exp": now() - 20 }),
        json!({ "nbf": now() + 20 }),
        json!({ "customer": null }),
        json!({ "scope": null }),
        json!({ "customer": CUSTOMER.to_uppercase() }),
        json!({ "roles": [1, { "a": null }] }),
    ] {
        let verified = gate.verify(&key.sign(&header, &but(change.clone())).unwrap()).await;
        assert!(verified.is_ok(), "{change}: {verified:?}");
    }
    // A key without a name takes any, and these members of a header are not heeded.
    let elsewhere = "https://evil.example/keys.json";
    for more in [
        json!({ "kid": "whatever" }),
        json!({ "typ": null }),
        json!({ "typ": "at+jwt" }),
        json!({ "jku": elsewhere, "x5u": elsewhere }),
        json!({ "x5c": ["MIIB"], "x5t": "abc" }),
    ] {
        let mut header = header.clone();
        for (name, value) in more.as_object().unwrap() {
            header[name] = value.clone();
        }
        let verified = gate.verify(&key.sign(&header, &claims()).unwrap()).await;
        assert!(verified.is_ok(), "{more}: {verified:?}");
    }
}

#[tokio::test]
async fn what_a_token_must_say_is_held_against_it() {
    let key = ed25519();
    let gate = gate(vec![key.verifier().unwrap()]);
    let mut cases = vec![
        (json!({ "exp": now() - 31 }), Fault::Expired),
        (json!({ "exp": 0 }), Fault::Expired),
        (json!({ "nbf": now() + 60 }), Fault::NotYetValid),
        (json!({ "nbf": u64::MAX }), Fault::NotYetValid),
        (json!({ "iss": "https://issuer.example/" }), Fault::Issuer),
        (json!({ "aud": "shopping" }), Fault::Audience),
        (json!({ "aud": ["mail", "shops"] }), Fault::Audience),
        (json!({ "aud": [] }), Fault::Audience),
        (json!({ "sub": "" }), Fault::Claim("sub")),
        (json!({ "sub": "a\nb" }), Fault::Claim("sub")),
        (json!({ "sub": "x".repeat(256) }), Fault::Claim("sub")),
        (json!({ "iss": ["https://issuer.example"] }), Fault::Claim("iss")),
        (json!({ "aud": ["shop", 1] }), Fault::Claim("aud")),
        (json!({ "exp": (now() + 600).to_string() }), Fault::Claim("exp")),
        (json!({ "exp": now() as f64 + 600.5 }), Fault::Claim("exp")),
        (json!({ "exp": -1 }), Fault::Claim("exp")),
        (json!({ "exp": 1e300 }), Fault::Claim("exp")),
        (json!({ "nbf": [now()] }), Fault::Malformed),
        (json!({ "nbf": true }), Fault::Claim("nbf")),
        (json!({ "sub": 7 }), Fault::Claim("sub")),
        (json!({ "scope": ["orders:read"] }), Fault::Claim("scope")),
        (json!({ "scope": 7 }), Fault::Claim("scope")),
        (json!({ "customer": "" }), Fault::Claim("customer")),
        (json!({ "customer": 7 }), Fault::Claim("customer")),
        (json!({ "customer": [CUSTOMER] }), Fault::Claim("customer")),
        (json!({ "customer": format!("{{{CUSTOMER}}}") }), Fault::Claim("customer")),
    ];
    for claim in ["exp", "nbf", "iss", "aud", "sub"] {
        cases.push((json!({ claim: null }), Fault::Claim(claim)));
    }
    for (change, fault) in cases {
        let token = key.sign(&header_of(&key), &but(change.clone())).unwrap();
        assert_eq!(gate.verify(&token).await, Err(Refusal::Invalid(fault)), "{change}");
        let (status, challenge, body) = ask(&gate, &[bearer(&token)]).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{change}");
        assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["type"], "/problems/invalid-token", "{problem}");
    }
    // Null is there, and none of these types.
    for claim in ["exp", "nbf", "iss", "aud", "sub", "scope", "customer"] {
        let mut claims = claims();
        claims[claim] = Value::Null;
        let verified = gate.verify(&key.sign(&header_of(&key), &claims).unwrap()).await;
        assert_eq!(verified, Err(Refusal::Invalid(Fault::Claim(claim))), "{claim}");
    }
}

#[tokio::test]
async fn what_a_token_says_of_its_key_is_not_believed() {
    let shop = shop();
    let stranger = ed25519();
    let public_pem = {
        let pem = Signer::new_pem().unwrap();
        let der = STANDARD.decode(pem.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(&der).unwrap();
        (Signer::of(&pem).unwrap().named("ed"), pair.public_key().as_ref().to_vec())
    };
    let (own, public) = public_pem;
    let of_one = gate(vec![own.verifier().unwrap()]);
    let header = |algorithm: &str, name: Value| json!({ "typ": "JWT", "alg": algorithm, "kid": name });
    // The public key as a shared secret, in the forms in which somebody may have it.
    for secret in [public.clone(), URL_SAFE_NO_PAD.encode(&public).into_bytes(), STANDARD.encode(&public).into_bytes()]
    {
        let forged = Signer::of(&secret_jwk("ed", &secret)).unwrap();
        for algorithm in ["HS256", "EdDSA"] {
            let token = forged.sign(&header(algorithm, json!("ed")), &claims()).unwrap();
            assert!(of_one.verify(&token).await.is_err(), "{algorithm}");
        }
    }
    // The key that a token brings along.
    let brought = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": URL_SAFE_NO_PAD.encode(&public) });
    let mut with_key = header("EdDSA", json!("ed"));
    with_key["jwk"] = brought;
    assert_eq!(
        shop.gate.verify(&own.sign(&with_key, &claims()).unwrap()).await,
        Err(Refusal::Invalid(Fault::Signature))
    );

    let huge = "k".repeat(5_000);
    for (key, header, fault) in [
        (&stranger, header("EdDSA", json!("ed")), Fault::Signature),
        (&shop.ed, header("EdDSA", json!("rsa")), Fault::Algorithm),
        (&shop.ed, header("RS256", json!("rsa")), Fault::Signature),
        (&shop.secret, header("HS256", json!("rsa")), Fault::Algorithm),
        (&shop.secret, header("HS256", json!("ed")), Fault::Algorithm),
        (&shop.secret, header("HS384", json!("secret")), Fault::Algorithm),
        (&shop.rsa, header("PS256", json!("rsa")), Fault::Algorithm),
        (&shop.rsa, header("RS512", json!("rsa")), Fault::Algorithm),
        (&shop.ed, header("none", json!("ed")), Fault::Algorithm),
        (&shop.ed, header("None", json!("ed")), Fault::Algorithm),
        (&shop.ed, header("eddsa", json!("ed")), Fault::Algorithm),
        (&shop.ed, header("", json!("ed")), Fault::Algorithm),
        (&shop.ed, header("EdDSA", json!("other")), Fault::UnknownKey),
        (&shop.ed, header("EdDSA", json!("")), Fault::UnknownKey),
        (&shop.ed, header("EdDSA", json!("ED")), Fault::UnknownKey),
        (&shop.ed, header("EdDSA", json!("../../../dev/null")), Fault::UnknownKey),
        (&shop.ed, header("EdDSA", json!("ed' or '1'='1")), Fault::UnknownKey),
        (&shop.ed, header("EdDSA", json!("ed\u{0}")), Fault::UnknownKey),
        (&shop.ed, header("EdDSA", json!(huge)), Fault::UnknownKey),
        (&shop.ed, header("EdDSA", Value::Null), Fault::UnknownKey),
        (&shop.ed, header_of(&shop.ed), Fault::UnknownKey),
        (&shop.ed, header("EdDSA", json!(7)), Fault::Malformed),
        (&shop.ed, header("EdDSA", json!(["ed"])), Fault::Malformed),
        (&shop.ed, json!({ "alg": ["EdDSA"], "kid": "ed" }), Fault::Malformed),
        (&shop.ed, json!({ "typ": "JWT", "kid": "ed" }), Fault::Malformed),
        (&shop.ed, json!({ "alg": null, "kid": "ed" }), Fault::Malformed),
        (&shop.ed, json!([]), Fault::Malformed),
        (&shop.ed, json!({ "alg": "EdDSA", "kid": "ed", "typ": "JWE" }), Fault::Header),
        (&shop.ed, json!({ "alg": "EdDSA", "kid": "ed", "crit": ["b64"], "b64": false }), Fault::Header),
        (&shop.ed, json!({ "alg": "EdDSA", "kid": "ed", "crit": null }), Fault::Header),
    ] {
        let token = key.sign(&header, &claims()).unwrap();
        assert_eq!(shop.gate.verify(&token).await, Err(Refusal::Invalid(fault)), "{header}");
        assert_eq!(ask(&shop.gate, &[bearer(&token)]).await.0, StatusCode::UNAUTHORIZED, "{header}");
    }
}

#[tokio::test]
async fn what_is_no_token_is_refused_whatever_it_is() {
    let key = ed25519();
    let gate = gate(vec![key.verifier().unwrap()]);
    let good = key.sign(&header_of(&key), &claims()).unwrap();
    let parts: Vec<&str> = good.split('.').collect();
    let unsigned = URL_SAFE_NO_PAD.encode(json!({ "alg": "none" }).to_string());
    let deep = URL_SAFE_NO_PAD.encode(format!("{}1{}", "[".repeat(2_000), "]".repeat(2_000)));
    let mut bad = vec![
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        "a.b.c".into(),
        "null.null.null".into(),
        parts[0].into(),
        format!("{}.{}", parts[0], parts[1]),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.{}", parts[2]),
        format!("{good}="),
        format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
        format!("{}.{}", unsigned, parts[1]),
        format!("{}.{}.", unsigned, parts[1]),
        format!("{}.{}.{}", unsigned, parts[1], parts[2]),
        format!("{}.{}.{}", parts[0], deep, parts[2]),
        format!("{}.{}.{}", deep, parts[1], parts[2]),
        format!("{}.{}.{}", parts[1], parts[0], parts[2]),
        format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims().to_string() + " "), parts[2]),
        format!("{}.{}.{}", parts[0], parts[1], STANDARD.encode([0xff; 64])),
        format!("{}.{}.{}", parts[0], parts[1], URL_SAFE_NO_PAD.encode([0; 64])),
        good.replace('.', ","),
        good.replace('.', " "),
        "x".repeat(LONGEST_TOKEN + 1),
        format!("{good}{}", "A".repeat(300_000)),
        format!("{}.{}.{}", parts[0], "A".repeat(8_000), parts[2]),
    ];
    // Every way to break it off, and one wrong bit in every place.
    bad.extend((0..good.len()).map(|length| good[..length].to_owned()));
    bad.extend((0..good.len()).map(|at| {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'Q' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    }));
    assert!(gate.verify(&good).await.is_ok());
    for token in bad {
        let shown: String = token.chars().take(60).collect();
        assert!(gate.verify(&token).await.is_err(), "{shown}");
        let (status, _, body) = ask(&gate, &[bearer(&token)]).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{shown}: {body}");
    }
}

#[tokio::test]
async fn a_header_that_is_none_is_refused() {
    let key = ed25519();
    let gate = gate(vec![key.verifier().unwrap()]);
    let good = key.sign(&header_of(&key), &claims()).unwrap();
    for (headers, status, error) in [
        (vec![], 401, ""),
        (vec![b"".to_vec()], 401, ""),
        (vec![b"Bearer".to_vec()], 401, ""),
        (vec![b"Basic YTpi".to_vec()], 401, ""),
        (vec![good.clone().into_bytes()], 401, ""),
        (vec![format!("Token {good}").into_bytes()], 401, ""),
        (vec![format!("Bearer\t{good}").into_bytes()], 401, ""),
        (vec![format!("Bearer {good}, Bearer {good}").into_bytes()], 401, "invalid_token"),
        (vec![b"Bearer \xff\xfe".to_vec()], 401, "invalid_token"),
        (vec![bearer(&good), bearer(&good)], 400, "invalid_request"),
        (vec![bearer(&good), b"Basic YTpi".to_vec()], 400, "invalid_request"),
    ] {
        let (came, challenge, body) = ask(&gate, &headers).await;
        assert_eq!(came.as_u16(), status, "{headers:?}: {body}");
        assert!(challenge.starts_with("Bearer realm=\"storefold\""), "{challenge}");
        assert!(if error.is_empty() { !challenge.contains("error") } else { challenge.contains(error) }, "{challenge}");
    }
    // Where none is demanded, none is looked at.
    let (status, _, body) = ask(&Gate::open(), &[b"Bearer nonsense".to_vec()]).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "None"));
}

/// A token is remembered once it was verified. It does not outlive its time for that.
#[tokio::test]
async fn a_token_that_is_remembered_expires_all_the_same() {
    let key = ed25519();
    let mut strict = expected();
    strict.leeway = std::time::Duration::ZERO;
    let gate = Gate::new(access::Keys::new(vec![key.verifier().unwrap()], None).unwrap(), strict);
    let token = key.sign(&header_of(&key), &but(json!({ "exp": now() + 2 }))).unwrap();
    assert!(gate.verify(&token).await.is_ok());
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(20));
    while gate.verify(&token).await.is_ok() {
        looks.tick().await;
    }
    assert_eq!(gate.verify(&token).await, Err(Refusal::Invalid(Fault::Expired)));
}

#[test]
fn keys_that_are_none_are_told() {
    let jwk = |value: Value| value.to_string();
    let short = URL_SAFE_NO_PAD.encode([1; 31]);
    let public = |n: usize| jwk(json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode(vec![0xff; n]), "e": "AQAB" }));
    for (text, told) in [
        (String::new(), "neither PEM"),
        ("hunter2".into(), "neither PEM"),
        ("-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n".into(), "PEM of an Ed25519"),
        ("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".into(), "PEM of an Ed25519"),
        ("{".into(), "JSON Web Key"),
        ("{}".into(), "kty"),
        (jwk(json!({ "keys": {} })), "JSON Web Key"),
        (jwk(json!({ "keys": [{}] })), "kty"),
        (jwk(json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" })), "key type"),
        (jwk(json!({ "kty": "OKP", "crv": "X25519", "x": "AA" })), "key type"),
        (jwk(json!({ "kty": "OKP", "crv": "Ed25519", "x": "AA" })), "\"x\""),
        (jwk(json!({ "kty": "OKP", "crv": "Ed25519" })), "\"x\""),
        (jwk(json!({ "kty": "RSA", "alg": "RS512", "n": "AA", "e": "AQAB" })), "key type"),
        (jwk(json!({ "kty": "RSA", "use": "enc", "n": "AA", "e": "AQAB" })), "key type"),
        (jwk(json!({ "kty": "RSA", "n": "AA", "e": "AQAB" })), "2048"),
        (public(128), "1024 bits"),
        (jwk(json!({ "kty": "oct", "k": short })), "31 bytes"),
        (jwk(json!({ "kty": "oct", "k": "=" })), "\"k\""),
        (jwk(json!({ "kty": "oct", "kid": "", "k": URL_SAFE_NO_PAD.encode([1; 32]) })), "\"kid\""),
    ] {
        let error = Key::all_of(&text).err().unwrap_or_else(|| panic!("{text} is a key")).to_string();
        assert!(error.contains(told), "{text}: {error}");
        assert!(!error.contains(&short), "{error}");
    }
    assert!(Key::all_of(&public(256)).is_ok());
    let (named, nameless) = (|name: &str| ed25519().named(name).verifier().unwrap(), ed25519().verifier().unwrap());
    for keys in [vec![], vec![named("a"), nameless.clone()], vec![named("a"), named("b"), named("a")]] {
        assert!(access::Keys::new(keys, None).is_err());
    }
    assert!(access::Keys::new(vec![named("a"), named("b")], None).is_ok());
    // A key is not printed.
    let printed = format!("{:?}", Key::all_of(&secret_jwk("s", &[7; 32])).unwrap());
    assert!(printed.contains("Hs256") && !printed.contains("[7") && !printed.contains("BwcH"), "{printed}");
}

/// Keys as OpenSSL writes them.
#[tokio::test]
async fn the_keys_of_openssl_are_read() {
    let folder = std::env::temp_dir();
    let openssl = |arguments: &[&str]| {
        let output = std::process::Command::new("openssl").args(arguments).current_dir(&folder).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    for algorithm in [&["ed25519"][..], &["rsa", "-pkeyopt", "rsa_keygen_bits:2048"]] {
        let private = openssl(&[&["genpkey", "-algorithm"], algorithm].concat());
        let path = folder.join(format!("storefold-{}.pem", uuid::Uuid::now_v7()));
        std::fs::write(&path, &private).unwrap();
        let public = openssl(&["pkey", "-pubout", "-in", path.to_str().unwrap()]);
        std::fs::remove_file(path).unwrap();
        let key = Signer::of(&private).unwrap();
        let token = key.sign(&header_of(&key), &claims()).unwrap();
        for text in [&private, &public] {
            let gate = gate(Key::all_of(text).unwrap());
            assert!(gate.verify(&token).await.is_ok(), "{algorithm:?}");
        }
        assert!(matches!(Signer::of(&public), Err(access::SignError::Public)));
    }
}
