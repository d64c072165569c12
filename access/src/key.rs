//! A key that signatures are verified with: PEM or JWK, and one algorithm each.

use std::fmt;

use aws_lc_rs::rsa;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, RsaKeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use serde::Deserialize;

/// The shortest modulus of an RSA key, in bytes.
const SHORTEST_MODULUS: usize = 2048 / 8;
/// The shortest shared secret, in bytes: as long as what HS256 makes with it.
const SHORTEST_SECRET: usize = 32;
/// The longest name of a key, in bytes.
const LONGEST_NAME: usize = 256;

/// How tokens are signed. Which one it is follows from the key, and from nothing that a token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Ed25519.
    EdDsa,
    /// RSA with PKCS #1 v1.5 and SHA-256.
    Rs256,
    /// A shared secret, with SHA-256.
    Hs256,
}

impl Algorithm {
    /// Its name in a token's header.
    pub fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
            Self::Hs256 => "HS256",
        }
    }
}

/// A key that signatures are verified with.
#[derive(Clone)]
pub struct Key {
    /// Its name, by which tokens ask for it.
    pub(crate) name: Option<String>,
    pub(crate) algorithm: Algorithm,
    pub(crate) decoding: DecodingKey,
}

/// Why a text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither PEM nor JSON.
    #[error("it is neither PEM (-----BEGIN …) nor a JSON Web Key")]
    Unknown,
    /// PEM, but no key that is known.
    #[error("it is no PEM of an Ed25519 or RSA key, public (PUBLIC KEY) or private (PRIVATE KEY, RSA PRIVATE KEY)")]
    Pem,
    /// JSON, but no key.
    #[error("it is no JSON Web Key, or set of them: {0}")]
    Json(String),
    /// A kind of key, or a use of it, that is not known.
    #[error("its key type, curve, algorithm or use is another than that of EdDSA (Ed25519), RS256 or HS256 signatures")]
    Unsupported,
    /// A part of the key is not what it should be.
    #[error("its member {0:?} is missing or wrong")]
    Member(&'static str),
    /// An RSA key that could be broken.
    #[error("its modulus has {bits} bits; an RSA key has at least 2048")]
    ShortModulus {
        /// The length of its modulus.
        bits: usize,
    },
    /// A secret that could be guessed.
    #[error("its secret has {bytes} bytes; it needs {SHORTEST_SECRET}")]
    ShortSecret {
        /// Its length.
        bytes: usize,
    },
}

impl Key {
    /// The keys in a text: one as PEM or as a JSON Web Key, or a set of the latter. Of a private key, the public half is
    /// taken.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn all_of(text: &str) -> Result<Vec<Self>, KeyError> {
        match form(text)? {
            Form::Pem => Ok(vec![Self::of_pem(text)?]),
            Form::Jwk(jwk) => Ok(vec![Self::of_jwk(&jwk)?]),
            Form::Set(keys) => keys.iter().map(Self::of_jwk).collect(),
        }
    }

    /// The keys of a set that can be used here; others are passed over. Shared secrets are: a set that is fetched can be
    /// read by others.
    pub(crate) fn public_of_set(set: &[u8]) -> Result<Vec<Self>, KeyError> {
        let JwkSet { keys } = serde_json::from_slice(set).map_err(|error| KeyError::Json(error.to_string()))?;
        let keys = keys.iter().map(|jwk| {
            let jwk = Jwk::deserialize(jwk).map_err(|error| KeyError::Json(error.to_string()))?;
            Self::of_jwk(&jwk)
        });
        let usable = keys.filter_map(|key| {
            key.inspect_err(|error| tracing::debug!(%error, "a key of the issuer cannot be used here")).ok()
        });
        Ok(usable.filter(|key| key.algorithm != Algorithm::Hs256).collect())
    }

    /// A key that verifies what was signed with this shared secret.
    ///
    /// # Errors
    /// [`KeyError::ShortSecret`].
    pub(crate) fn of_secret(name: Option<String>, secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < SHORTEST_SECRET {
            return Err(KeyError::ShortSecret { bytes: secret.len() });
        }
        Ok(Self { name, algorithm: Algorithm::Hs256, decoding: DecodingKey::from_secret(secret) })
    }

    fn of_pem(pem: &str) -> Result<Self, KeyError> {
        if let Ok(private) = private_key(pem) {
            return private.public(None);
        }
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::Pem)?;
        if UnparsedPublicKey::new(&ED25519, &der).parse().is_ok() {
            return Ok(Self { name: None, algorithm: Algorithm::EdDsa, decoding: DecodingKey::from_ed_der(&der) });
        }
        let key = rsa::PublicKey::from_der(&der).map_err(|_| KeyError::Pem)?;
        Self::of_modulus(
            None,
            key.modulus().big_endian_without_leading_zero(),
            key.exponent().big_endian_without_leading_zero(),
        )
    }

    fn of_modulus(name: Option<String>, modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        if modulus.len() < SHORTEST_MODULUS {
            return Err(KeyError::ShortModulus { bits: modulus.len() * 8 });
        }
        let decoding = DecodingKey::from_rsa_raw_components(modulus, exponent);
        Ok(Self { name, algorithm: Algorithm::Rs256, decoding })
    }

    fn of_jwk(jwk: &Jwk) -> Result<Self, KeyError> {
        let name = jwk.kid.clone();
        if name.as_ref().is_some_and(|name| name.is_empty() || name.len() > LONGEST_NAME) {
            return Err(KeyError::Member("kid"));
        }
        let algorithm = jwk.algorithm()?;
        match algorithm {
            Algorithm::EdDsa => {
                let x = bytes("x", jwk.x.as_deref())?;
                UnparsedPublicKey::new(&ED25519, &x).parse().map_err(|_| KeyError::Member("x"))?;
                Ok(Self { name, algorithm, decoding: DecodingKey::from_ed_der(&x) })
            }
            Algorithm::Rs256 => {
                let (n, e) = (bytes("n", jwk.n.as_deref())?, bytes("e", jwk.e.as_deref())?);
                // Some writers put a zero before it, as ASN.1 has it.
                let zeros = n.iter().take_while(|byte| **byte == 0).count();
                let modulus = n.get(zeros..).unwrap_or_default();
                if e.is_empty() || e.len() > 8 {
                    return Err(KeyError::Member("e"));
                }
                Self::of_modulus(name, modulus, &e)
            }
            Algorithm::Hs256 => Self::of_secret(name, &bytes("k", jwk.k.as_deref())?),
        }
    }
}

/// Says what it is, and not what is in it.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// A private key out of PEM.
pub(crate) enum PrivateKey {
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl PrivateKey {
    /// The public half.
    pub(crate) fn public(&self, name: Option<String>) -> Result<Key, KeyError> {
        match self {
            Self::Ed25519(pair) => {
                let decoding = DecodingKey::from_ed_der(pair.public_key().as_ref());
                Ok(Key { name, algorithm: Algorithm::EdDsa, decoding })
            }
            Self::Rsa(pair) => {
                let public = pair.public_key();
                let (n, e) = (public.modulus(), public.exponent());
                Key::of_modulus(name, n.big_endian_without_leading_zero(), e.big_endian_without_leading_zero())
            }
        }
    }
}

/// The private key in a PEM.
pub(crate) fn private_key(pem: &str) -> Result<PrivateKey, KeyError> {
    match PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::Pem)? {
        PrivateKeyDer::Pkcs8(der) => {
            let der = der.secret_pkcs8_der();
            // That of OpenSSL has no public half in it to hold the private one against.
            if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
                return Ok(PrivateKey::Ed25519(pair));
            }
            RsaKeyPair::from_pkcs8(der).map(PrivateKey::Rsa).map_err(|_| KeyError::Pem)
        }
        PrivateKeyDer::Pkcs1(der) => {
            RsaKeyPair::from_der(der.secret_pkcs1_der()).map(PrivateKey::Rsa).map_err(|_| KeyError::Pem)
        }
        _ => Err(KeyError::Pem),
    }
}

/// What a text with a key looks like.
pub(crate) enum Form {
    Pem,
    Jwk(Box<Jwk>),
    Set(Vec<Jwk>),
}

pub(crate) fn form(text: &str) -> Result<Form, KeyError> {
    let json = |error: serde_json::Error| KeyError::Json(error.to_string());
    let text = text.trim_start();
    if text.starts_with("-----BEGIN ") {
        return Ok(Form::Pem);
    }
    if !text.starts_with('{') {
        return Err(KeyError::Unknown);
    }
    let value: serde_json::Value = serde_json::from_str(text).map_err(json)?;
    if value.get("keys").is_none() {
        return Jwk::deserialize(value).map(Box::new).map(Form::Jwk).map_err(json);
    }
    let JwkSet { keys } = JwkSet::deserialize(value).map_err(json)?;
    keys.into_iter().map(Jwk::deserialize).collect::<Result<_, _>>().map(Form::Set).map_err(json)
}

/// A set of JSON Web Keys (RFC 7517), each still to be read: one that is not known spoils no other.
#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<serde_json::Value>,
}

/// A JSON Web Key (RFC 7517), as far as it matters here.
#[derive(Deserialize)]
pub(crate) struct Jwk {
    kty: String,
    pub(crate) kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    n: Option<String>,
    e: Option<String>,
    k: Option<String>,
    d: Option<String>,
}

impl Jwk {
    /// The one algorithm of this key.
    pub(crate) fn algorithm(&self) -> Result<Algorithm, KeyError> {
        let algorithm = match (self.kty.as_str(), self.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => Algorithm::EdDsa,
            ("RSA", _) => Algorithm::Rs256,
            ("oct", _) => Algorithm::Hs256,
            _ => return Err(KeyError::Unsupported),
        };
        // RFC 9864 has another name for EdDSA over Ed25519.
        let named = self.alg.as_deref().map(|alg| if alg == "Ed25519" { "EdDSA" } else { alg });
        let fits = named.is_none_or(|alg| alg == algorithm.name());
        if fits && self.purpose.as_deref().is_none_or(|purpose| purpose == "sig") {
            Ok(algorithm)
        } else {
            Err(KeyError::Unsupported)
        }
    }

    /// The shared secret of one for HS256.
    pub(crate) fn secret(&self) -> Result<Vec<u8>, KeyError> {
        bytes("k", self.k.as_deref())
    }

    /// Both halves of one for EdDSA, or `None` when it has the public one alone.
    pub(crate) fn pair(&self) -> Result<Option<Ed25519KeyPair>, KeyError> {
        if self.d.is_none() {
            return Ok(None);
        }
        let (d, x) = (bytes("d", self.d.as_deref())?, bytes("x", self.x.as_deref())?);
        Ed25519KeyPair::from_seed_and_public_key(&d, &x).map(Some).map_err(|_| KeyError::Member("d"))
    }
}

/// A member of a JSON Web Key that stands for bytes.
fn bytes(member: &'static str, text: Option<&str>) -> Result<Vec<u8>, KeyError> {
    text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).ok_or(KeyError::Member(member))
}
