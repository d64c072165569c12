//! Answers that a client has already: it sends the tag of what it has, and is told when nothing is different.

use std::hash::{DefaultHasher, Hasher as _};

use axum::http::header::IF_NONE_MATCH;
use axum::http::{HeaderMap, HeaderValue};

use super::media::Media;

/// What a client has.
#[derive(Debug, Default)]
pub(super) struct Known(Vec<HeaderValue>);

impl Known {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self(headers.get_all(IF_NONE_MATCH).iter().cloned().collect())
    }

    /// Whether an answer with this tag is among it. Weak tags count too, and none of ours has a comma in it.
    pub(super) fn has(&self, tag: &HeaderValue) -> bool {
        let told = self.0.iter().filter_map(|value| value.to_str().ok());
        let mut tags = told.flat_map(|value| value.split(',')).map(str::trim);
        tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known).as_bytes() == tag.as_bytes())
    }
}

/// The tag of an answer. It follows from all that the answer says, and so from how far the read models behind it had come;
/// those alone would not do, for what is mended changes where they are not.
pub(super) fn tag(body: &[u8], media: Media) -> Option<HeaderValue> {
    // A client compares with what it was told before: no secret is kept by it. Another build may hash in another way, which
    // costs one answer.
    let mut hasher = DefaultHasher::new();
    hasher.write(media.content_type().as_bytes());
    hasher.write(body);
    HeaderValue::try_from(format!("\"{:016x}\"", hasher.finish())).ok()
}
