//! What the headers of a request say about a command.

use access::Caller;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use chrono::Utc;
use event_store::StreamName;
use serde_json::Value;
use uuid::Uuid;

use super::Problem;
use crate::envelope::{Envelope, Precondition, command_id_of_key, fingerprint};

/// The position of a command's last event, to be given back as `Storefold-After`.
pub(super) const POSITION: HeaderName = HeaderName::from_static("storefold-position");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const CORRELATION_ID: HeaderName = HeaderName::from_static("storefold-correlation-id");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The longest idempotency key, in bytes.
const MAX_KEY: usize = 255;

/// The envelope of a command that came from this caller with these headers.
pub(super) fn envelope(
    caller: &Caller,
    headers: &HeaderMap,
    stream: &StreamName,
    command: &str,
    body: &Value,
) -> Result<Envelope, Problem> {
    let command_id = match idempotency_key(headers)? {
        Some(key) => command_id_of_key(stream, key, caller.subject.as_deref()),
        None => Uuid::now_v7(),
    };
    Ok(Envelope {
        precondition: precondition(headers)?,
        correlation_id: correlation_id(headers)?.unwrap_or(command_id),
        actor: caller.subject.clone(),
        traceparent: traceparent(headers),
        ..Envelope::new(command_id, fingerprint(command, body), Utc::now())
    })
}

/// What the headers of a batch say of all its commands.
pub(super) struct Shared {
    pub(super) correlation_id: Option<Uuid>,
    pub(super) traceparent: Option<String>,
}

/// Reads the headers of a batch. What names or presumes something of one command belongs to its line.
pub(super) fn shared(headers: &HeaderMap) -> Result<Shared, Problem> {
    for name in [&IDEMPOTENCY_KEY, &header::IF_MATCH, &header::IF_NONE_MATCH] {
        if headers.contains_key(name) {
            return Err(invalid(name, "is for a single command; in a batch each line says its own"));
        }
    }
    Ok(Shared { correlation_id: correlation_id(headers)?, traceparent: traceparent(headers) })
}

fn correlation_id(headers: &HeaderMap) -> Result<Option<Uuid>, Problem> {
    let id = text(headers, &CORRELATION_ID)?.map(Uuid::parse_str);
    id.transpose().map_err(|_| invalid(&CORRELATION_ID, "is no UUID"))
}

/// A trace context of another form is dropped, as W3C's recommendation has it.
fn traceparent(headers: &HeaderMap) -> Option<String> {
    text(headers, &TRACEPARENT).ok().flatten().filter(|trace| is_trace(trace)).map(ToOwned::to_owned)
}

/// The revision of an aggregate as an entity tag: `"7"`.
pub(super) fn etag(revision: u64) -> HeaderValue {
    // Digits and quotes are always valid in a header.
    HeaderValue::from_str(&format!("\"{revision}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Whether `If-None-Match` names this revision, so that the client has it already.
pub(super) fn has_already(headers: &HeaderMap, revision: u64) -> bool {
    let tags = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let tag = format!("\"{revision}\"");
    tags.flat_map(|tags| tags.split(',')).any(|known| known.trim().trim_start_matches("W/") == tag)
}

/// The revision behind the last event that a client of server-sent events has seen.
pub(super) fn after_last_event(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(last) = text(headers, &LAST_EVENT_ID)?.filter(|last| !last.is_empty()) else { return Ok(None) };
    let after = last.parse().ok().and_then(|last: u64| last.checked_add(1));
    after.map(Some).ok_or_else(|| invalid(&LAST_EVENT_ID, "is the id of an event as it was sent, such as 7"))
}

/// The key that names the command: a string in quotes, as the draft standard has it, or bare.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(key) = text(headers, &IDEMPOTENCY_KEY)? else { return Ok(None) };
    let inner = key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key);
    if inner.is_empty() || inner.len() > MAX_KEY || inner.contains('"') {
        return Err(invalid(&IDEMPOTENCY_KEY, &format!("{A_KEY}, in quotes or bare")));
    }
    Ok(Some(inner))
}

/// What a key has to be.
pub(super) const A_KEY: &str = "has 1 to 255 visible characters";

/// A key that was not sent as a header, if it could be: what is the same there is the same here.
pub(super) fn key(key: &str) -> Option<&str> {
    let visible = key.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && key.trim() == key;
    (visible && !key.is_empty() && key.len() <= MAX_KEY && !key.contains('"')).then_some(key)
}

fn precondition(headers: &HeaderMap) -> Result<Precondition, Problem> {
    let (if_match, if_none_match) = (text(headers, &header::IF_MATCH)?, text(headers, &header::IF_NONE_MATCH)?);
    if if_none_match.is_some_and(|tag| tag != "*") {
        return Err(invalid(&header::IF_NONE_MATCH, "says * with a command: it must not exist yet"));
    }
    let existing = match if_match {
        None => return Ok(if if_none_match.is_some() { Precondition::New } else { Precondition::None }),
        Some("*") => Precondition::Existing,
        Some(tag) => {
            let revision = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            let revision = revision.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            let revision = revision.and_then(|digits| digits.parse().ok());
            revision.map(Precondition::Revision).ok_or_else(|| {
                invalid(&header::IF_MATCH, "is one entity tag as it was given in ETag, such as \"7\", or *")
            })?
        }
    };
    Ok(if if_none_match.is_some() { Precondition::Never } else { existing })
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    if headers.get_all(name).iter().nth(1).is_some() {
        return Err(invalid(name, "stands more than once"));
    }
    let value = headers.get(name).map(HeaderValue::to_str).transpose();
    value.map(|value| value.map(str::trim)).map_err(|_| invalid(name, "has characters other than visible ASCII"))
}

fn invalid(name: &HeaderName, what: &str) -> Problem {
    Problem::bad_request("invalid-header", format!("the header {name} {what}")).with("header", name.as_str())
}

/// Whether a text has the form of W3C's trace context, and names a trace. Version ff is none, nor are ids of zeros alone.
fn is_trace(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &&str| part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let is_something = |id: &str| id.bytes().any(|byte| byte != b'0');
    match parts[..] {
        [version, trace, span, flags] => {
            let lengths = [version, trace, span, flags].map(str::len);
            let named = is_something(trace) && is_something(span);
            parts.iter().all(hex) && lengths == [2, 32, 16, 2] && version != "ff" && named
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn a_key_is_the_same_in_quotes_and_bare() {
        assert_eq!(idempotency_key(&with(IDEMPOTENCY_KEY, "\"abc\"")).unwrap(), Some("abc"));
        assert_eq!(idempotency_key(&with(IDEMPOTENCY_KEY, "abc")).unwrap(), Some("abc"));
        for wrong in ["", "\"\"", "a\"b", "\"a\"b\""] {
            assert!(idempotency_key(&with(IDEMPOTENCY_KEY, wrong)).is_err(), "{wrong}");
        }
    }

    fn twice(name: HeaderName, values: [&'static str; 2]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, HeaderValue::from_static(value));
        }
        headers
    }

    fn both(tag: &'static str, none: &'static str) -> HeaderMap {
        let none = with(header::IF_NONE_MATCH, none);
        with(header::IF_MATCH, tag).into_iter().chain(none).filter_map(|(name, value)| Some((name?, value))).collect()
    }

    #[test]
    fn preconditions_are_read_or_refused() {
        let cases = [
            (with(header::IF_MATCH, "\"7\""), Some(Precondition::Revision(7))),
            (with(header::IF_MATCH, "*"), Some(Precondition::Existing)),
            (with(header::IF_NONE_MATCH, "*"), Some(Precondition::New)),
            (both("\"7\"", "*"), Some(Precondition::Never)),
            (both("*", "*"), Some(Precondition::Never)),
            (both("7", "*"), None),
            (both("*", "\"7\""), None),
            (HeaderMap::new(), Some(Precondition::None)),
            (with(header::IF_MATCH, "7"), None),
            (with(header::IF_MATCH, "\"-7\""), None),
            (with(header::IF_MATCH, "\"18446744073709551616\""), None),
            (with(header::IF_MATCH, "\"1\", \"2\""), None),
            (with(header::IF_NONE_MATCH, "\"7\""), None),
            (twice(header::IF_MATCH, ["\"0\"", "\"99\""]), None),
            (twice(header::IF_NONE_MATCH, ["*", "*"]), None),
        ];
        for (headers, expected) in cases {
            assert_eq!(precondition(&headers).ok(), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_trace_context_of_another_form_is_dropped() {
        assert!(is_trace("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        assert!(!is_trace("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"));
        for wrong in [
            "hello",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-00",
        ] {
            assert!(!is_trace(wrong), "{wrong}");
        }
    }
}
