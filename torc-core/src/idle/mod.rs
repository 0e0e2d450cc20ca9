//! Idle CPUs and why they are idle, one cause for each at each moment.
//!
//! The causes form a closed list. The first that applies is the one:
//!
//! 1. *draining*: the node takes nothing new, or has failed, or nobody could give it away.
//! 2. *held for a planned start*: the node is promised to a job that cannot start yet.
//! 3. *no ready job*: nothing that may run there waits, but something may become ready; and *tail*:
//!    nothing more ever will, and what is left is running.
//! 4. *walltime too short*: the shortest job that waits would outlast the allocation.
//! 5. *nothing fits*: jobs wait, and each needs more than is free, or than may run at once.
//!
//! *Starting up* is the time of an allocation before its nodes could be given to anybody; whoever
//! knows it adds it.

mod meter;

use std::time::Duration;

pub use meter::{Demand, IdleMeter};
use serde::{Deserialize, Serialize};

/// Why CPUs are idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdleCause {
    /// The allocation has begun, and its nodes could not be used yet.
    StartingUp,
    /// The node takes nothing new.
    Draining,
    /// The node is held for a job that was promised it.
    Held,
    /// No job is ready that may run there.
    NoReadyJob,
    /// No job that has not started is left.
    Tail,
    /// Every job that waits would outlast the allocation.
    Walltime,
    /// Jobs wait, but each needs more than is free.
    NothingFits,
}

impl IdleCause {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::StartingUp,
        Self::Draining,
        Self::Held,
        Self::NoReadyJob,
        Self::Tail,
        Self::Walltime,
        Self::NothingFits,
    ];

    /// The words for it.
    pub fn words(self) -> &'static str {
        match self {
            Self::StartingUp => "starting up",
            Self::Draining => "draining",
            Self::Held => "held for a planned start",
            Self::NoReadyJob => "no ready job",
            Self::Tail => "tail",
            Self::Walltime => "walltime too short",
            Self::NothingFits => "nothing fits",
        }
    }
}

/// Idle time by cause, in milliseconds of one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleTime {
    /// See [`IdleCause::StartingUp`].
    pub starting_up: u64,
    /// See [`IdleCause::Draining`].
    pub draining: u64,
    /// See [`IdleCause::Held`].
    pub held: u64,
    /// See [`IdleCause::NoReadyJob`].
    pub no_ready_job: u64,
    /// See [`IdleCause::Tail`].
    pub tail: u64,
    /// See [`IdleCause::Walltime`].
    pub walltime: u64,
    /// See [`IdleCause::NothingFits`].
    pub nothing_fits: u64,
}

impl IdleTime {
    /// What has this cause.
    pub fn of(&self, cause: IdleCause) -> u64 {
        match cause {
            IdleCause::StartingUp => self.starting_up,
            IdleCause::Draining => self.draining,
            IdleCause::Held => self.held,
            IdleCause::NoReadyJob => self.no_ready_job,
            IdleCause::Tail => self.tail,
            IdleCause::Walltime => self.walltime,
            IdleCause::NothingFits => self.nothing_fits,
        }
    }

    /// Adds so many CPUs that were idle for so long.
    pub fn add(&mut self, cause: IdleCause, cpus: u64, time: Duration) {
        self.add_ms(cause, cpus, u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }

    fn add_ms(&mut self, cause: IdleCause, cpus: u64, time: u64) {
        let field = match cause {
            IdleCause::StartingUp => &mut self.starting_up,
            IdleCause::Draining => &mut self.draining,
            IdleCause::Held => &mut self.held,
            IdleCause::NoReadyJob => &mut self.no_ready_job,
            IdleCause::Tail => &mut self.tail,
            IdleCause::Walltime => &mut self.walltime,
            IdleCause::NothingFits => &mut self.nothing_fits,
        };
        *field = field.saturating_add(cpus.saturating_mul(time));
    }

    /// All causes together.
    pub fn sum(&self) -> u64 {
        IdleCause::ALL.iter().map(|cause| self.of(*cause)).sum()
    }
}

/// What became of the time of CPUs, in milliseconds of one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// Jobs held them.
    pub held: u64,
    /// Nobody did.
    pub idle: IdleTime,
}

impl CpuTime {
    /// All of it.
    pub fn sum(&self) -> u64 {
        self.held.saturating_add(self.idle.sum())
    }
}
