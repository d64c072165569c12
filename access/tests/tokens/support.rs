//! What the tests work with: keys of every kind, and what a good token says.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use access::{Expected, Gate, Key, Keys, Signer};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// The customer of the tokens.
pub(crate) const CUSTOMER: &str = "0190f3c4-7a51-7bd4-9f2e-6d1c8a40b5e2";

pub(crate) fn expected() -> Expected {
    Expected { issuer: "https://issuer.example".into(), audience: "shop".into(), leeway: Duration::from_secs(30) }
}

/// The claims of a good token.
pub(crate) fn claims() -> Value {
    let now = now();
    json!({
        "iss": "https://issuer.example", "aud": "shop", "sub": "alice", "iat": now, "nbf": now, "exp": now + 600,
        "scope": "orders:place orders:read", "customer": CUSTOMER,
    })
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) fn ed25519() -> Signer {
    Signer::of(&Signer::new_pem().unwrap()).unwrap()
}

/// A private RSA key as PEM.
pub(crate) fn rsa_pem(size: KeySize) -> String {
    let pair = KeyPair::generate(size).unwrap();
    let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der.as_ref()))
}

/// A shared secret as a JSON Web Key.
pub(crate) fn secret_jwk(name: &str, secret: &[u8]) -> String {
    json!({ "kty": "oct", "kid": name, "k": URL_SAFE_NO_PAD.encode(secret) }).to_string()
}

pub(crate) fn gate(keys: Vec<Key>) -> Gate {
    Gate::new(Keys::new(keys, None).unwrap(), expected())
}
