//! The keeper's books of steps, and what it does when an order, an end or a deadline comes.
//!
//! A step is over when its main process has ended; it is reported as ended when nothing of it is
//! left. In between, whatever it left behind is killed, again whenever a process ends, since that is
//! when the keeper adopts the next ones.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::signalfd::SignalFd;
use nix::sys::stat::{Mode, umask};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use torc_core::traits::{LaunchStage, Outcome, StepSignal};

use super::ending::Reason;
use super::lease::Lease;
use super::orphans::Orphans;
use super::relay::Relay;
use super::reports::Reports;
use super::spawn::{Refusal, Spawner};
use super::step::Step;
use super::wire::{Launch, Order, Report, StepKey};
use crate::clock::now;
use crate::processes;

/// Time that launchers get to end their jobs once torc is gone. srun waits for its tasks for two
/// seconds longer than KillWait, which is 30 s by default (slurm.conf(5)).
const DISMISSAL_TIME: Duration = Duration::from_secs(40);

/// All steps of this keeper.
#[derive(Debug)]
pub(super) struct Supervisor {
    spawner: Spawner,
    steps: HashMap<StepKey, Step>,
    /// The steps by process group, until they are reported as ended.
    groups: HashMap<i32, StepKey>,
    /// Steps that are over, but of which something may be left.
    leaving: Vec<StepKey>,
    orphans: Orphans,
    /// Processor time of all reaped processes so far, in microseconds.
    reaped_cpu_us: u64,
    /// What torc is to be told.
    pub(super) reports: Reports,
    /// How long all goes on without torc.
    pub(super) lease: Lease,
}

impl Supervisor {
    /// No steps yet; `null` is `/dev/null`.
    ///
    /// # Errors
    /// When the operating system does not tell this process's CPUs.
    pub(super) fn new(null: File) -> io::Result<Self> {
        Ok(Self {
            spawner: Spawner::new(null)?,
            steps: HashMap::new(),
            groups: HashMap::new(),
            leaving: Vec::new(),
            orphans: Orphans::new(Pid::this().as_raw()),
            reaped_cpu_us: 0,
            reports: Reports::default(),
            lease: Lease::default(),
        })
    }

    /// The launchers that may say something, and where.
    pub(super) fn voices(&self) -> impl Iterator<Item = (StepKey, BorrowedFd<'_>)> {
        let steps = self.steps.iter();
        steps.filter_map(|(&key, step)| Some((key, step.relay.as_ref()?.descriptor()?)))
    }

    /// Passes on what a launcher has said.
    pub(super) fn hear(&mut self, key: StepKey) {
        let relay = self.steps.get_mut(&key).and_then(|step| step.relay.as_mut());
        let lines = relay.map(Relay::lines).unwrap_or_default();
        if !lines.is_empty() {
            self.reports.add(&Report::Said { key, at: now(), lines });
        }
    }

    /// Passes on what a launcher has said last. What it left behind may hold its pipe open.
    fn hear_last(&mut self, key: StepKey) {
        self.hear(key);
        let relay = self.steps.get_mut(&key).and_then(|step| step.relay.as_mut());
        if let Some(line) = relay.and_then(Relay::rest) {
            self.reports.add(&Report::Said { key, at: now(), lines: vec![line] });
        }
    }

    /// How long nothing needs to be done unless something happens.
    pub(super) fn patience(&self) -> PollTimeout {
        let deadlines = self.steps.values().filter_map(Step::deadline);
        let others = self.reports.due().into_iter().chain(self.lease.deadline());
        let Some(next) = deadlines.chain(others).min() else {
            return PollTimeout::NONE;
        };
        // Rounded up: waking too early would mean waking twice.
        let wait = next.saturating_duration_since(Instant::now());
        let millis = wait.as_micros().div_ceil(1000);
        i32::try_from(millis)
            .ok()
            .and_then(|millis| PollTimeout::try_from(millis).ok())
            .unwrap_or(PollTimeout::MAX)
    }

    /// Carries out an order.
    pub(super) fn obey(&mut self, order: Order) {
        match order {
            Order::Umask(mask) => {
                umask(Mode::from_bits_truncate(mask));
            }
            Order::Lease(length) => self.lease.renew(length, Instant::now()),
            Order::Launch(launch) => self.launch(*launch),
            Order::Signal { key, signal } => self.signal(key, signal),
            Order::OverMemory { key, used } => {
                if let Some(step) = self.steps.get_mut(&key) {
                    step.end_now(Reason::OverMemory(used));
                }
            }
        }
    }

    fn launch(&mut self, launch: Launch) {
        let key = launch.key;
        let started = termination_signal(&launch).and_then(|signal| {
            let child = self.spawner.spawn(&launch)?;
            Ok(Step::new(launch, child, signal))
        });
        match started {
            Ok(step) => {
                let pid = step.pid();
                self.groups.insert(pid, key);
                self.steps.insert(key, step);
                self.reports.add(&Report::Started { key, at: now(), pid });
            }
            Err(Refusal { stage, reason }) => {
                let outcome = Outcome::LaunchFailed { stage, reason };
                self.reports.add(&Report::Ended { key, at: now(), outcome, cpu_ms: 0 });
            }
        }
    }

    fn signal(&mut self, key: StepKey, signal: StepSignal) {
        let Some(step) = self.steps.get_mut(&key) else { return };
        let forward = match signal {
            StepSignal::Cancel => step.ask_to_end(Reason::Cancelled, Instant::now()),
            StepSignal::TimeUp => step.ask_to_end(Reason::TimeUp, Instant::now()),
            StepSignal::Kill => {
                step.end_now(Reason::Cancelled);
                None
            }
        };
        self.forward(key, forward);
    }

    /// Ends the steps whose time is up, and kills those that did not end in time.
    pub(super) fn mind_deadlines(&mut self) {
        let now = Instant::now();
        let is_due = |step: &Step| step.deadline().is_some_and(|deadline| deadline <= now);
        let due = self.steps.iter().filter(|(_, step)| is_due(step));
        for key in due.map(|(&key, _)| key).collect::<Vec<_>>() {
            let signal = self.steps.get_mut(&key).and_then(|step| step.mind_deadlines(now));
            self.forward(key, signal);
        }
    }

    /// Sends a signal to the orphans of a step.
    fn forward(&mut self, key: StepKey, signal: Option<Signal>) {
        let Some(signal) = signal else { return };
        self.look_for_orphans();
        for pid in self.orphans.of(key) {
            // They are children: gone or out of reach at worst.
            let _ = kill(Pid::from_raw(pid), signal);
            let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
        }
    }

    /// Reaps whatever has ended, and reports the steps of which nothing is left.
    pub(super) fn reap(&mut self) {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        loop {
            match waitid(Id::All, flags) {
                Err(Errno::EINTR) => {}
                Err(Errno::EINVAL) => {
                    // It was ended by a real-time signal, and the wrapper cannot say who.
                    if !self.reap_by_name() {
                        break;
                    }
                }
                Err(_) | Ok(WaitStatus::StillAlive) => break,
                Ok(ended) => match ended.pid() {
                    Some(pid) => self.reap_one(pid),
                    None => break,
                },
            }
        }
        self.let_go();
    }

    fn reap_one(&mut self, pid: Pid) {
        let key = match self.groups.get(&pid.as_raw()).copied() {
            Some(key) if self.steps.get(&key).is_some_and(|step| !step.is_over()) => {
                if let Some(Err(_)) = self.steps.get_mut(&key).map(Step::reap) {
                    // The status is lost, the process is not: it must not be met again.
                    let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
                }
                self.leaving.push(key);
                Some(key)
            }
            _ => {
                // An unnameable signal number is an error, but the process is reaped.
                let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
                self.orphans.forget(pid.as_raw())
            }
        };
        self.charge(key);
    }

    /// Reaps children whose status cannot be decoded by asking for each. Says whether any had ended.
    fn reap_by_name(&mut self) -> bool {
        let mut has_reaped = false;
        for pid in self.orphans.children() {
            let key = self.groups.get(&pid).copied();
            let step = key.and_then(|key| self.steps.get_mut(&key)).filter(|step| !step.is_over());
            if let (Some(key), Some(step)) = (key, step) {
                if step.reap_if_ended() {
                    self.leaving.push(key);
                    self.charge(Some(key));
                    has_reaped = true;
                }
            } else if waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG))
                != Ok(WaitStatus::StillAlive)
            {
                let key = self.orphans.forget(pid);
                self.charge(key);
                has_reaped = true;
            }
        }
        has_reaped
    }

    /// Books the processor time of what was reaped since the last call.
    fn charge(&mut self, key: Option<StepKey>) {
        let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return };
        let total = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        let total = u64::try_from(total).unwrap_or_default();
        let spent = total.saturating_sub(self.reaped_cpu_us);
        self.reaped_cpu_us = total;
        if let Some(step) = key.and_then(|key| self.steps.get_mut(&key)) {
            step.cpu_us += spent;
        }
    }

    /// Takes account of adopted processes.
    fn look_for_orphans(&mut self) {
        let mut children = self.orphans.children();
        let (groups, steps) = (&self.groups, &self.steps);
        children.retain(|pid| {
            let step = groups.get(pid).and_then(|key| steps.get(key));
            step.is_none_or(Step::is_over)
        });
        if !children.is_empty() {
            let owner = |group: i32| groups.get(&group).copied();
            self.orphans.adopt(&children, owner, || steps.keys().copied().collect());
        }
    }

    /// Kills what is left of the steps that are over, and reports those of which nothing is.
    fn let_go(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        self.look_for_orphans();
        for key in std::mem::take(&mut self.leaving) {
            let stays = self.steps.get(&key).is_some_and(Step::may_leave_others);
            if !stays && self.orphans.kill(key) {
                self.leaving.push(key);
                continue;
            }
            self.hear_last(key);
            let Some(step) = self.steps.remove(&key) else { continue };
            // The number may be another step's main process by now.
            if self.groups.get(&step.pid()) == Some(&key) {
                self.groups.remove(&step.pid());
            }
            if !stays {
                self.orphans.step_ended(key);
            }
            let (outcome, cpu_ms) = (step.outcome(), step.cpu_us / 1000);
            self.reports.add(&Report::Ended { key, at: now(), outcome, cpu_ms });
        }
    }

    /// Asks the launchers to end their jobs, and gives them some time: a job that runs elsewhere would
    /// outlive a launcher that is just killed. `ends` becomes readable when a child has ended.
    pub(super) fn dismiss_launchers(&mut self, ends: &SignalFd) {
        let deadline = Instant::now() + DISMISSAL_TIME;
        let mut dismissed: Vec<StepKey> = Vec::new();
        dismissed.extend(self.steps.iter().filter(|(_, step)| step.dismiss()).map(|(&key, _)| key));
        while !dismissed.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let patience = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut ready = [PollFd::new(ends.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, patience) {
                Ok(0) => return,
                Ok(_) => drop(ends.read_signal()),
                Err(Errno::EINTR) => {}
                Err(_) => return,
            }
            self.reap();
            dismissed.retain(|key| self.steps.contains_key(key));
        }
    }

    /// Kills every descendant of this process, and returns when the last one is gone.
    ///
    /// A process of another user cannot be killed; once only such are left, nobody waits for them.
    pub(super) fn end_everything(&mut self) {
        loop {
            let mut is_anything_left = false;
            for child in self.orphans.children() {
                let killed = kill(Pid::from_raw(child), Signal::SIGKILL);
                is_anything_left |= killed != Err(Errno::EPERM);
                // A child's own number cannot be another's before it is reaped.
                let _ = killpg(Pid::from_raw(child), Signal::SIGKILL);
                for process in processes::tree(child).iter().skip(1) {
                    if process.is_same() {
                        let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
                    }
                }
            }
            if !is_anything_left {
                return;
            }
            // Each end may bring new children; an undecodable status was reaped all the same.
            if waitpid(None, None) == Err(Errno::ECHILD) {
                return;
            }
            while !matches!(
                waitpid(None, Some(WaitPidFlag::WNOHANG)),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD)
            ) {}
        }
    }
}

fn termination_signal(launch: &Launch) -> Result<Signal, Refusal> {
    let number = launch.limits.termination_signal;
    Signal::try_from(number).map_err(|_| Refusal {
        stage: LaunchStage::Prepare,
        reason: format!("{number} is not the number of a signal that torc can send"),
    })
}
