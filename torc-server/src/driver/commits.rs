//! Making decisions durable, one commit at a time, while further decisions are made. On a full disk
//! the commit under way waits, and with it all that depends on it.

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{DriveError, Driver, Held, RETRY_FULL_DISK};
use crate::handle::Input;
use crate::store::StoreError;
use crate::store_task::Commit;

/// A commit that was handed to the store.
pub(super) struct CommitUnderWay {
    pub(super) held: Held,
    pub(super) state: CommitState,
    /// A person was told that the disk is full.
    is_told: bool,
}

pub(super) enum CommitState {
    Writing(oneshot::Receiver<(Commit, Result<(), StoreError>)>),
    /// The disk is full: to be tried again.
    Waiting {
        commit: Commit,
        error: StoreError,
        until: Instant,
    },
}

impl Driver {
    /// Hands the pending events to the store, if something waits for that or it is time.
    pub(super) fn begin_commit(&mut self) {
        let has_work = !self.pending.is_empty() || !self.held.is_empty();
        let is_due = !self.held.is_empty()
            || self.conclusion.is_some()
            || self.failure.is_some()
            || self.is_detached
            || self.flush_at.is_some_and(|at| at <= Instant::now());
        if self.commit.is_some() || !has_work || !is_due {
            return;
        }
        let held = std::mem::take(&mut self.held);
        self.flush_at = None;
        let events = std::mem::take(&mut self.pending);
        let commit = Commit { workflow: self.engine.id(), sequence: self.next_sequence, events };
        self.next_sequence += 1;
        let state = CommitState::Writing(self.store.append(commit));
        self.commit = Some(CommitUnderWay { held, state, is_told: false });
    }

    /// The store has answered: what waited for it is done. On a full disk it is tried again later;
    /// what runs goes on meanwhile.
    pub(super) async fn end_commit(
        &mut self,
        commit: Commit,
        result: Result<(), StoreError>,
    ) -> Result<(), DriveError> {
        let Some(mut under_way) = self.commit.take() else { return Ok(()) };
        match result {
            Err(error) if error.may_pass() => {
                if !under_way.is_told {
                    let _ = self.notices.send(format!("{error}; waiting"));
                    under_way.is_told = true;
                }
                let until = Instant::now() + RETRY_FULL_DISK;
                under_way.state = CommitState::Waiting { commit, error, until };
                self.commit = Some(under_way);
                return Ok(());
            }
            result => result?,
        }
        if under_way.is_told {
            let _ = self.notices.send("there is space again; going on".to_owned());
        }
        self.cleared.extend(under_way.held.clearances.drain(..));
        self.perform(under_way.held).await;
        Ok(())
    }

    pub(super) fn retry_commit(&mut self) {
        let Some(mut under_way) = self.commit.take() else { return };
        under_way.state = match under_way.state {
            CommitState::Waiting { commit, until, .. } if until <= Instant::now() => {
                CommitState::Writing(self.store.append(commit))
            }
            state => state,
        };
        self.commit = Some(under_way);
    }

    /// Whether the disk is full.
    pub(super) fn is_waiting(&self) -> bool {
        let commit = self.commit.as_ref();
        commit.is_some_and(|commit| matches!(commit.state, CommitState::Waiting { .. }))
    }

    /// Whether somebody wishes to stop while the disk is full: waiting any longer would ignore it.
    pub(super) fn is_given_up(&self, inputs: &[Input]) -> bool {
        self.is_waiting() && inputs.iter().any(|input| matches!(input, Input::Stop | Input::Kill))
    }

    pub(super) fn give_up(&mut self) -> DriveError {
        match self.commit.take().map(|commit| commit.state) {
            Some(CommitState::Waiting { error, .. }) => DriveError::GaveUp(error),
            _ => DriveError::StoreTask,
        }
    }
}
