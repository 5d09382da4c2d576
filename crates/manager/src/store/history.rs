//! The states of the value that somebody has not looked at yet, one after the other.
//!
//! Filled while proposals are applied, which must not wait; emptied by `manager::events`, which tells what happened
//! between two states. A state shares all but its difference with the next.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use control::Tables;
use tokio::sync::Notify;
use types::Timestamp;

/// States that may wait. Far more than a reader falls behind by while it computes a difference; few enough that what
/// they hold beside the present state (a few pages each) is some megabytes. A manager that catches up with a long log
/// makes more: then the oldest ones are merged.
const MAX_WAITING: usize = 256;

/// The value after one proposal.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) tables: Tables,
    /// When it was proposed; `None` where that is not known.
    pub(crate) at: Option<Timestamp>,
    /// False if states between the one before and this one are not told of.
    pub(crate) is_gapless: bool,
}

/// A cheap handle; copies share the states.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    waiting: Arc<Mutex<VecDeque<Step>>>,
    arrived: Arc<Notify>,
}

impl History {
    /// After a proposal.
    pub(crate) fn push(&self, tables: Tables, at: Timestamp) {
        self.add(Step { tables, at: Some(at), is_gapless: true });
    }

    /// After a jump: the proposals between were not seen.
    pub(crate) fn jump(&self, tables: Tables) {
        self.add(Step { tables, at: None, is_gapless: false });
    }

    fn add(&self, step: Step) {
        let mut waiting = self.lock();
        if waiting.len() == MAX_WAITING {
            waiting.pop_front();
            if let Some(oldest) = waiting.front_mut() {
                oldest.is_gapless = false;
            }
        }
        waiting.push_back(step);
        drop(waiting);
        self.arrived.notify_one();
    }

    /// The next state, if there is one.
    pub(crate) fn try_next(&self) -> Option<Step> {
        self.lock().pop_front()
    }

    /// The next state; for one reader.
    pub(crate) async fn next(&self) -> Step {
        loop {
            if let Some(step) = self.try_next() {
                return step;
            }
            self.arrived.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Step>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn c_36_a_reader_far_behind_learns_that_there_was_more() {
        let history = History::default();
        for number in 0..=MAX_WAITING {
            history.push(Tables::default(), Timestamp::from_unix_ms(number as u64));
        }
        let first = history.next().await;
        assert_eq!((first.at, first.is_gapless), (Some(Timestamp::from_unix_ms(1)), false), "the oldest gave way");
        let second = history.next().await;
        assert_eq!((second.at, second.is_gapless), (Some(Timestamp::from_unix_ms(2)), true));
        while history.try_next().is_some() {}
        history.jump(Tables::default());
        assert!(!history.next().await.is_gapless);
    }
}
