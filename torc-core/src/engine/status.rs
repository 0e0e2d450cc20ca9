//! The job state machine: the one place that says which status can follow which.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a job stands. The numbers are those of the spec's contract.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum JobStatus {
    /// No run has begun.
    #[default]
    Uninitialized = 0,
    /// It waits for other jobs, or for the end of its recovery script.
    Blocked = 1,
    /// It waits for nodes.
    Ready = 2,
    /// It has nodes; its first process does not run yet.
    Pending = 3,
    /// It runs.
    Running = 4,
    /// It did what it should.
    Completed = 5,
    /// It did not, and is not tried again.
    Failed = 6,
    /// It was ended, or never started, because somebody or another job's failure said so.
    Canceled = 7,
    /// A time limit ended it.
    Terminated = 8,
    /// It is left out.
    Disabled = 9,
    /// It failed, and somebody is to decide what follows.
    PendingFailed = 10,
}

impl JobStatus {
    /// Every status, in the order of the numbers.
    pub const ALL: [Self; 11] = [
        Self::Uninitialized,
        Self::Blocked,
        Self::Ready,
        Self::Pending,
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::Canceled,
        Self::Terminated,
        Self::Disabled,
        Self::PendingFailed,
    ];

    /// The word for it in tables, JSON and messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Uninitialized => "uninitialized",
            Self::Blocked => "blocked",
            Self::Ready => "ready",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Terminated => "terminated",
            Self::Disabled => "disabled",
            Self::PendingFailed => "pending_failed",
        }
    }

    /// Nothing more happens to the job in this run.
    pub fn has_ended(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Canceled | Self::Terminated | Self::Disabled
        )
    }

    /// It holds nodes.
    pub fn holds_nodes(self) -> bool {
        matches!(self, Self::Pending | Self::Running)
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What changes a job's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A run begins with this job in it.
    Reset,
    /// Every job that it depends on has ended well enough, or its recovery script has.
    Unblocked,
    /// It was given nodes.
    Placed,
    /// Its first process runs.
    Started,
    /// It did what it should.
    Completed,
    /// It failed for good.
    Failed,
    /// A time limit ended it for good.
    TimedOut,
    /// Somebody, or the failure of a job it depends on, ended it.
    Canceled,
    /// Its attempt ended, and it is tried again.
    Requeued,
    /// It is left out from now on.
    Disabled,
    /// It is not left out any more.
    Enabled,
    /// It is ready again only after its recovery script.
    Recovering,
}

/// A change that makes no sense in this status: an error in torc, or a report that comes too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {from} cannot change by {change:?}")]
pub struct IllegalChange {
    /// The status.
    pub from: JobStatus,
    /// The change.
    pub change: Change,
}

/// The status that follows, for every status and change there is.
///
/// # Errors
/// When the change makes no sense in this status.
pub fn transition(from: JobStatus, change: Change) -> Result<JobStatus, IllegalChange> {
    use JobStatus::{
        Blocked, Canceled, Completed, Disabled, Failed, Pending, Ready, Running, Terminated,
        Uninitialized,
    };
    match (from, change) {
        (
            Uninitialized | Blocked | Ready | Completed | Failed | Canceled | Terminated,
            Change::Reset,
        ) => Ok(Blocked),
        (Blocked, Change::Unblocked) => Ok(Ready),
        (Ready, Change::Recovering) => Ok(Blocked),
        (Ready, Change::Placed) => Ok(Pending),
        (Pending, Change::Started) => Ok(Running),
        (Pending | Running, Change::Completed) => Ok(Completed),
        // Of those that are blocked, one whose recovery script failed.
        (Blocked | Pending | Running, Change::Failed) => Ok(Failed),
        (Pending | Running, Change::TimedOut) => Ok(Terminated),
        (Pending | Running, Change::Requeued) => Ok(Ready),
        (Blocked | Ready | Pending | Running, Change::Canceled) => Ok(Canceled),
        (
            Uninitialized | Blocked | Ready | Completed | Failed | Canceled | Terminated,
            Change::Disabled,
        ) => Ok(Disabled),
        (Disabled, Change::Enabled) => Ok(Uninitialized),
        _ => Err(IllegalChange { from, change }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGES: [Change; 12] = [
        Change::Reset,
        Change::Unblocked,
        Change::Placed,
        Change::Started,
        Change::Completed,
        Change::Failed,
        Change::TimedOut,
        Change::Canceled,
        Change::Requeued,
        Change::Disabled,
        Change::Enabled,
        Change::Recovering,
    ];

    #[test]
    fn the_table_is_exactly_this() {
        let table: Vec<String> = JobStatus::ALL
            .iter()
            .flat_map(|from| CHANGES.iter().map(move |change| (*from, *change)))
            .filter_map(|(from, change)| {
                Some(format!("{from} {change:?} {}", transition(from, change).ok()?))
            })
            .collect();
        insta::assert_snapshot!(table.join("\n"), @r"
        uninitialized Reset blocked
        uninitialized Disabled disabled
        blocked Reset blocked
        blocked Unblocked ready
        blocked Failed failed
        blocked Canceled canceled
        blocked Disabled disabled
        ready Reset blocked
        ready Placed pending
        ready Canceled canceled
        ready Disabled disabled
        ready Recovering blocked
        pending Started running
        pending Completed completed
        pending Failed failed
        pending TimedOut terminated
        pending Canceled canceled
        pending Requeued ready
        running Completed completed
        running Failed failed
        running TimedOut terminated
        running Canceled canceled
        running Requeued ready
        completed Reset blocked
        completed Disabled disabled
        failed Reset blocked
        failed Disabled disabled
        canceled Reset blocked
        canceled Disabled disabled
        terminated Reset blocked
        terminated Disabled disabled
        disabled Enabled uninitialized
        ");
    }

    #[test]
    fn the_numbers_are_those_of_the_contract() {
        for (number, status) in JobStatus::ALL.iter().enumerate() {
            assert_eq!(*status as usize, number);
        }
    }
}
