//! What became of writes whose leader went away before it answered.
//!
//! A write carries a number of its asker into the log. Whatever manager applies it tells the askers that wait
//! on that manager. So once the next leader's log has reached the asker's manager, a write is known to have
//! happened (it was applied here) or never to happen (it is not in the log), and can be asked for again.
//! Nothing of this is on disk: an asker that is gone asks no more.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot::{self, error::TryRecvError};
use types::WriteReply;

/// What goes into the log with a write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    /// Drawn at random by the asker; 0 is nobody's.
    pub(crate) number: u64,
    /// What the asker is told.
    pub(crate) reply: WriteReply,
}

/// Who waits on this manager. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Receipts(Arc<Mutex<HashMap<u64, oneshot::Sender<WriteReply>>>>);

/// One asker; waits no more once it is dropped.
#[derive(Debug)]
pub(crate) struct Awaited {
    receipts: Receipts,
    number: u64,
    reply: oneshot::Receiver<WriteReply>,
}

/// What is known of a write on this manager, up to the index that it has applied.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Applied(WriteReply),
    NotApplied,
    Unknown,
}

impl Receipts {
    pub(crate) fn wait_for(&self, number: u64) -> Awaited {
        let (tell, reply) = oneshot::channel();
        self.lock().insert(number, tell);
        Awaited { receipts: self.clone(), number, reply }
    }

    /// A write was applied on this manager.
    pub(crate) fn applied(&self, receipt: Receipt) {
        if let Some(tell) = self.lock().remove(&receipt.number) {
            // the asker may just have been answered by the leader
            let _ = tell.send(receipt.reply);
        }
    }

    /// Writes were applied without being seen one by one: of those that are waited for nothing can be said any more.
    pub(crate) fn lose_track(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<WriteReply>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Awaited {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn look(&mut self) -> Seen {
        match self.reply.try_recv() {
            Ok(reply) => Seen::Applied(reply),
            Err(TryRecvError::Empty) => Seen::NotApplied,
            Err(TryRecvError::Closed) => Seen::Unknown,
        }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.receipts.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_told_and_who_left_leaves_nothing_behind() {
        let receipts = Receipts::default();
        let mut first = receipts.wait_for(1);
        assert_eq!(first.look(), Seen::NotApplied);
        for number in [1, 2] {
            receipts.applied(Receipt { number, reply: WriteReply::Done });
        }
        assert_eq!(first.look(), Seen::Applied(WriteReply::Done));
        drop(receipts.wait_for(3));
        let mut fourth = receipts.wait_for(4);
        receipts.lose_track();
        assert_eq!(fourth.look(), Seen::Unknown);
        assert!(receipts.lock().is_empty());
    }
}
