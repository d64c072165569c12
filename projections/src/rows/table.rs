//! The rows of one table as a fold has them in memory.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::io;

use super::Row;
use super::spill::Spill;

/// A row that the fold asked for is not in memory. The runtime loads it and folds again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotLoaded;

/// How many rows of a table stay in memory from one batch to the next.
const KEPT: usize = if cfg!(test) { 3 } else { 2_000 };

/// How many bytes are handed over at a time.
const CHUNK: usize = 256 * 1024;

/// The rows of one table that a batch touches.
///
/// A fold reads with [`get`](Self::get) and writes whole rows with [`put`](Self::put). Nothing it writes counts until
/// the batch is folded to its end.
#[derive(Debug)]
pub struct Rows<R: Row> {
    /// What is in the table, as far as it was loaded; `None` for a row that is not there. In a fold that has everything: what
    /// was not touched lately.
    loaded: HashMap<R::Key, Option<R>>,
    /// What the fold made of it; `None` for a row that goes.
    changed: HashMap<R::Key, Option<R>>,
    /// What the fold asked for in vain.
    wanted: Vec<R::Key>,
    /// What stood in `changed` before the event that is being folded.
    before: Vec<(R::Key, Option<Option<R>>)>,
    /// Whether a row that is not in memory is not in the table either, as in a rebuild.
    complete: bool,
    /// How many bytes may be in memory, about.
    limit: Option<usize>,
    /// How many bytes a row has in the form in which it is copied, on average of the last ones.
    row_bytes: usize,
    /// What was brought back into memory and is in the file as it is here.
    clean: HashSet<R::Key>,
    /// What did not fit into memory.
    spill: Option<Spill<R>>,
    /// Why a row could not be brought back into memory.
    failed: Option<io::Error>,
}

impl<R: Row> Rows<R> {
    /// No rows in memory. With `complete` the table is empty too, and everything that will be in it is put here.
    pub fn new(complete: bool) -> Self {
        Self {
            loaded: HashMap::new(),
            changed: HashMap::new(),
            wanted: Vec::new(),
            before: Vec::new(),
            complete,
            limit: None,
            row_bytes: 0,
            clean: HashSet::new(),
            spill: None,
            failed: None,
        }
    }

    /// The row with this key, or `None` when there is none.
    ///
    /// # Errors
    /// [`NotLoaded`] when it has to be loaded first; pass it on with `?`.
    pub fn get(&mut self, key: &R::Key) -> Result<Option<&R>, NotLoaded> {
        if let Some(spill) = &self.spill
            && !self.changed.contains_key(key)
            && !self.loaded.contains_key(key)
        {
            match spill.read(key) {
                Ok(None) => return Ok(None),
                Ok(row) => {
                    self.loaded.insert(key.clone(), row);
                    self.clean.insert(key.clone());
                }
                Err(error) => {
                    self.failed = Some(error);
                    return Err(NotLoaded);
                }
            }
        }
        match self.changed.get(key).or_else(|| self.loaded.get(key)) {
            Some(row) => Ok(row.as_ref()),
            None if self.complete => Ok(None),
            None => {
                self.wanted.push(key.clone());
                Err(NotLoaded)
            }
        }
    }

    /// Writes a row over what has its key.
    pub fn put(&mut self, row: R) {
        let key = row.key();
        let before = self.changed.insert(key.clone(), Some(row));
        self.before.push((key, before));
    }

    /// Takes a row away.
    pub fn remove(&mut self, key: R::Key) {
        let before = self.changed.insert(key.clone(), None);
        self.before.push((key, before));
    }

    /// The rows that were put, in the order of their keys. Of a fold that has everything: all that are in memory.
    pub fn written(&self) -> Vec<&R> {
        let shadowed = |key: &R::Key| !self.complete || self.changed.contains_key(key);
        let untouched = self.loaded.iter().filter(|(key, _)| !shadowed(key));
        let mut rows: Vec<(&R::Key, &R)> =
            self.changed.iter().chain(untouched).filter_map(|(key, row)| Some((key, row.as_ref()?))).collect();
        rows.sort_unstable_by_key(|(key, _)| *key);
        rows.into_iter().map(|(_, row)| row).collect()
    }

    /// About how many bytes of memory a row takes.
    fn weight(&self) -> usize {
        // A hash table is between half full and full.
        size_of::<(R::Key, Option<R>)>() * 3 / 2 + self.row_bytes
    }

    /// Takes note of how large rows are, by the last one.
    fn weigh(&mut self) {
        if let Some((key, _)) = self.before.last()
            && let Some(Some(row)) = self.changed.get(key)
        {
            let mut bytes = Vec::new();
            row.copy(&mut bytes);
            self.row_bytes = if self.row_bytes == 0 { bytes.len() } else { (7 * self.row_bytes + bytes.len()) / 8 };
        }
    }
}

/// Rows that are put once and never looked at again: the lines of an order, the entries of a book. In a rebuild they are on
/// their way to the database while the fold goes on, and take no memory.
#[derive(Debug)]
pub struct Appended<R: Row>(Rows<R>);

impl<R: Row> Appended<R> {
    /// Writes a row. No other one may ever have its key.
    pub fn put(&mut self, row: R) {
        self.0.put(row);
    }

    /// The rows that were put, in the order of their keys.
    pub fn written(&self) -> Vec<&R> {
        self.0.written()
    }
}

/// What the runtime does with the rows of a table.
#[doc(hidden)]
pub trait Table: Debug + Send + Sync + 'static {
    type Row: Row;
    /// Whether a row that is written may be there already.
    const OVERWRITES: bool;

    /// See [`Rows::new`].
    fn new(complete: bool) -> Self;
    /// How many bytes of memory the rows may take, about; what was not touched lately is then kept in a file.
    fn limit(&mut self, bytes: usize);
    /// The rows that were put, in the order of their keys.
    fn written(&self) -> Vec<&Self::Row>;
    /// The keys that were taken away.
    fn removed(&self) -> Vec<<Self::Row as Row>::Key>;
    /// What the fold asked for in vain since the last time, each key once.
    fn take_wanted(&mut self) -> Vec<<Self::Row as Row>::Key>;
    /// Takes in what was found under the wanted keys.
    fn load(&mut self, wanted: Vec<<Self::Row as Row>::Key>, found: Vec<Self::Row>);
    /// Takes in what was asked for from rows that are all there are. Says whether there was anything.
    fn load_from(&mut self, all: &Self) -> bool;
    /// Writes what the fold made over rows that are all there are.
    fn write_to(self, all: &mut Self);
    /// From here on the next event is folded: what was made so far stays.
    fn begin(&mut self);
    /// Takes back what the event made that was being folded.
    fn take_back(&mut self);
    /// Whether the fold made nothing.
    fn is_unchanged(&self) -> bool;
    /// Forgets what the fold made, so that it can fold again.
    fn reset(&mut self);
    /// What the fold made is in the table now; some of it stays in memory, to be asked for without a way to the database.
    fn keep(&mut self);
    /// Forgets everything.
    fn clear(&mut self);
    /// Nothing that was folded so far is taken back. What does not fit into memory leaves it.
    fn settle(&mut self) -> io::Result<()>;
    /// As [`settle`](Self::settle); the rows that will not change any more are handed over, in the binary format of `copy`.
    fn pour_settled(&mut self, out: &mut dyn FnMut(Vec<u8>)) -> io::Result<()>;
    /// Hands over all rows.
    fn pour(&mut self, out: &mut dyn FnMut(Vec<u8>)) -> io::Result<()>;
    /// The row with this key, which is not in here any more.
    fn take(&mut self, key: &<Self::Row as Row>::Key) -> io::Result<Option<Self::Row>>;
    /// Takes every row that is left.
    fn rest(&mut self, each: &mut dyn FnMut(Self::Row)) -> io::Result<()>;
    /// Why a row that was asked for could not be had, if so.
    fn failed(&mut self) -> Option<io::Error>;
}

impl<R: Row> Table for Rows<R> {
    type Row = R;
    const OVERWRITES: bool = true;

    fn new(complete: bool) -> Self {
        Self::new(complete)
    }

    fn limit(&mut self, bytes: usize) {
        self.limit = Some(bytes);
    }

    fn written(&self) -> Vec<&R> {
        self.written()
    }

    fn removed(&self) -> Vec<R::Key> {
        self.changed.iter().filter(|(_, row)| row.is_none()).map(|(key, _)| key.clone()).collect()
    }

    fn take_wanted(&mut self) -> Vec<R::Key> {
        let mut wanted = std::mem::take(&mut self.wanted);
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    fn load(&mut self, wanted: Vec<R::Key>, found: Vec<R>) {
        self.loaded.extend(wanted.into_iter().map(|key| (key, None)));
        self.loaded.extend(found.into_iter().map(|row| (row.key(), Some(row))));
    }

    fn load_from(&mut self, all: &Self) -> bool {
        let wanted = self.take_wanted();
        let any = !wanted.is_empty();
        let found = wanted.iter().filter_map(|key| all.changed.get(key).cloned().flatten()).collect();
        self.load(wanted, found);
        any
    }

    fn write_to(self, all: &mut Self) {
        all.changed.extend(self.changed);
    }

    fn begin(&mut self) {
        self.before.clear();
    }

    fn take_back(&mut self) {
        while let Some((key, before)) = self.before.pop() {
            match before {
                Some(row) => self.changed.insert(key, row),
                None => self.changed.remove(&key),
            };
        }
    }

    fn is_unchanged(&self) -> bool {
        self.changed.is_empty()
    }

    fn reset(&mut self) {
        self.changed.clear();
        self.before.clear();
    }

    fn keep(&mut self) {
        // What is asked for all the time is soon here again.
        if self.loaded.len() + self.changed.len() > KEPT {
            self.loaded.clear();
        }
        self.loaded.extend(self.changed.drain());
        self.before.clear();
    }

    fn clear(&mut self) {
        self.loaded.clear();
        self.clean.clear();
        self.reset();
    }

    fn settle(&mut self) -> io::Result<()> {
        self.weigh();
        self.before.clear();
        let Some(limit) = self.limit.filter(|limit| self.changed.len() * self.weight() > limit / 2) else {
            return Ok(());
        };
        // What was touched since the last time stays; what was not touched since the time before goes.
        let cold = std::mem::replace(&mut self.loaded, std::mem::take(&mut self.changed));
        tracing::debug!(table = R::TABLE, rows = cold.len(), limit, "rows leave the memory");
        let spill = match &mut self.spill {
            Some(spill) => spill,
            none => none.insert(Spill::new()?),
        };
        let clean = std::mem::take(&mut self.clean);
        spill.write(cold.into_iter().filter(|(key, _)| !self.loaded.contains_key(key) && !clean.contains(key)))
    }

    fn pour_settled(&mut self, _: &mut dyn FnMut(Vec<u8>)) -> io::Result<()> {
        self.settle()
    }

    fn pour(&mut self, out: &mut dyn FnMut(Vec<u8>)) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(2 * CHUNK);
        let mut send = |buffer: &mut Vec<u8>, least: usize| {
            if buffer.len() > least {
                out(std::mem::replace(buffer, Vec::with_capacity(2 * CHUNK)));
            }
        };
        for row in self.written() {
            row.copy(&mut buffer);
            send(&mut buffer, CHUNK);
        }
        if let Some(mut spill) = self.spill.take() {
            self.changed.keys().chain(self.loaded.keys()).for_each(|key| spill.forget(key));
            spill.each(|row| {
                buffer.extend_from_slice(row);
                send(&mut buffer, CHUNK);
                Ok(())
            })?;
        }
        send(&mut buffer, 0);
        self.clear();
        Ok(())
    }

    fn take(&mut self, key: &R::Key) -> io::Result<Option<R>> {
        let in_memory = [self.changed.remove(key), self.loaded.remove(key)].into_iter().flatten().next();
        let spilled = match &mut self.spill {
            Some(spill) if in_memory.is_none() => spill.take(key)?,
            Some(spill) => {
                spill.forget(key);
                None
            }
            None => None,
        };
        Ok(in_memory.unwrap_or(spilled))
    }

    fn rest(&mut self, each: &mut dyn FnMut(R)) -> io::Result<()> {
        self.written().into_iter().cloned().for_each(&mut *each);
        if let Some(mut spill) = self.spill.take() {
            self.changed.keys().chain(self.loaded.keys()).for_each(|key| spill.forget(key));
            spill.each(|row| R::parse(row).map(&mut *each).ok_or_else(|| io::Error::other("a row cannot be read")))?;
        }
        self.clear();
        Ok(())
    }

    fn failed(&mut self) -> Option<io::Error> {
        self.failed.take()
    }
}

impl<R: Row> Table for Appended<R> {
    type Row = R;
    const OVERWRITES: bool = false;

    fn new(complete: bool) -> Self {
        Self(Rows::new(complete))
    }

    fn limit(&mut self, bytes: usize) {
        self.0.limit(bytes);
    }

    fn written(&self) -> Vec<&R> {
        self.0.written()
    }

    fn removed(&self) -> Vec<R::Key> {
        Vec::new()
    }

    fn take_wanted(&mut self) -> Vec<R::Key> {
        Vec::new()
    }

    fn load(&mut self, _: Vec<R::Key>, _: Vec<R>) {}

    fn load_from(&mut self, _: &Self) -> bool {
        false
    }

    fn write_to(self, all: &mut Self) {
        self.0.write_to(&mut all.0);
    }

    fn begin(&mut self) {
        self.0.begin();
    }

    fn take_back(&mut self) {
        self.0.take_back();
    }

    fn is_unchanged(&self) -> bool {
        self.0.is_unchanged()
    }

    fn reset(&mut self) {
        self.0.reset();
    }

    fn keep(&mut self) {
        self.0.reset();
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn settle(&mut self) -> io::Result<()> {
        self.0.settle()
    }

    fn pour_settled(&mut self, out: &mut dyn FnMut(Vec<u8>)) -> io::Result<()> {
        self.0.pour(out)
    }

    fn pour(&mut self, out: &mut dyn FnMut(Vec<u8>)) -> io::Result<()> {
        self.0.pour(out)
    }

    fn take(&mut self, key: &R::Key) -> io::Result<Option<R>> {
        self.0.take(key)
    }

    fn rest(&mut self, each: &mut dyn FnMut(R)) -> io::Result<()> {
        self.0.rest(each)
    }

    fn failed(&mut self) -> Option<io::Error> {
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(unreachable_pub, reason = "rows are declared public wherever they stand")]

    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    crate::row! {
        /// A note on something.
        pub struct NoteRow in "notes", key { id: i64 } {
            text: String,
            author: Option<Uuid>,
        }
        /// What somebody answered.
        optional answer: Answer {
            answered: i32,
            by: Option<String>,
        }
    }

    fn note(id: i64, text: &str) -> NoteRow {
        let answer = Answer { answered: 1, by: Some(text.to_owned()) };
        NoteRow {
            id,
            text: text.to_owned(),
            author: (id % 2 == 0).then_some(Uuid::from_u128(7)),
            answer: (id % 3 == 0).then(|| Box::new(answer)),
        }
    }

    /// What a fold does between two pages.
    #[derive(Debug, Clone)]
    enum Step {
        Put(i64, String),
        Remove(i64),
        Get(i64),
        TakeBack,
        Settle,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let id = 0..40_i64;
        prop_oneof![
            6 => (id.clone(), "[a-z]{0,40}").prop_map(|(id, text)| Step::Put(id, text)),
            1 => id.clone().prop_map(Step::Remove),
            3 => id.prop_map(Step::Get),
            1 => Just(Step::TakeBack),
            2 => Just(Step::Settle),
        ]
    }

    /// What a table is to be: the rows that settled, and the rows with what is folded now.
    #[derive(Default)]
    struct Model {
        before: BTreeMap<i64, NoteRow>,
        now: BTreeMap<i64, NoteRow>,
    }

    fn run(rows: &mut Rows<NoteRow>, steps: &[Step]) -> BTreeMap<i64, NoteRow> {
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Put(id, text) => {
                    rows.put(note(*id, text));
                    model.now.insert(*id, note(*id, text));
                }
                Step::Remove(id) => {
                    rows.remove((*id,));
                    model.now.remove(id);
                }
                Step::Get(id) => assert_eq!(rows.get(&(*id,)).unwrap(), model.now.get(id)),
                Step::TakeBack => {
                    rows.take_back();
                    model.now = model.before.clone();
                }
                Step::Settle => {
                    rows.settle().unwrap();
                    model.before = model.now.clone();
                }
            }
        }
        model.now
    }

    proptest! {
        /// With room for nothing, every row leaves the memory at each chance.
        #[test]
        fn what_does_not_fit_into_memory_is_not_lost(
            steps in proptest::collection::vec(any_step(), 0..200), room in prop_oneof![Just(0), Just(2_000)], by_row: bool,
        ) {
            let mut rows = Rows::<NoteRow>::new(true);
            Table::limit(&mut rows, room);
            let expected = run(&mut rows, &steps);
            let mut found = BTreeMap::new();
            if by_row {
                for id in (0..40).step_by(2) {
                    let row = rows.take(&(id,)).unwrap();
                    prop_assert_eq!(row.as_ref(), expected.get(&id));
                    found.extend(row.map(|row| (id, row)));
                }
                rows.rest(&mut |row| assert!(found.insert(row.id, row).is_none(), "twice")).unwrap();
            } else {
                let mut poured = Vec::new();
                rows.pour(&mut |chunk| poured.extend(chunk)).unwrap();
                let mut wanted = Vec::new();
                expected.values().for_each(|row| row.copy(&mut wanted));
                prop_assert_eq!(poured.len(), wanted.len());
                // Rows come as they were written; each is told by its length.
                let mut left = poured.as_slice();
                while !left.is_empty() {
                    let row = NoteRow::parse(left).unwrap();
                    let mut bytes = Vec::new();
                    row.copy(&mut bytes);
                    left = left.strip_prefix(bytes.as_slice()).unwrap();
                    prop_assert!(found.insert(row.id, row).is_none(), "twice");
                }
            }
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_is_larger_than_the_room_leaves_the_memory() {
        let mut rows = Rows::<NoteRow>::new(true);
        Table::limit(&mut rows, 100_000);
        for id in 0..20_000 {
            rows.put(note(id, "one of many"));
            if id % 100 == 99 {
                rows.settle().unwrap();
            }
        }
        let in_memory = rows.changed.len() + rows.loaded.len();
        assert!(in_memory * rows.weight() < 150_000, "{in_memory} rows");
        assert_eq!(rows.get(&(3,)).unwrap(), Some(&note(3, "one of many")));
    }
}
