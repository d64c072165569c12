//! Answers that a client has already: it sends the tag of what it has, and is told when nothing is different.

use axum::http::header::IF_NONE_MATCH;
use axum::http::{HeaderMap, HeaderValue};
use sha2::{Digest as _, Sha256};

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
    let hash = Sha256::new().chain_update(media.content_type()).chain_update(body).finalize();
    let digits: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::try_from(format!("\"{digits}\"")).ok()
}
