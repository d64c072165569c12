//! Making tokens: for development, and for shops that have no issuer of their own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::caller::CustomerId;
use crate::key::{Algorithm, Form, Key, KeyError, PrivateKey, form, private_key};
use crate::scope::Scopes;

/// What a token says.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// Who made it.
    pub issuer: String,
    /// For whom it is.
    pub audience: String,
    /// Who has it.
    pub subject: String,
    /// What that one may do.
    pub scopes: Scopes,
    /// The customer that it is.
    pub customer: Option<CustomerId>,
    /// How long it holds from now on.
    pub lifetime: Duration,
}

impl Grant {
    /// The claims of the token, where it is made now.
    pub fn claims(&self) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut claims = json!({
            "iss": self.issuer, "aud": self.audience, "sub": self.subject, "iat": now, "nbf": now,
            "exp": now.saturating_add(self.lifetime.as_secs()), "jti": Uuid::now_v7(), "scope": self.scopes.to_string(),
        });
        if let Some(customer) = self.customer {
            claims["customer"] = json!(customer.0);
        }
        claims
    }
}

/// A key that signs.
pub struct Signer {
    name: Option<String>,
    secret: Secret,
}

enum Secret {
    Private(PrivateKey),
    Shared(Vec<u8>),
}

/// Why nothing is signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The text is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key only verifies.
    #[error("it is a public key, or a set of keys: it verifies tokens, and signs none")]
    Public,
    /// The library failed.
    #[error("the signature could not be made")]
    Failed,
}

impl Signer {
    /// A new Ed25519 key as PEM.
    ///
    /// # Errors
    /// [`SignError::Failed`] when there is no chance to be had.
    pub fn new_pem() -> Result<String, SignError> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).map_err(|_| SignError::Failed)?;
        let lines = STANDARD.encode(pkcs8.as_ref());
        let lines: Vec<_> = lines.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        Ok(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n")))
    }

    /// The key in a text: a private one as PEM (Ed25519, RSA) or JSON Web Key (Ed25519), or a shared secret as a JSON Web
    /// Key.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn of(text: &str) -> Result<Self, SignError> {
        match form(text)? {
            Form::Set(_) => Err(SignError::Public),
            Form::Pem => match private_key(text) {
                Ok(key) => Ok(Self { name: None, secret: Secret::Private(key) }),
                // A key that is none at all is told so.
                Err(_) => Key::all_of(text).map_err(SignError::Key).and(Err(SignError::Public)),
            },
            Form::Jwk(jwk) => {
                let secret = match jwk.algorithm()? {
                    Algorithm::Hs256 => Secret::Shared(jwk.secret()?),
                    Algorithm::EdDsa => Secret::Private(PrivateKey::Ed25519(jwk.pair()?.ok_or(SignError::Public)?)),
                    Algorithm::Rs256 => return Err(SignError::Public),
                };
                Ok(Self { name: jwk.kid.clone(), secret })
            }
        }
    }

    /// The same key under another name.
    pub fn named(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    /// The key that verifies what this one signs.
    ///
    /// # Errors
    /// [`KeyError`] when it is too short to be of use.
    pub fn verifier(&self) -> Result<Key, KeyError> {
        match &self.secret {
            Secret::Private(key) => key.public(self.name.clone()),
            Secret::Shared(secret) => Key::of_secret(self.name.clone(), secret),
        }
    }

    /// A token that says this.
    ///
    /// # Errors
    /// [`SignError::Failed`].
    pub fn token(&self, grant: &Grant) -> Result<String, SignError> {
        let mut header = json!({ "typ": "JWT", "alg": self.algorithm().name() });
        if let Some(name) = &self.name {
            header["kid"] = name.as_str().into();
        }
        self.sign(&header, &grant.claims())
    }

    /// A token with this header and these claims, whatever they are: for tests, which make bad ones too.
    ///
    /// # Errors
    /// [`SignError::Failed`].
    pub fn sign(&self, header: &Value, claims: &Value) -> Result<String, SignError> {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = match &self.secret {
            Secret::Private(PrivateKey::Ed25519(pair)) => pair.sign(message.as_bytes()).as_ref().to_vec(),
            Secret::Private(PrivateKey::Rsa(pair)) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature)
                    .map_err(|_| SignError::Failed)?;
                signature
            }
            Secret::Shared(secret) => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes()).as_ref().to_vec()
            }
        };
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn algorithm(&self) -> Algorithm {
        match &self.secret {
            Secret::Private(PrivateKey::Ed25519(_)) => Algorithm::EdDsa,
            Secret::Private(PrivateKey::Rsa(_)) => Algorithm::Rs256,
            Secret::Shared(_) => Algorithm::Hs256,
        }
    }
}
