//! Cursors: where a row stands in a sort order, signed, so that nobody can make one up, and bound to the query it was
//! made for, so that it cannot be used to page through another one.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::Sha256;

use crate::error::{Code, Failure};
use crate::sql::Key;

/// The secret that cursors are signed with. Processes that answer for each other need the same one.
#[derive(Clone)]
pub struct CursorKey(Hmac<Sha256>);

impl CursorKey {
    /// Makes a key of a secret, which should be at least 16 random bytes. Cursors made with another secret are refused.
    pub fn new(secret: &[u8]) -> Self {
        // HMAC takes keys of any length: the error cannot happen, and an empty key stands in for it.
        let mac = Hmac::new_from_slice(secret).unwrap_or_else(|_| Hmac::new(&Default::default()));
        Self(mac.chain_update(b"storefold cursor 1\0"))
    }
}

impl fmt::Debug for CursorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CursorKey(…)")
    }
}

/// What the cursors of one query are bound to.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    key: CursorKey,
}

/// How many bytes of the HMAC a cursor carries: 128 bits.
const TAG: usize = 16;

impl Scope {
    /// Binds to whatever `query` serialises to: the rows listed, their order, their filter.
    pub(crate) fn new(key: &CursorKey, query: &impl Serialize) -> Result<Self, Failure> {
        let query = serde_json::to_vec(query).map_err(|error| Failure::internal(&error))?;
        let length = (query.len() as u64).to_be_bytes();
        Ok(Self { key: CursorKey(key.0.clone().chain_update(length).chain_update(query)) })
    }

    pub(crate) fn seal(&self, key: &Key) -> Result<String, Failure> {
        let payload = serde_json::to_vec(key).map_err(|error| Failure::internal(&error))?;
        let mut sealed = self.tag(&payload).finalize().into_bytes()[..TAG].to_vec();
        sealed.extend(payload);
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    pub(crate) fn open(&self, cursor: &str) -> Result<Key, Failure> {
        self.verified(cursor).ok_or_else(|| {
            let message = "This is not a cursor of this query: it was altered, or made for another order or filter.";
            Failure::new(Code::BadCursor, message)
        })
    }

    fn verified(&self, cursor: &str) -> Option<Key> {
        let sealed = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (tag, payload) = sealed.split_at_checked(TAG)?;
        self.tag(payload).verify_truncated_left(tag).ok()?;
        serde_json::from_slice(payload).ok()
    }

    fn tag(&self, payload: &[u8]) -> Hmac<Sha256> {
        self.key.0.clone().chain_update(payload)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sql::Bind;

    fn scope(secret: &[u8], query: &str) -> Scope {
        Scope::new(&CursorKey::new(secret), &query).unwrap()
    }

    fn key() -> impl Strategy<Value = Key> {
        let value = prop_oneof![
            Just(Bind::Null),
            any::<i64>().prop_map(Bind::Int),
            ".{0,20}".prop_map(Bind::Text),
            (0..4_000_000_000_000_000_i64)
                .prop_map(|micros| { Bind::Time(chrono::DateTime::from_timestamp_micros(micros).unwrap()) }),
        ];
        (proptest::option::of(value), any::<u128>())
            .prop_map(|(value, id)| Key { value, id: vec![Bind::Uuid(uuid::Uuid::from_u128(id))] })
    }

    proptest! {
        #[test]
        fn a_cursor_opens_where_it_was_sealed_and_nowhere_else(key in key(), a in ".{0,9}", b in ".{0,9}") {
            let sealed = scope(b"secret", &a).seal(&key).unwrap();
            prop_assert_eq!(scope(b"secret", &a).verified(&sealed), Some(key));
            prop_assert_eq!(scope(b"another secret", &a).verified(&sealed), None);
            if a != b {
                prop_assert_eq!(scope(b"secret", &b).verified(&sealed), None);
            }
        }

        #[test]
        fn an_altered_cursor_does_not_open(key in key(), at: prop::sample::Index, bit in 0..8) {
            let scope = scope(b"secret", "orders");
            let mut bytes = URL_SAFE_NO_PAD.decode(scope.seal(&key).unwrap()).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            prop_assert_eq!(scope.verified(&URL_SAFE_NO_PAD.encode(bytes)), None);
        }

        #[test]
        fn no_text_breaks_the_parser(text in ".{0,80}") {
            prop_assert_eq!(scope(b"secret", "orders").verified(&text), None);
        }
    }

    #[test]
    fn the_key_does_not_show() {
        assert_eq!(format!("{:?}", CursorKey::new(b"secret")), "CursorKey(…)");
    }
}
