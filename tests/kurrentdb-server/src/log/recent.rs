//! The ids that were written lately.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use uuid::Uuid;

/// A bounded memory of event ids: the oldest are forgotten first.
#[derive(Debug)]
pub(super) struct Recent {
    capacity: usize,
    events: HashMap<Uuid, (Arc<str>, u64)>,
    order: VecDeque<Uuid>,
}

impl Recent {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, events: HashMap::new(), order: VecDeque::new() }
    }

    pub(super) fn remember(&mut self, id: Uuid, stream: Arc<str>, revision: u64) {
        if self.events.insert(id, (stream, revision)).is_none() {
            self.order.push_back(id);
        }
        while self.order.len() > self.capacity {
            if let Some(oldest) = self.order.pop_front() {
                self.events.remove(&oldest);
            }
        }
    }

    /// As which event of the stream the id was written, if it is remembered.
    pub(super) fn revision(&self, id: &Uuid, stream: &str) -> Option<u64> {
        self.events.get(id).filter(|(written_to, _)| **written_to == *stream).map(|(_, revision)| *revision)
    }
}
