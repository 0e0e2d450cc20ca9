//! How a step is handed to the keeper: as an srun with its arguments, environment and limits.
//!
//! Knows the time, for Slurm's own limit of the step; otherwise it only writes down.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use torc_core::time::Timestamp;
use torc_core::traits::{Launcher, LauncherError, StdioPaths, Step};

use super::launcher::SrunLauncher;
use super::sights;
use crate::clock::now;
use crate::keeper::wire::{Launch, Order, Role, StepKey};
use crate::kept::add_nodes;

/// Time between SIGTERM and SIGKILL for an srun that has not created its step.
const DISMISSAL_LEAD: Duration = Duration::from_secs(30);

/// How sruns are written down.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) launcher: SrunLauncher,
    /// Slurm itself ends a step this long before the allocation ends.
    pub(super) headroom: Duration,
    /// When the allocation ends.
    pub(super) ends_at: Option<Timestamp>,
}

impl Terms {
    /// What to execute for a step, and Slurm's own limit for it. Tells the step about its nodes.
    ///
    /// # Errors
    /// When srun cannot express the step.
    pub(super) fn plan(
        &mut self,
        step: &mut Step,
        hostfile: &str,
    ) -> Result<(Vec<String>, Option<Duration>), LauncherError> {
        add_nodes(&mut step.env, &step.nodes, hostfile);
        // A gang is given what its ranks share, though it holds its nodes whole.
        step.env.insert("TORC_CPUS_PER_NODE".to_owned(), sights::cpus_list(step));
        self.launcher.time_limit = self.time_left();
        // It writes no files.
        Ok((self.launcher.plan(step, "")?.argv, self.launcher.time_limit))
    }

    /// When Slurm itself ends what still runs.
    pub(super) fn limit_at(&self) -> Option<Instant> {
        Instant::now().checked_add(self.time_left()?)
    }

    fn time_left(&self) -> Option<Duration> {
        let left = self.ends_at?.0.saturating_sub(now().0);
        Some(Duration::from_millis(left).saturating_sub(self.headroom))
    }
}

/// The order that starts the srun of a step.
pub(super) fn order(step: Step, key: StepKey, argv: Vec<String>) -> Order {
    let mut limits = step.limits;
    // These are the step's, which runs elsewhere; for srun itself others hold.
    limits.runtime = None;
    limits.termination_signal = Signal::SIGTERM as i32;
    limits.termination_lead = DISMISSAL_LEAD;
    Order::Launch(Box::new(Launch {
        key,
        argv,
        env: sights::of_srun(&step.env),
        working_dir: step.working_dir,
        stdio: StdioPaths { delete_on_success: false, ..step.stdio },
        limits,
        expected_files: Vec::new(),
        cores: Vec::new(),
        role: Role::Launcher,
    }))
}
