//! One who watches: first the past that it asked for, then what happens, at its own pace.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::watch;

use super::{Event, Events, Rings};

/// Fetches events one by one; what it has not fetched waits in the rings.
#[derive(Debug)]
pub struct Reader {
    events: Events,
    newest: watch::Receiver<u64>,
    pub(super) past: VecDeque<Arc<Event>>,
    /// Number of the last event that was looked at.
    last: u64,
    /// It knows the cluster up to this step.
    known_index: Option<u64>,
}

/// The reader was too slow: what it would have got next is not kept any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client was too slow and missed events: begin anew, or go on from the last index with fromIndex")]
pub struct Missed;

/// Why a reader cannot go on from a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResumeError {
    #[error(
        "events after index {index} are not complete here any more: the oldest index to go on from is {oldest}. List \
         the objects anew, then go on from an index not below it"
    )]
    TooOld { index: u64, oldest: u64 },
    #[error("This node is not a swarm manager: it has no events of the cluster to go on from. Ask a manager")]
    NoManager,
}

impl Reader {
    pub(super) fn new(events: Events, past: Vec<Arc<Event>>, last: u64) -> Self {
        let newest = events.shared.newest.subscribe();
        Self { events, newest, past: past.into(), last, known_index: None }
    }

    pub(super) fn knowing(self, index: u64) -> Self {
        Self { known_index: Some(index), ..self }
    }

    /// The next event, waiting for it to happen. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// When it is not kept any more.
    pub async fn next(&mut self) -> Result<Arc<Event>, Missed> {
        if let Some(event) = self.past.pop_front() {
            return Ok(event);
        }
        loop {
            self.newest.borrow_and_update();
            let found = self.look()?;
            match found {
                // of steps ahead of this manager, which the reader knows from another one
                Some(event) if event.index.is_some_and(|index| self.known_index.is_some_and(|k| index <= k)) => {}
                Some(event) => return Ok(event),
                // the other end is there as long as this reader, which has a handle on it
                None => _ = self.newest.changed().await,
            }
        }
    }

    /// What is there already.
    fn look(&mut self) -> Result<Option<Arc<Event>>, Missed> {
        let events = self.events.clone();
        let rings = events.lock();
        let Rings { own, cluster, newest } = &*rings;
        if own.dropped > self.last || cluster.dropped() > self.last {
            return Err(Missed);
        }
        let next = own.after(self.last).into_iter().chain(cluster.after(self.last)).min_by_key(|entry| entry.number);
        self.last = next.map_or(*newest, |entry| entry.number);
        Ok(next.map(|entry| Arc::clone(&entry.event)))
    }
}
