//! Loading an aggregate: its stream, folded.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::codec::{CodecError, StoredEvent};
use domain::decider::Decider;
use event_store::{
    Direction, EventStore, Expected, InvalidStreamName, Metadata, Position, ReadError, RecordedEvent, StreamName,
};
use uuid::Uuid;

/// How many events of a stream are read at a time.
pub(crate) const PAGE: usize = 1_000;

/// Why an aggregate could not be loaded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An event of the stream cannot be decoded: it was written by another program or a newer release.
    #[error("the event {stream}@{revision} cannot be decoded")]
    Undecodable {
        /// The stream.
        stream: StreamName,
        /// The place in the stream.
        revision: u64,
        /// Why.
        #[source]
        source: Arc<Undecodable>,
    },
}

/// Why an event cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum Undecodable {
    /// Its metadata is not what this program writes.
    #[error("its metadata is of another form")]
    Metadata(#[source] serde_json::Error),
    /// Its data is not what its type and schema say.
    #[error(transparent)]
    Data(#[from] CodecError),
}

/// The name of an aggregate's stream.
///
/// # Errors
/// [`InvalidStreamName`] when the id makes no valid name.
pub fn stream_of<D: Decider>(id: &D::Id) -> Result<StreamName, InvalidStreamName> {
    StreamName::new(format!("{}-{id}", D::CATEGORY))
}

/// An event of an aggregate, decoded, with what the log knows about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Past<E> {
    /// What happened.
    pub event: E,
    /// The event as the log has it.
    pub recorded: RecordedEvent,
    /// Where it came from.
    pub metadata: Metadata,
}

/// Decodes an event of a stream.
///
/// # Errors
/// [`LoadError::Undecodable`].
pub fn decode<E: StoredEvent>(recorded: RecordedEvent) -> Result<Past<E>, LoadError> {
    let metadata = metadata_of(&recorded)?;
    match E::decode(recorded.event_type.as_str(), metadata.schema, &recorded.data) {
        Ok(event) => Ok(Past { event, recorded, metadata }),
        Err(source) => Err(undecodable(&recorded, source.into())),
    }
}

/// Decodes what is known of an event beside the event.
///
/// # Errors
/// [`LoadError::Undecodable`].
pub(crate) fn metadata_of(recorded: &RecordedEvent) -> Result<Metadata, LoadError> {
    Metadata::from_bytes(&recorded.metadata).map_err(|error| undecodable(recorded, Undecodable::Metadata(error)))
}

fn undecodable(recorded: &RecordedEvent, source: Undecodable) -> LoadError {
    LoadError::Undecodable { stream: recorded.stream.clone(), revision: recorded.revision, source: Arc::new(source) }
}

/// Up to where a stream is folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// To its end.
    Now,
    /// Up to and with this revision.
    Revision(u64),
    /// Up to and with what was decided at this time.
    Time(DateTime<Utc>),
}

impl Until {
    fn includes<E>(self, past: &Past<E>) -> bool {
        match self {
            Self::Now => true,
            Self::Revision(revision) => past.recorded.revision <= revision,
            Self::Time(time) => past.metadata.occurred_at <= time,
        }
    }
}

/// An aggregate as far as its stream was folded.
#[derive(Debug, Clone)]
pub struct Loaded<D: Decider> {
    /// What it is.
    pub state: D::State,
    /// The place of its last event in its stream; `None` when nothing has happened to it.
    pub revision: Option<u64>,
    /// The place of its last event in the log; `None` too where only a snapshot says that there is one.
    pub position: Option<Position>,
    /// The id of its last event.
    pub last_event: Option<Uuid>,
}

impl<D: Decider> Loaded<D> {
    /// An aggregate to which nothing has happened.
    pub fn nothing() -> Self {
        Self { state: D::initial(), revision: None, position: None, last_event: None }
    }

    /// What an append expects of the stream, that what is decided on this may hold.
    pub fn expected(&self) -> Expected {
        let last = self.revision.zip(self.last_event);
        last.map_or(Expected::NoStream, |(revision, id)| Expected::After { revision, id })
    }

    /// Folds a stream.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn fold(store: &dyn EventStore, stream: &StreamName, until: Until) -> Result<Self, LoadError> {
        Self::nothing().on(store, stream, until).await
    }

    /// Folds what has been appended to the stream since; all of it where the log does not have what is known.
    ///
    /// # Errors
    /// [`LoadError`].
    pub(crate) async fn on(
        mut self,
        store: &dyn EventStore,
        stream: &StreamName,
        until: Until,
    ) -> Result<Self, LoadError> {
        while !self.advance(store, stream, until, |_| {}).await? {}
        Ok(self)
    }

    /// Folds what has been appended to the stream since, and shows each event to `visit`. Says whether the log has the event that
    /// was the last one: a log that was restored, or whose standby has taken over without its latest events, has another there,
    /// or none. Then nothing is known any more, and nothing was shown.
    ///
    /// # Errors
    /// [`LoadError`]. Then nothing is known any more either.
    pub(crate) async fn advance(
        &mut self,
        store: &dyn EventStore,
        stream: &StreamName,
        until: Until,
        mut visit: impl FnMut(&Past<D::Event>),
    ) -> Result<bool, LoadError> {
        let mut known = std::mem::replace(self, Self::nothing());
        // The last one that is known is read again, with what is behind it.
        let (mut from, mut last_event) = (known.revision.unwrap_or(0), known.last_event);
        loop {
            let page = store.read_stream(stream, Some(from), Direction::Forwards, PAGE).await?;
            let mut events = page.events.into_iter();
            if let Some(id) = last_event.take() {
                let Some(last) = events.next().filter(|last| last.id == id) else {
                    let revision = known.revision;
                    tracing::warn!(%stream, revision, "the log does not have what was read of it before; the stream is read anew");
                    return Ok(false);
                };
                known.position = Some(last.position);
                from += 1;
            }
            for recorded in events {
                let past = decode::<D::Event>(recorded)?;
                if !until.includes(&past) {
                    *self = known;
                    return Ok(true);
                }
                visit(&past);
                let Past { event, recorded, .. } = past;
                let (revision, position, last_event) =
                    (Some(recorded.revision), Some(recorded.position), Some(recorded.id));
                known = Self { state: D::evolve(known.state, &event), revision, position, last_event };
                from = recorded.revision + 1;
            }
            if page.end {
                *self = known;
                return Ok(true);
            }
        }
    }
}
