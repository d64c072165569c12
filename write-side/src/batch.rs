//! Carrying out the commands that have an aggregate's turn together: decided one after another, appended as one.
//!
//! Each is decided on what the ones before it have led to, and keeps its own ids, its own metadata and its own answer.
//! One that is refused stands in nobody's way. What was decided holds when the log has taken the events at the exact
//! revision: until then nobody is told anything, for when another process was faster all of it is decided anew.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use domain::codec::{CodecError, StoredEvent};
use domain::decider::Decider;
use event_store::{
    Append, AppendError, Appended, Direction, EventStore, EventType, MAX_APPEND_BYTES, MAX_APPEND_EVENTS, Metadata,
    NewEvent, Position, RecordedEvent, StreamName,
};
use metrics::counter;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::cache::Kept;
use crate::envelope::Envelope;
use crate::execute::{Answer, EventRef, ExecuteError, MAX_ATTEMPTS};
use crate::explain::{ForeseenEvent, Foresight, Prospect};
use crate::load::{LoadError, Loaded, PAGE, metadata_of};
use crate::snapshots::Snapshots;

/// How far apart the events of two commands may begin that are looked up in one read. To read over so many events costs less
/// than to read once more.
const NEAR: u64 = 64;
/// How many events are read with the first one of a command: they may be its own too.
const FEW: usize = 8;

/// What became of a command.
pub(crate) type Outcome<D> = Result<Answer, ExecuteError<<D as Decider>::Refusal>>;

/// A command on its way.
pub(crate) struct Letter<'a, D: Decider> {
    command: D::Command,
    envelope: Cow<'a, Envelope>,
    /// What became of it, once that is certain.
    outcome: Option<Outcome<D>>,
}

impl<'a, D: Decider> Letter<'a, D> {
    pub(crate) fn new(command: D::Command, envelope: Cow<'a, Envelope>) -> Self {
        Self { command, envelope, outcome: None }
    }

    /// What became of it. Everything that was carried out has an outcome.
    pub(crate) fn outcome(self) -> Outcome<D> {
        self.outcome.unwrap_or(Err(ExecuteError::Contended))
    }

    fn is_open(&self) -> bool {
        self.outcome.is_none()
    }
}

/// Where an aggregate's past is.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) store: &'a dyn EventStore,
    pub(crate) stream: &'a StreamName,
    pub(crate) snapshots: Option<&'a Snapshots>,
}

impl Site<'_> {
    /// The aggregate as of its snapshot, if there is one.
    pub(crate) async fn restore<D: Decider>(self) -> Option<Kept<D>> {
        self.snapshots?.restore(self.stream).await
    }
}

/// What is known of the aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knowledge {
    /// What is kept, or that there is nothing yet, is presumed to be all. An append shows whether it is.
    Presumed,
    /// The log has more.
    Outdated,
    /// It was all when the log was asked last, after these commands had come.
    Certain,
}

/// Why everything that is still open comes to nothing.
enum Failure {
    Load(LoadError),
    Log(AppendError),
    Contended,
}

impl Failure {
    fn told<R: std::error::Error>(&self) -> ExecuteError<R> {
        match self {
            Self::Load(error) => ExecuteError::Load(error.clone()),
            Self::Log(error) => ExecuteError::Log(error.clone()),
            Self::Contended => ExecuteError::Contended,
        }
    }
}

/// Carries out commands in their order, on what is kept of their aggregate, and on what the log says where that is not
/// enough. Afterwards each has an outcome.
pub(crate) async fn carry_out<D: Decider>(site: Site<'_>, kept: &mut Kept<D>, letters: &mut [Letter<'_, D>]) {
    if let Err(failure) = attempt(site, kept, letters).await {
        for letter in letters.iter_mut().filter(|letter| letter.is_open()) {
            letter.outcome = Some(Err(failure.told()));
        }
    }
}

async fn attempt<D: Decider>(site: Site<'_>, kept: &mut Kept<D>, letters: &mut [Letter<'_, D>]) -> Result<(), Failure> {
    let Site { store, stream, .. } = site;
    let known = letters.iter().enumerate();
    let known = known.filter_map(|(place, letter)| Some((kept.place_of(letter.envelope.command_id)?, place)));
    let known: Vec<_> = known.collect();
    let places: Vec<usize> = known.iter().map(|(_, place)| *place).collect();
    recall(site, letters, known).await.map_err(Failure::Load)?;
    // What is not where it was has not happened: nothing that is kept holds then.
    let is_void = places.into_iter().any(|place| letters[place].is_open());
    if is_void {
        *kept = Kept::nothing();
    }
    // That there is nothing yet where a command begins an aggregate is presumed without reading, too.
    let first = letters.iter().find(|letter| letter.is_open());
    let is_known = kept.loaded.revision.is_some() || first.is_some_and(|first| D::opens(&first.command));
    let mut knowledge = if is_known && !is_void { Knowledge::Presumed } else { Knowledge::Outdated };
    let (mut attempts, mut alone, mut asked) = (0, false, false);
    while letters.iter().any(Letter::is_open) {
        if knowledge == Knowledge::Outdated {
            read(site, kept, letters).instrument(tracing::debug_span!("load")).await.map_err(Failure::Load)?;
            knowledge = Knowledge::Certain;
        }
        if let Some(base) = kept.base().filter(|_| !asked) {
            asked = ask_snapshot(site, base, letters).await.map_err(Failure::Load)?;
            if !asked {
                (*kept, knowledge) = (Kept::nothing(), Knowledge::Outdated);
            }
            continue;
        }
        let mut plan = Plan::of(stream, kept, letters, alone);
        if plan.events.is_empty() && knowledge == Knowledge::Presumed {
            // What was presumed may be wrong. The log is asked before the answer is no, or that nothing is to be done.
            knowledge = Knowledge::Outdated;
            continue;
        }
        if plan.events.is_empty() {
            plan.settle(stream, kept, letters, Vec::new(), true);
            continue;
        }
        let expected = kept.loaded.expected();
        let append = Append { stream: stream.clone(), expected, events: std::mem::take(&mut plan.events) };
        let appended = store.append_together(append, &plan.lengths).instrument(tracing::debug_span!("append"));
        match appended.await {
            Ok(ends) => {
                // What was appended before, by whoever sent it first, the log takes as well: others may have been there since. So what
                // came to no events holds only where nothing is behind those that did.
                knowledge = if plan.is_all_events() {
                    Knowledge::Presumed
                } else if nothing_behind(site, &ends).await {
                    Knowledge::Certain
                } else {
                    Knowledge::Outdated
                };
                plan.settle(stream, kept, letters, ends, knowledge != Knowledge::Outdated);
            }
            Err(AppendError::Conflict { .. }) => {
                counter!("command_conflicts_total", "category" => D::CATEGORY).increment(1);
                knowledge = Knowledge::Outdated;
                attempts += 1;
                if attempts == MAX_ATTEMPTS {
                    return Err(Failure::Contended);
                }
                // Another process is at the same aggregate. A moment of random length, and they miss each other.
                tokio::time::sleep(pause(attempts - 1)).await;
            }
            // Together they may be more than this log takes at once; whose events are too many alone is seen then.
            Err(AppendError::Limit { .. }) if plan.lengths.len() > 1 => alone = true,
            Err(AppendError::Limit { events, bytes }) => plan.too_large(letters, events, bytes),
            Err(error) => return Err(Failure::Log(error)),
        }
    }
    Ok(())
}

/// Whether a stream ends with what was appended. Where the log does not say, it is presumed not to.
async fn nothing_behind(site: Site<'_>, ends: &[Appended]) -> bool {
    let Some(last) = ends.last() else { return false };
    let behind = site.store.read_stream(site.stream, Some(last.revision + 1), Direction::Forwards, 1).await;
    behind.is_ok_and(|page| page.events.is_empty())
}

/// What would become of a command that came now, with nothing appended. It is decided as any other, on the whole stream.
///
/// # Errors
/// [`LoadError`].
pub(crate) async fn foresee<D: Decider>(
    site: Site<'_>,
    letter: Letter<'_, D>,
) -> Result<Foresight<D::Refusal>, LoadError> {
    let (mut kept, mut letters, stream) = (Kept::nothing(), [letter], site.stream);
    read(site, &mut kept, &mut letters).await?;
    if let Some(base) = kept.base()
        && !ask_snapshot(site, base, &mut letters).await?
    {
        // The snapshot is gone: without it, everything is read.
        kept = Kept::nothing();
        read(Site { snapshots: None, ..site }, &mut kept, &mut letters).await?;
    }
    let revision = kept.loaded.revision;
    let told = |outcome| Foresight { revision, outcome };
    let mut plan = Plan::of(stream, &kept, &letters, true);
    let [letter] = letters;
    if let Some(outcome) = letter.outcome {
        return Ok(told(outcome.map(Prospect::Done)));
    }
    if let Some((_, Verdict::No(error))) = plan.verdicts.pop() {
        return Ok(told(Err(error)));
    }
    if plan.events.len() > MAX_APPEND_EVENTS || plan.size > MAX_APPEND_BYTES {
        return Ok(told(Err(ExecuteError::TooLarge { events: plan.events.len(), bytes: plan.size })));
    }
    let next = revision.map_or(0, |revision| revision + 1);
    let events = (next..).zip(&plan.events).filter_map(|(revision, event)| ForeseenEvent::of(event, revision));
    Ok(told(Ok(Prospect::Events(events.collect()))))
}

/// Answers the commands that were done before the snapshot at `base`. Says whether the snapshot is still there.
async fn ask_snapshot<D: Decider>(site: Site<'_>, base: u64, letters: &mut [Letter<'_, D>]) -> Result<bool, LoadError> {
    let open = letters.iter().filter(|letter| letter.is_open());
    let commands: Vec<Uuid> = open.map(|letter| letter.envelope.command_id).collect();
    let Some(snapshots) = site.snapshots else { return Ok(false) };
    let Some(found) = snapshots.find(site.stream, base, &commands).await? else { return Ok(false) };
    let open = letters.iter().enumerate().filter(|(_, letter)| letter.is_open());
    let known = open.filter_map(|(place, letter)| Some((*found.get(&letter.envelope.command_id)?, place)));
    let known = known.collect();
    recall(site, letters, known).await?;
    Ok(true)
}

/// Answers commands that were done before. `known` is where the events of each begin, and which letter it is. What lies near
/// together is read together, and no more of the stream than that: commands that are sent again come many at a time, and those
/// of a busy aggregate lie in a row.
async fn recall<D: Decider>(
    site: Site<'_>,
    letters: &mut [Letter<'_, D>],
    mut known: Vec<(u64, usize)>,
) -> Result<(), LoadError> {
    known.sort_unstable();
    for near in known.chunk_by(|(one, _), (next, _)| next - one <= NEAR) {
        let (Some((first, _)), Some((last, _))) = (near.first(), near.last()) else { continue };
        let mut looks = HashMap::with_capacity(near.len());
        for (_, place) in near {
            let envelope = &*letters[*place].envelope;
            looks.insert(envelope.command_id, (*place, Earlier::new(envelope)));
        }
        look_up(site, &mut looks, *first, *last).await?;
        let found: Vec<_> = looks.into_values().map(|(place, earlier)| (place, earlier.outcome())).collect();
        tell(letters, found);
    }
    Ok(())
}

/// Notes what was found of commands that may have been done before.
fn tell<D: Decider>(letters: &mut [Letter<'_, D>], found: Vec<(usize, Option<Outcome<D>>)>) {
    for (place, outcome) in found {
        letters[place].outcome = outcome;
    }
}

/// Shows the events of commands to those who look for them. The first of them begin at the revision `first`, the last at `last`.
async fn look_up(
    site: Site<'_>,
    looks: &mut HashMap<Uuid, (usize, Earlier<'_>)>,
    first: u64,
    last: u64,
) -> Result<(), LoadError> {
    let mut from = first;
    loop {
        // Most commands lead to one event, or a few; one that did not probably led to many.
        let limit = match usize::try_from(last.saturating_sub(from)) {
            _ if from > last => 8 * FEW,
            Ok(span) => PAGE.min(span + FEW),
            Err(_) => PAGE,
        };
        let page = site.store.read_stream(site.stream, Some(from), Direction::Forwards, limit).await?;
        for recorded in &page.events {
            let metadata = metadata_of(recorded)?;
            match looks.get_mut(&metadata.command_id) {
                Some((_, earlier)) => {
                    earlier.look_at(recorded, &metadata);
                }
                // A command's events stand side by side: those of the last one have ended.
                None if recorded.revision > last => return Ok(()),
                None => {}
            }
            from = recorded.revision + 1;
        }
        if page.end {
            return Ok(());
        }
    }
}

/// Reads what is new in the stream; where nothing is known of it, from its snapshot on. Commands that were done before get their answer.
async fn read<D: Decider>(site: Site<'_>, kept: &mut Kept<D>, letters: &mut [Letter<'_, D>]) -> Result<(), LoadError> {
    let open = letters.iter().enumerate().filter(|(_, letter)| letter.is_open());
    let mut looks: Vec<_> = open.map(|(place, letter)| (place, Earlier::new(&letter.envelope))).collect();
    let Site { store, stream, .. } = site;
    let mut known = std::mem::replace(kept, Kept::nothing());
    let mut from = "memory";
    if known.loaded.revision.is_none() {
        (known, from) = match site.restore().await {
            Some(restored) => (restored, "snapshot"),
            None => (known, "start"),
        };
    }
    counter!("aggregate_reads_total", "category" => D::CATEGORY, "from" => from).increment(1);
    let look = |recorded: &RecordedEvent, metadata: &Metadata| {
        for (_, earlier) in &mut looks {
            earlier.look_at(recorded, metadata);
        }
    };
    *kept = known.advance(store, stream, look).await?;
    let found = looks.into_iter().map(|(place, earlier)| (place, earlier.outcome())).collect();
    tell(letters, found);
    Ok(())
}

/// What a command led to, if it was done before: the stream is searched for it from its beginning.
///
/// # Errors
/// [`LoadError`].
pub(crate) async fn earlier<R>(
    store: &dyn EventStore,
    stream: &StreamName,
    envelope: &Envelope,
) -> Result<Option<Result<Answer, ExecuteError<R>>>, LoadError>
where
    R: std::error::Error + 'static,
{
    let (mut earlier, mut from) = (Earlier::new(envelope), 0);
    loop {
        let page = store.read_stream(stream, Some(from), Direction::Forwards, PAGE).await?;
        for recorded in &page.events {
            let was_found = earlier.found.is_some();
            let is_more = earlier.look_at(recorded, &metadata_of(recorded)?);
            // A command's events stand side by side.
            if was_found && !is_more {
                return Ok(earlier.outcome());
            }
            from = recorded.revision + 1;
        }
        if page.end {
            return Ok(earlier.outcome());
        }
    }
}

/// Looks among the events of a stream for those of a command that is to be executed.
struct Earlier<'a> {
    envelope: &'a Envelope,
    found: Option<Answer>,
    reused: bool,
}

impl<'a> Earlier<'a> {
    fn new(envelope: &'a Envelope) -> Self {
        Self { envelope, found: None, reused: false }
    }

    /// Looks at the next event. Says whether it is the command's.
    fn look_at(&mut self, recorded: &RecordedEvent, metadata: &Metadata) -> bool {
        if metadata.command_id != self.envelope.command_id {
            return false;
        }
        self.reused |= metadata.command_hash != self.envelope.fingerprint;
        let answer = self.found.get_or_insert_with(|| Answer::empty(&recorded.stream, None, None));
        (answer.revision, answer.position) = (Some(recorded.revision), Some(recorded.position));
        answer.events.push(EventRef {
            id: recorded.id,
            event_type: recorded.event_type.to_string(),
            revision: recorded.revision,
        });
        true
    }

    fn outcome<R: std::error::Error + 'static>(self) -> Option<Result<Answer, ExecuteError<R>>> {
        if self.reused { Some(Err(ExecuteError::KeyReused)) } else { self.found.map(Ok) }
    }
}

/// What was decided on a command, if the log takes the events.
enum Verdict<R: std::error::Error + 'static> {
    Events(Vec<EventRef>),
    Nothing,
    No(ExecuteError<R>),
}

/// What was decided on several commands, one after another.
struct Plan<D: Decider> {
    /// The commands by their places among the letters, in order.
    verdicts: Vec<(usize, Verdict<D::Refusal>)>,
    /// The events of all of them.
    events: Vec<NewEvent>,
    /// How many events each command has that has any.
    lengths: Vec<usize>,
    /// How much of an append's size limit the events take, and how long their data is, in bytes.
    size: usize,
    data: usize,
    /// The state after the commands, but for the events that are not folded in yet. Where only one command has events, what
    /// is kept is not copied.
    ahead: Option<D::State>,
    unfolded: Vec<D::Event>,
}

impl<D: Decider> Plan<D> {
    /// Decides on as many of the open commands as go into one append; `alone`: on no more than one that has events.
    fn of(stream: &StreamName, kept: &Kept<D>, letters: &[Letter<'_, D>], alone: bool) -> Self {
        let mut plan = Self {
            verdicts: Vec::with_capacity(letters.len()),
            events: Vec::new(),
            lengths: Vec::new(),
            size: 0,
            data: 0,
            ahead: None,
            unfolded: Vec::new(),
        };
        for (place, letter) in letters.iter().enumerate().filter(|(_, letter)| letter.is_open()) {
            if alone && !plan.lengths.is_empty() {
                break;
            }
            if !plan.decide(stream, kept, place, letter) {
                break;
            }
        }
        plan
    }

    /// Decides on one more command; `false` when its events do not go into this append.
    fn decide(&mut self, stream: &StreamName, kept: &Kept<D>, place: usize, letter: &Letter<'_, D>) -> bool {
        let Letter { command, envelope, .. } = letter;
        let next = kept.loaded.revision.map_or(0, |revision| revision + 1) + self.events.len() as u64;
        let actual = next.checked_sub(1);
        let verdict = if envelope.precondition.holds(actual) {
            match D::decide(self.state(kept), command.clone()) {
                Err(refusal) => Verdict::No(ExecuteError::Refused(refusal)),
                Ok(decided) if decided.is_empty() => Verdict::Nothing,
                Ok(decided) => match self.take(next, decided, envelope) {
                    Ok(Some(events)) => Verdict::Events(events),
                    Ok(None) => return false,
                    Err(error) => {
                        tracing::error!(%error, stream = %stream, "an event cannot be written down");
                        Verdict::No(ExecuteError::Codec(error))
                    }
                },
            }
        } else {
            Verdict::No(ExecuteError::PreconditionFailed { actual })
        };
        self.verdicts.push((place, verdict));
        true
    }

    /// The state after what was decided so far.
    fn state<'a>(&'a mut self, kept: &'a Kept<D>) -> &'a D::State {
        if !self.unfolded.is_empty() {
            let state = self.ahead.take().unwrap_or_else(|| kept.loaded.state.clone());
            self.ahead = Some(self.unfolded.iter().fold(state, D::evolve));
            self.unfolded.clear();
        }
        self.ahead.as_ref().unwrap_or(&kept.loaded.state)
    }

    /// Takes a command's events, of which the first gets this revision; `None` when they are too many for one append with
    /// those before.
    fn take(
        &mut self,
        next: u64,
        decided: Vec<D::Event>,
        envelope: &Envelope,
    ) -> Result<Option<Vec<EventRef>>, CodecError> {
        let events = decided.iter().enumerate().map(|(index, event)| to_store(event, index, envelope));
        let events = events.collect::<Result<Vec<_>, _>>()?;
        let size: usize = events.iter().map(NewEvent::size).sum();
        let fits = self.events.len() + events.len() <= MAX_APPEND_EVENTS && self.size + size <= MAX_APPEND_BYTES;
        if !fits && !self.events.is_empty() {
            return Ok(None);
        }
        let named = (next..).zip(&events).map(|(revision, event)| EventRef {
            id: event.id,
            event_type: event.event_type.to_string(),
            revision,
        });
        let named = named.collect();
        self.size += size;
        self.data += events.iter().map(|event| event.data.len()).sum::<usize>();
        self.lengths.push(events.len());
        self.events.extend(events);
        self.unfolded.extend(decided);
        Ok(Some(named))
    }

    /// Whether no command was refused, or came to nothing.
    fn is_all_events(&self) -> bool {
        self.verdicts.len() == self.lengths.len()
    }

    /// The log has taken the events, and says where those of each command end: what was decided is what happened. What came to no
    /// events is left open, unless the state that it was decided on `is_latest`.
    fn settle(
        self,
        stream: &StreamName,
        kept: &mut Kept<D>,
        letters: &mut [Letter<'_, D>],
        ends: Vec<Appended>,
        is_latest: bool,
    ) {
        let Loaded { mut revision, mut position, .. } = kept.loaded;
        let mut ends = ends.into_iter();
        for (place, verdict) in self.verdicts {
            let letter = &mut letters[place];
            letter.outcome = Some(match verdict {
                Verdict::No(_) | Verdict::Nothing if !is_latest => continue,
                Verdict::No(error) => Err(error),
                Verdict::Nothing => Ok(Answer::empty(stream, revision, position)),
                Verdict::Events(events) => {
                    if let Some(end) = ends.next() {
                        (revision, position) = (Some(end.revision), Some(end.position));
                    }
                    if let (Some(first), Some(last)) = (events.first(), events.last()) {
                        kept.note(letter.envelope.command_id, first.revision, last.id);
                    }
                    Ok(Answer { events, ..Answer::empty(stream, revision, position) })
                }
            });
        }
        kept.follow(self.ahead, &self.unfolded, (self.lengths.iter().sum(), self.data), (revision, position));
    }

    /// One command's events are more than the log takes at once. The others are decided anew, without them.
    fn too_large(self, letters: &mut [Letter<'_, D>], events: usize, bytes: usize) {
        let at_fault = self.verdicts.iter().find(|(_, verdict)| matches!(verdict, Verdict::Events(_)));
        if let Some(&(place, _)) = at_fault {
            letters[place].outcome = Some(Err(ExecuteError::TooLarge { events, bytes }));
        }
    }
}

impl Answer {
    /// That nothing was to be done at a stream that ends here.
    fn empty(stream: &StreamName, revision: Option<u64>, position: Option<Position>) -> Self {
        Self { stream: stream.to_string(), revision, position, events: Vec::new() }
    }
}

/// How long to wait after a conflict: nothing after the first, then at random up to 2 ms, 4 ms, … 32 ms.
fn pause(attempt: u32) -> Duration {
    let longest = if attempt == 0 { 0 } else { 1_000_u64 << attempt.min(5) };
    // The low bits of a fresh UUID are as random as any, and no other source of chance is needed here.
    let chance = Uuid::new_v4().as_u128() as u64;
    Duration::from_micros(chance.checked_rem(longest).unwrap_or(0))
}

fn to_store<E: StoredEvent>(event: &E, index: usize, envelope: &Envelope) -> Result<NewEvent, CodecError> {
    let encoded = event.encode()?;
    let (id, event_type) = (envelope.event_id(index, &encoded), encoded.event_type);
    let metadata = Metadata {
        correlation_id: envelope.correlation_id,
        causation_id: envelope.causation_id,
        schema: encoded.schema,
        command_id: envelope.command_id,
        command_hash: envelope.fingerprint.clone(),
        actor: envelope.actor.clone(),
        tenant: None,
        traceparent: envelope.traceparent.clone(),
        occurred_at: envelope.now,
    };
    Ok(NewEvent {
        id,
        event_type: EventType::new(event_type)
            .map_err(|_| CodecError::UnknownType { event_type: event_type.to_owned() })?,
        data: encoded.data.into(),
        metadata: metadata.to_bytes().map_err(|source| CodecError::Encode { event_type, source })?,
    })
}
