//! Puts proposals into the log: those that wait at the same time share one entry.
//!
//! The consensus library syncs one entry after the other, so sharing is what makes many proposals
//! cheap (group commit). Owned by `manager`; fed through [`super::Consensus`].

use openraft::error::{ClientWriteError, RaftError};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::{
    consensus::ProposeError,
    types::{Entries, Proposed, Raft},
};
use crate::Error;

/// Proposals per entry: far more than ever wait, few enough that an entry stays small.
const MAX_SHARED: usize = 64;
/// Entries under way to the followers at once. Few, so that under load proposals gather while they
/// wait for a place instead of each taking an entry of its own.
const MAX_IN_FLIGHT: usize = 4;
/// Proposals that may wait; beyond it, proposers wait.
pub(super) const MAX_WAITING: usize = 1024;

pub(super) type Answer = Result<u64, ProposeError>;

/// A proposal and who wants to know what became of it.
pub(super) struct Waiting {
    pub(super) proposed: Proposed,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// Runs until all handles are gone.
pub(super) async fn run(raft: Raft, mut waiting: mpsc::Receiver<Waiting>) -> Result<(), Error> {
    let mut in_flight = JoinSet::new();
    let mut gathered = Vec::with_capacity(MAX_SHARED);
    loop {
        while in_flight.len() >= MAX_IN_FLIGHT {
            in_flight.join_next().await;
        }
        if waiting.recv_many(&mut gathered, MAX_SHARED).await == 0 {
            break;
        }
        // who does not wait any more has given the write up, and may have asked for it again elsewhere
        let wanted = gathered.drain(..).filter(|w| !w.answer.is_closed());
        let (proposals, answers): (Vec<_>, Vec<_>) = wanted.map(|w| (w.proposed, w.answer)).unzip();
        if proposals.is_empty() {
            continue;
        }
        let raft = raft.clone();
        in_flight.spawn(write(raft, Entries { proposals }, answers));
        while in_flight.try_join_next().is_some() {}
    }
    while in_flight.join_next().await.is_some() {}
    Ok(())
}

async fn write(raft: Raft, entries: Entries, answers: Vec<oneshot::Sender<Answer>>) {
    match raft.client_write(entries).await {
        Ok(response) => {
            for (answer, result) in answers.into_iter().zip(response.data.results) {
                // whoever asked may have given up
                let _ = answer.send(result.map_err(ProposeError::Rejected));
            }
        }
        Err(error) => {
            let reason = match &error {
                RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => ProposeError::NotLeader,
                RaftError::APIError(ClientWriteError::ChangeMembershipError(e)) => ProposeError::Stopped(e.to_string()),
                RaftError::Fatal(fatal) => ProposeError::Stopped(fatal.to_string()),
            };
            for answer in answers {
                let _ = answer.send(Err(reason.clone()));
            }
        }
    }
}
