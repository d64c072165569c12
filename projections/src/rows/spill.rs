//! Rows that a long fold has not touched for a while, in a file: an append-only file of rows and an index of the newest place
//! of each key in memory, as in Bitcask (Sheehy and Smith, "Bitcask: a log-structured hash table for fast key/value data",
//! 2010).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;

use super::Row;

/// How many bytes are read or written at a time.
const CHUNK: usize = 256 * 1024;
/// A file of this many bytes is written anew when more than half of it is of no use any more.
const WORTH_IT: u64 = if cfg!(test) { 1_000 } else { 64 << 20 };

/// Where a row stands in the file.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: u64,
    length: u32,
}

/// Rows in a file that goes with this value, or with the process.
#[derive(Debug)]
pub(super) struct Spill<R: Row> {
    file: File,
    end: u64,
    index: HashMap<R::Key, Place>,
    /// How many bytes of the file are the newest of their key.
    live: u64,
}

impl<R: Row> Spill<R> {
    /// A file without a name in the directory for temporary files.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile()?, end: 0, index: HashMap::new(), live: 0 })
    }

    /// Writes rows over what has their keys; `None` for one that goes.
    pub(super) fn write(&mut self, rows: impl IntoIterator<Item = (R::Key, Option<R>)>) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(2 * CHUNK);
        for (key, row) in rows {
            self.forget(&key);
            let Some(row) = row else { continue };
            let before = buffer.len();
            row.copy(&mut buffer);
            let length = u32::try_from(buffer.len() - before).map_err(io::Error::other)?;
            self.index.insert(key, Place { start: self.end + before as u64, length });
            self.live += u64::from(length);
            if buffer.len() >= CHUNK {
                self.append(&mut buffer)?;
            }
        }
        self.append(&mut buffer)?;
        if self.end > WORTH_IT && self.live < self.end / 2 { self.compact() } else { Ok(()) }
    }

    /// Writes what is of use into a file of its own.
    fn compact(&mut self) -> io::Result<()> {
        let mut fresh = Self::new()?;
        let mut places: Vec<(R::Key, Place)> = std::mem::take(&mut self.index).into_iter().collect();
        places.sort_unstable_by_key(|(_, place)| place.start);
        let mut buffer = Vec::with_capacity(2 * CHUNK);
        for (key, Place { start, length }) in places {
            let before = buffer.len();
            buffer.resize(before + length as usize, 0);
            self.file.read_exact_at(&mut buffer[before..], start)?;
            fresh.index.insert(key, Place { start: fresh.end + before as u64, length });
            fresh.live += u64::from(length);
            if buffer.len() >= CHUNK {
                fresh.append(&mut buffer)?;
            }
        }
        fresh.append(&mut buffer)?;
        *self = fresh;
        Ok(())
    }

    fn append(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        // Reads are at a place of their own, so the end of the file is where this handle stands.
        self.file.write_all(buffer)?;
        self.end += buffer.len() as u64;
        buffer.clear();
        Ok(())
    }

    /// The row with this key.
    pub(super) fn read(&self, key: &R::Key) -> io::Result<Option<R>> {
        let Some(place) = self.index.get(key) else { return Ok(None) };
        let mut bytes = vec![0; place.length as usize];
        self.file.read_exact_at(&mut bytes, place.start)?;
        R::parse(&bytes).map(Some).ok_or_else(|| io::Error::other("a row that was written cannot be read"))
    }

    /// The row with this key, which is not in here any more.
    pub(super) fn take(&mut self, key: &R::Key) -> io::Result<Option<R>> {
        let row = self.read(key)?;
        self.forget(key);
        Ok(row)
    }

    /// From here on there is no row with this key.
    pub(super) fn forget(&mut self, key: &R::Key) {
        if let Some(place) = self.index.remove(key) {
            self.live -= u64::from(place.length);
        }
    }

    /// Every row, as it was written, in the order of the file.
    pub(super) fn each(self, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut places: Vec<Place> = self.index.into_values().collect();
        places.sort_unstable_by_key(|place| place.start);
        let (mut buffer, mut start) = (Vec::new(), 0);
        for Place { start: place, length } in places {
            let length = length as usize;
            // The places only ever go up, so what is before this one is not asked for again.
            if place + length as u64 > start + buffer.len() as u64 {
                let left = usize::try_from(self.end - place).unwrap_or(usize::MAX);
                buffer.resize(left.min(CHUNK.max(length)), 0);
                self.file.read_exact_at(&mut buffer, place)?;
                start = place;
            }
            let from = usize::try_from(place - start).map_err(io::Error::other)?;
            each(&buffer[from..from + length])?;
        }
        Ok(())
    }
}
