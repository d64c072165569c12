//! Tokens: what they are verified with, and making them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use access::{CustomerId, Gate, Grant, Issuer, Key, Keys, Role, Scopes, Signer, Timing};
use anyhow::Context as _;
use secrecy::{ExposeSecret as _, SecretString};

use crate::cli::{Token, TokenRole};
use crate::config::{Config, Tokens};
use crate::data_dir;

/// How long a token holds that is made for one run of a program.
const AT_HAND: Duration = Duration::from_secs(24 * 60 * 60);

/// What the callers of this process have to show.
pub(crate) struct Demanded {
    /// The gate that they come through.
    pub(crate) gate: Gate,
    /// The same, for whoever has just started the shop.
    pub(crate) told: String,
    /// Whether nobody but this machine may know of a key, or none is needed.
    pub(crate) local: bool,
}

/// What callers have to show, by the configuration.
///
/// # Errors
/// When a key is none, or the data directory cannot be used.
pub(crate) fn demanded(config: &Config) -> anyhow::Result<Demanded> {
    if config.tokens == Tokens::None {
        let told = "none are needed: whoever is on this machine may do everything".to_owned();
        return Ok(Demanded { gate: Gate::open(), told, local: true });
    }
    let (settings, local) = (&config.token, !config.token.names_a_key());
    let mut keys = Vec::new();
    for Source { text, name } in sources(config)? {
        keys.extend(Key::all_of(text.expose_secret()).with_context(|| format!("{name} is no key"))?);
    }
    let issuer = settings.jwks_url.as_deref().map(|url| Issuer::new(url, Timing::default())).transpose()?;
    let keys = Keys::new(keys, issuer).context("the configured keys cannot be used together")?;
    let told = match local {
        true => format!("storefold token --role operator  (signed with {})", own_key(config)?.0.display()),
        false => format!("of {} for {}", settings.expected.issuer, settings.expected.audience),
    };
    Ok(Demanded { gate: Gate::new(keys, settings.expected.clone()), told, local })
}

/// Makes a token.
///
/// # Errors
/// When no key is there that signs.
pub(crate) fn token(config: &Config, wanted: &Token) -> anyhow::Result<String> {
    let role = wanted.role.map(|role| match role {
        TokenRole::Customer => Role::Customer,
        TokenRole::Staff => Role::Staff,
        TokenRole::Operator => Role::Operator,
    });
    let scopes = wanted.scopes.iter().fold(Scopes::NONE, |all, scopes| all.union(scopes.0));
    let expected = &config.token.expected;
    let grant = Grant {
        issuer: expected.issuer.clone(),
        audience: expected.audience.clone(),
        subject: wanted.sub.clone(),
        scopes: role.map_or(scopes, |role| scopes.union(role.scopes())),
        customer: wanted.customer.map(CustomerId),
        lifetime: wanted.expires,
    };
    Ok(signer(config)?.token(&grant)?)
}

/// A token that allows everything, for a program that somebody runs on the machine of the shop; `None` where there is no key that
/// signs. None is made for it.
///
/// # Errors
/// When the token cannot be signed.
pub(crate) fn at_hand(config: &Config, subject: &str) -> anyhow::Result<Option<String>> {
    if !config.token.names_a_key() && !data_dir::has_token_key(&config.data_dir) {
        return Ok(None);
    }
    let Ok(signer) = signer(config) else { return Ok(None) };
    let expected = &config.token.expected;
    let grant = Grant {
        issuer: expected.issuer.clone(),
        audience: expected.audience.clone(),
        subject: subject.to_owned(),
        scopes: Scopes::ALL,
        customer: None,
        lifetime: AT_HAND,
    };
    Ok(Some(signer.token(&grant)?))
}

/// The first of the configured keys that signs.
fn signer(config: &Config) -> anyhow::Result<Signer> {
    let mut whynot = None;
    for Source { text, name } in sources(config)? {
        match Signer::of(text.expose_secret()) {
            Ok(signer) => return Ok(signer),
            Err(error) => {
                whynot.get_or_insert_with(|| anyhow::Error::from(error).context(format!("{name} signs no tokens")));
            }
        }
    }
    let issuer =
        || anyhow::anyhow!("token.jwks_url is configured: its issuer makes the tokens, and has the private key");
    Err(whynot.unwrap_or_else(issuer))
}

/// A text with keys, and what it is called.
struct Source {
    text: SecretString,
    name: String,
}

/// The texts with keys that are configured; where none is, the one in the data directory.
fn sources(config: &Config) -> anyhow::Result<Vec<Source>> {
    if !config.token.names_a_key() {
        let (path, text) = own_key(config)?;
        return Ok(vec![Source { text, name: path.display().to_string() }]);
    }
    let inline = config.token.key.clone().map(|text| Source { text, name: "token.key".to_owned() });
    let file = config.token.key_file.as_deref().map(from_file).transpose()?;
    Ok(inline.into_iter().chain(file).collect())
}

fn from_file(path: &Path) -> anyhow::Result<Source> {
    let name = format!("token.key_file = {}", path.display());
    let text = fs::read_to_string(path).with_context(|| format!("{name} cannot be read"))?;
    Ok(Source { text: text.into(), name })
}

fn own_key(config: &Config) -> anyhow::Result<(PathBuf, SecretString)> {
    let at = || format!("the key for tokens cannot be kept in {}", config.data_dir.display());
    data_dir::token_key(&config.data_dir).with_context(at)
}
