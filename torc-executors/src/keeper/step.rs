//! One step whose processes the keeper holds.

use std::io;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use torc_core::traits::{Outcome, StdioPaths};

use super::ending::{self, Reason};
use super::files;
use super::relay::Relay;
use super::wire::{Launch, Role};
use crate::processes;

/// A step from the start of its main process to the end of its last one.
#[derive(Debug)]
pub(super) struct Step {
    child: Child,
    group: Pid,
    working_dir: Arc<str>,
    stdio: StdioPaths,
    expected_files: Vec<Arc<str>>,
    termination_signal: Signal,
    termination_lead: std::time::Duration,
    time_limit: Option<Instant>,
    kill_at: Option<Instant>,
    reason: Option<Reason>,
    status: Option<ExitStatus>,
    role: Role,
    /// What its main process says, if that is passed on.
    pub(super) relay: Option<Relay>,
    /// Processor time of its reaped processes, in microseconds.
    pub(super) cpu_us: u64,
}

impl Step {
    /// A step whose main process was just started.
    pub(super) fn new(launch: Launch, mut child: Child, termination_signal: Signal) -> Self {
        // A pipe that cannot be read without blocking is not read.
        let relay = child.stderr.take().and_then(|pipe| Relay::new(pipe).ok());
        // A process id that does not fit would name no process of Linux.
        let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        Self {
            child,
            group,
            working_dir: launch.working_dir,
            stdio: launch.stdio,
            expected_files: launch.expected_files,
            termination_signal,
            termination_lead: launch.limits.termination_lead,
            time_limit: launch.limits.runtime.and_then(|time| Instant::now().checked_add(time)),
            kill_at: None,
            reason: None,
            status: None,
            role: launch.role,
            relay,
            cpu_us: 0,
        }
    }

    /// Its main process and process group.
    pub(super) fn pid(&self) -> i32 {
        self.group.as_raw()
    }

    /// Whether its main process has ended; what is left of it then is being killed.
    pub(super) fn is_over(&self) -> bool {
        self.status.is_some()
    }

    /// Whether nobody minds what it leaves behind before the keeper ends.
    pub(super) fn may_leave_others(&self) -> bool {
        self.role == Role::Errand
    }

    /// Asks a launcher to end its job and itself, now that torc is gone. Says whether it is one.
    pub(super) fn dismiss(&self) -> bool {
        let is_launcher = !self.is_over() && self.role == Role::Launcher;
        if is_launcher {
            let _ = killpg(self.group, Signal::SIGTERM);
            let _ = killpg(self.group, Signal::SIGCONT);
        }
        is_launcher
    }

    /// When something is to be done about it next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.is_over() {
            return None;
        }
        match (self.time_limit, self.kill_at) {
            (Some(limit), Some(kill)) => Some(limit.min(kill)),
            (limit, kill) => limit.or(kill),
        }
    }

    /// Does what is due. Says whether the step's orphans must be asked to end, too.
    pub(super) fn mind_deadlines(&mut self, now: Instant) -> Option<Signal> {
        if self.is_over() {
            return None;
        }
        if self.kill_at.is_some_and(|time| time <= now) {
            self.kill_at = None;
            self.time_limit = None;
            self.kill_group();
            return Some(Signal::SIGKILL);
        }
        if self.time_limit.is_some_and(|time| time <= now) {
            self.time_limit = None;
            return self.ask_to_end(Reason::TimeUp, now);
        }
        None
    }

    /// Asks all processes below the main one and in its group to end; they are killed after the
    /// lead. Returns the signal that the step's orphans are to get.
    pub(super) fn ask_to_end(&mut self, reason: Reason, now: Instant) -> Option<Signal> {
        if self.is_over() {
            return None;
        }
        let is_first = self.reason.is_none();
        self.reason.get_or_insert(reason);
        if !is_first {
            return None;
        }
        self.kill_at = Some(now.checked_add(self.termination_lead).unwrap_or(now));
        let outside = processes::tree(self.pid())
            .into_iter()
            .filter(|process| process.group != self.pid())
            .collect::<Vec<_>>();
        // Errors: the processes are gone, or are another user's and out of reach.
        let _ = killpg(self.group, self.termination_signal);
        let _ = killpg(self.group, Signal::SIGCONT);
        for process in outside.iter().filter(|process| process.is_same()) {
            let _ = kill(Pid::from_raw(process.pid), self.termination_signal);
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGCONT);
        }
        Some(self.termination_signal)
    }

    /// Kills it now; what is left of it after its main process is the orphans' matter.
    pub(super) fn end_now(&mut self, reason: Reason) {
        if !self.is_over() {
            self.reason.get_or_insert(reason);
            self.kill_group();
        }
    }

    /// Kills its process group. The group's number names no other group: its main process has not
    /// been reaped.
    pub(super) fn kill_group(&self) {
        debug_assert!(!self.is_over(), "the group of a reaped process may be another's");
        let _ = killpg(self.group, Signal::SIGKILL);
    }

    /// Reaps the main process, which has ended, after killing what is left of its group, if that is to go.
    ///
    /// # Errors
    /// When the operating system does not tell its status.
    pub(super) fn reap(&mut self) -> io::Result<()> {
        if !self.is_over() {
            if !self.may_leave_others() {
                self.kill_group();
            }
            self.status = self.child.try_wait()?;
        }
        Ok(())
    }

    /// Like [`Step::reap`], when it is not known whether the main process has ended.
    pub(super) fn reap_if_ended(&mut self) -> bool {
        if self.is_over() {
            return false;
        }
        self.status = self.child.try_wait().ok().flatten();
        if self.is_over() && !self.may_leave_others() {
            // At worst the number was given away within the last microseconds, which takes as many
            // new processes as there are numbers.
            let _ = killpg(self.group, Signal::SIGKILL);
        }
        self.is_over()
    }

    /// How it ended, once it is over and nothing is left of it. Removes its output if it is to.
    pub(super) fn outcome(&self) -> Outcome {
        let Some(status) = self.status else { return Outcome::Lost };
        let outcome = ending::outcome(status, self.reason, || {
            files::missing(&self.working_dir, &self.expected_files)
        });
        files::tidy(&self.stdio, &outcome);
        outcome
    }
}

/// Sends a signal and says whether the process is out of reach (another user's).
pub(super) fn is_out_of_reach(pid: i32, signal: Signal) -> bool {
    kill(Pid::from_raw(pid), signal) == Err(Errno::EPERM)
}
