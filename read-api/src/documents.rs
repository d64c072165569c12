//! Documents by the hash of their text: those that were read before and need not be read again, those that clients send by
//! their hash alone (automatic persisted queries), and those that are trusted, where no others are taken.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_graphql::extensions::{Extension, ExtensionContext, ExtensionFactory, NextExecute};
use async_graphql::parser::types::ExecutableDocument;
use async_graphql::{Request, Response, ServerError};
use async_trait::async_trait;
use futures::FutureExt as _;
use hashlink::LruCache;
use sha2::{Digest, Sha256};

use crate::error::{Code, request_error};
use crate::limits;
use crate::permissions::Needs;
use crate::query::{self, Schema};

/// How many documents are kept at most.
const MOST: usize = 1_000;
/// How long the texts of the kept documents are together at most, in bytes. What is made of one takes some ten times as much.
const MOST_BYTES: usize = 2 * 1024 * 1024;

/// The hash of a document's text.
pub(crate) type Hash = [u8; 32];

/// A document that was read and asks for no more than it may.
pub(crate) struct Document {
    pub(crate) parsed: ExecutableDocument,
    /// Whether it asks for the schema.
    pub(crate) introspects: bool,
    /// Whether it selects something with fields of its own twice under one name, so that two values become one.
    pub(crate) merges: bool,
    /// Which permissions it takes.
    pub(crate) needs: Needs,
    /// Whether it fits the schema, as far as that does not hang on variables. Not known before it was executed once.
    pub(crate) fits: AtomicBool,
    /// The hash of its text.
    pub(crate) hash: Hash,
    /// How many microseconds its last execution took; as many as there are before there was one.
    took: AtomicU64,
    bytes: usize,
}

/// From where on a query is slow enough to be executed for several at once, in microseconds. Waiting for somebody else's
/// costs a faster one more than it saves.
const SLOW: u64 = 5_000;

impl Document {
    /// Whether it takes long, as far as is known.
    pub(crate) fn is_slow(&self) -> bool {
        self.took.load(Ordering::Relaxed) > SLOW
    }

    /// Notes that it was executed, and so fits the schema.
    pub(crate) fn executed(&self, took: Duration) {
        self.fits.store(true, Ordering::Relaxed);
        self.took.store(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// The documents that clients may send, where they may not send any others.
#[derive(Clone)]
pub struct TrustedDocuments(Arc<HashMap<Hash, Arc<Document>>>);

impl fmt::Debug for TrustedDocuments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustedDocuments({})", self.0.len())
    }
}

/// Why a list of documents cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum NotTrusted {
    /// The file cannot be read.
    #[error("the file cannot be read")]
    Unreadable(#[source] std::io::Error),
    /// The file is something else than a JSON object of texts.
    #[error("the file is no JSON object with a document's text by its SHA-256 in hexadecimal")]
    Malformed(#[source] serde_json::Error),
    /// A document stands under a hash that is not its own.
    #[error("the document under {named} has the hash {hash}")]
    Misnamed {
        /// Under which name it stands.
        named: String,
        /// What its hash is.
        hash: String,
    },
    /// A document is no GraphQL, does not fit the schema, or asks for too much.
    #[error("the document {hash} is refused: {reason}")]
    Refused {
        /// The hash of its text.
        hash: String,
        /// Why.
        reason: String,
    },
}

impl TrustedDocuments {
    /// Reads a file with a JSON object: each document's text by its SHA-256 in lower-case hexadecimal, as the tools that
    /// gather documents from a frontend's sources write it. A name may begin with `sha256:`.
    ///
    /// # Errors
    /// [`NotTrusted`].
    pub fn read(path: &Path) -> Result<Self, NotTrusted> {
        Self::parse(&std::fs::read_to_string(path).map_err(NotTrusted::Unreadable)?)
    }

    /// Reads the content of such a file.
    ///
    /// # Errors
    /// [`NotTrusted`].
    pub fn parse(json: &str) -> Result<Self, NotTrusted> {
        let texts: HashMap<String, String> = serde_json::from_str(json).map_err(NotTrusted::Malformed)?;
        let schema = query::schema().extension(Unexecuted).finish();
        let document = |(named, text): (String, String)| {
            let hash = hash(&text);
            if parse_hash(&named) != Some(hash) {
                return Err(NotTrusted::Misnamed { named, hash: hex(&hash) });
            }
            let refused = |error: ServerError| NotTrusted::Refused { hash: hex(&hash), reason: error.message };
            let document = read(&text).map_err(refused)?;
            validate(&schema, &document.parsed).map_err(refused)?;
            document.fits.store(true, Ordering::Relaxed);
            Ok((hash, Arc::new(document)))
        };
        Ok(Self(Arc::new(texts.into_iter().map(document).collect::<Result<_, _>>()?)))
    }
}

/// The documents of one process.
pub(crate) struct Documents {
    trusted: Option<TrustedDocuments>,
    known: Mutex<Known>,
}

struct Known {
    documents: LruCache<Hash, Arc<Document>>,
    bytes: usize,
}

impl Documents {
    pub(crate) fn new(trusted: Option<TrustedDocuments>) -> Self {
        Self { trusted, known: Mutex::new(Known { documents: LruCache::new(MOST), bytes: 0 }) }
    }

    /// The document that a request means, by its text, its hash, or both.
    pub(crate) fn find(&self, text: Option<&str>, named: Option<&str>) -> Result<Arc<Document>, ServerError> {
        let refused = |code, message: &str| Err(request_error(code, message));
        let own = text.map(hash);
        let named = match named {
            None => None,
            Some(name) => match parse_hash(name) {
                Some(hash) => Some(hash),
                None => return refused(Code::BadUserInput, "A document's hash is its SHA-256 in hexadecimal."),
            },
        };
        let hash = match (own, named) {
            (Some(own), Some(named)) if own != named => {
                return refused(Code::BadUserInput, "The hash that was sent is not the hash of the document.");
            }
            (Some(hash), _) | (None, Some(hash)) => hash,
            (None, None) => return refused(Code::ParseFailed, "There is no document."),
        };
        if let Some(TrustedDocuments(trusted)) = &self.trusted {
            return match trusted.get(&hash) {
                Some(document) => Ok(document.clone()),
                None => refused(Code::NotTrusted, "Only documents of the list are answered, and this is none of them."),
            };
        }
        if let Some(document) = self.known.lock().unwrap_or_else(PoisonError::into_inner).documents.get(&hash) {
            return Ok(document.clone());
        }
        let Some(text) = text else {
            return refused(
                Code::PersistedQueryNotFound,
                "The document of this hash is not known (any more): send its text.",
            );
        };
        let document = Arc::new(read(text)?);
        self.keep(hash, document.clone());
        Ok(document)
    }

    fn keep(&self, hash: Hash, document: Arc<Document>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = document.bytes;
        // Room is made before, so that the map itself drops none whose bytes would go on counting.
        while known.documents.len() == MOST || known.bytes + bytes > MOST_BYTES {
            let Some((_, oldest)) = known.documents.remove_lru() else { break };
            known.bytes -= oldest.bytes;
        }
        known.bytes += bytes;
        if let Some(before) = known.documents.insert(hash, document) {
            known.bytes -= before.bytes;
        }
    }
}

fn read(text: &str) -> Result<Document, ServerError> {
    let parsed = limits::parse(text)?;
    let (introspects, needs) = (limits::introspects(&parsed), Needs::of(&parsed));
    let (merges, fits, took) = (limits::merges(&parsed), AtomicBool::default(), AtomicU64::new(u64::MAX));
    Ok(Document { introspects, merges, needs, fits, hash: hash(text), took, parsed, bytes: text.len() })
}

/// Holds every operation of a document against the schema, which executes nothing.
fn validate(schema: &Schema, document: &ExecutableDocument) -> Result<(), ServerError> {
    for (name, _) in document.operations.iter() {
        let mut request = Request::new("");
        request.operation_name = name.map(ToString::to_string);
        request.set_parsed_query(document.clone());
        // Nothing in there waits for anything, since no resolver is called.
        let answer = schema.execute(request).now_or_never();
        let errors = answer.map(|answer| answer.errors).unwrap_or_default();
        if let Some(error) = errors.into_iter().next() {
            return Err(limits::code_of_validation(error));
        }
    }
    Ok(())
}

/// Has a schema validate what it is asked to execute, and stop there.
struct Unexecuted;

impl ExtensionFactory for Unexecuted {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Self)
    }
}

#[async_trait]
impl Extension for Unexecuted {
    async fn execute(&self, _: &ExtensionContext<'_>, _: Option<&str>, _: NextExecute<'_>) -> Response {
        Response::default()
    }
}

fn hash(text: &str) -> Hash {
    Sha256::digest(text).into()
}

fn hex(hash: &Hash) -> String {
    hash.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn parse_hash(name: &str) -> Option<Hash> {
    let digits = name.strip_prefix("sha256:").unwrap_or(name).as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_by_number_and_by_size() {
        let documents = Documents::new(None);
        let find = |text: &str| documents.find(Some(text), None).map(drop).unwrap();
        let known = || {
            let known = documents.known.lock().unwrap();
            (known.documents.len(), known.bytes)
        };
        for number in 0..MOST + 5 {
            find(&format!("{{ a{number} }}"));
        }
        assert_eq!(known().0, MOST);
        for number in 0..60 {
            find(&format!("{{ a }} # {number}{}", "x".repeat(60_000)));
        }
        let (length, bytes) = known();
        assert!(bytes <= MOST_BYTES && (20..MOST).contains(&length), "{length} {bytes}");
        for _ in 0..2 {
            find("{ a }");
        }
        let sum: usize = documents.known.lock().unwrap().documents.iter().map(|(_, document)| document.bytes).sum();
        assert_eq!(known().1, sum);
    }

    #[test]
    fn a_hash_reads_back() {
        let own = hash("{ __typename }");
        assert_eq!(parse_hash(&hex(&own)), Some(own));
        assert_eq!(parse_hash(&format!("sha256:{}", hex(&own).to_uppercase())), Some(own));
        for name in ["", "sha256:", "12", &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(parse_hash(name), None, "{name}");
        }
    }

    #[test]
    fn a_list_that_is_not_right_is_refused() {
        let list = |name: &str, text: &str| TrustedDocuments::parse(&serde_json::json!({ name: text }).to_string());
        let good = "{ __typename }";
        assert!(list(&hex(&hash(good)), good).is_ok());
        assert!(matches!(list(&hex(&hash(good)), "{ a }"), Err(NotTrusted::Misnamed { .. })));
        let deep = format!("{{ {}__typename{} }}", "orders { nodes { customer { ".repeat(6), " } } }".repeat(6));
        let expensive = "{ a: orders(first: 200) { nodes { timeline { what detail at } timeline { what } } }
            b: orders(first: 200) { nodes { timeline { what detail at } lines { sku quantity } } } }";
        for refused in [
            "{",
            "{ a }",
            "query A { __typename } query B { orders { nodes { nothing } } }",
            "query($id: Nothing!) { order(id: $id) { id } }",
            "subscription { orderChanged { asOf } }",
            "mutation { redrive(readModel: 1) { folded } }",
            &deep,
            expensive,
        ] {
            let answer = list(&hex(&hash(refused)), refused);
            assert!(matches!(answer, Err(NotTrusted::Refused { .. })), "{refused}: {answer:?}");
        }
        let several =
            "query A($id: UUID!) { order(id: $id) { id } } subscription B { projectionsChanged { __typename } }";
        assert!(list(&hex(&hash(several)), several).is_ok());
        assert!(matches!(TrustedDocuments::parse("[]"), Err(NotTrusted::Malformed(_))));
    }

    /// The list that goes with the page for frontends is one, and has what the page shows.
    #[test]
    fn the_example_of_a_list_has_the_documents_of_the_page() {
        let list = include_str!("../../docs/trusted-documents.json");
        let trusted = TrustedDocuments::parse(list).unwrap();
        let page = include_str!("../../docs/graphql.md");
        let shown = page.split("```graphql\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0));
        let shown: std::collections::BTreeSet<&str> = shown.collect();
        let named: HashMap<String, String> = serde_json::from_str(list).unwrap();
        assert_eq!(named.values().map(String::as_str).collect::<std::collections::BTreeSet<_>>(), shown);
        assert_eq!((trusted.0.len(), shown.len() >= 4), (shown.len(), true));
    }
}
