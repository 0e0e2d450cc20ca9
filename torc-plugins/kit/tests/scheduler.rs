//! The checks of schedulers, on one that has this host and no queue, and on the same with a fault each: just the checks
//! that are for it find it.

#[path = "found/all.rs"]
mod all;
mod found;

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use all::{assert_keeps, verdicts};
use async_trait::async_trait;
use found::assert_broken;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use torc_core::traits::{
    AllocationEnd, AllocationHandle, AllocationRequest, AllocationState, NodeShape, Scheduler,
    SchedulerError, Shapes,
};
use torc_plugin_kit::{Candidate, SchedulerSite};

/// What is wrong with a scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    KnowsNoNodes,
    DropsEmptyWords,
    RunsTwice,
    ForgetsTheUmask,
    SwallowsOutput,
    TellsFailureAsSuccess,
    AnswersSorted,
    AnswersOnce,
    ForgetsKeys,
    FindsByTheBeginning,
    RefusesTheSecondCancel,
    CancelsInNameOnly,
    FailsForTheUnknown,
    ThinksTheUnknownRuns,
    TakesAnything,
    IsNeverSure,
    WaitsForNobody,
}

/// An allocation: a process group of this host.
struct Granted {
    key: String,
    request: AllocationRequest,
    /// `None`: it waits.
    processes: Vec<Child>,
    end: Option<AllocationEnd>,
}

/// Grants this host at once, as often as it is asked for.
struct Here {
    fault: Fault,
    granted: Mutex<BTreeMap<u32, Granted>>,
}

impl Granted {
    fn start(&mut self, fault: Fault) {
        let request = &self.request;
        let umask = request.umask.filter(|_| fault != Fault::ForgetsTheUmask).unwrap_or(0o22);
        let log = std::fs::File::create(&request.output).expect("a file for output");
        let log = if fault == Fault::SwallowsOutput { Stdio::null() } else { log.into() };
        let mut command = Command::new("sh");
        command.args(["-c", &format!("umask {umask:o}; exec \"$@\""), "sh"]);
        let is_kept = |word: &&String| fault != Fault::DropsEmptyWords || !word.is_empty();
        command.args(request.command.iter().filter(is_kept)).current_dir(&request.working_dir);
        command.env_clear().envs(request.env.iter().cloned()).stdin(Stdio::null()).stdout(log);
        let times = if fault == Fault::RunsTwice { 2 } else { 1 };
        for _ in 0..times {
            self.processes.push(command.process_group(0).spawn().expect("sh can be run"));
        }
    }

    fn look(&mut self, fault: Fault) {
        if self.end.is_some() || self.processes.is_empty() {
            return;
        }
        let look = |child: &mut Child| child.try_wait().expect("it is a child");
        let ended: Option<Vec<_>> = self.processes.iter_mut().map(look).collect();
        let is_success =
            |ended: Vec<std::process::ExitStatus>| ended.iter().all(|one| one.success());
        self.end = ended.map(|ended| match is_success(ended) {
            false if fault != Fault::TellsFailureAsSuccess => AllocationEnd::Failed,
            _ => AllocationEnd::Completed,
        });
    }

    fn cancel(&mut self, fault: Fault) {
        if fault != Fault::CancelsInNameOnly {
            self.kill();
        }
        self.end.get_or_insert(AllocationEnd::Cancelled);
    }

    fn kill(&mut self) {
        for child in &mut self.processes {
            if let Ok(None) = child.try_wait() {
                let group = Pid::from_raw(i32::try_from(child.id()).expect("fits"));
                // It may have ended just now.
                let _ = killpg(group, Signal::SIGKILL);
                child.wait().expect("it is a child");
            }
        }
    }

    fn state(&self) -> AllocationState {
        match self.end {
            Some(cause) => AllocationState::Ended { cause, reason: "it is over".to_owned() },
            None if self.processes.is_empty() => {
                AllocationState::Pending { reason: "another".to_owned(), expected_start: None }
            }
            None => AllocationState::Running { ends_at: None },
        }
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        self.kill();
    }
}

fn number(handle: &AllocationHandle) -> u32 {
    handle.0.parse().unwrap_or_default()
}

impl Here {
    /// All allocations as they are now.
    fn now(&self) -> MutexGuard<'_, BTreeMap<u32, Granted>> {
        let mut granted = self.granted.lock().expect("whole");
        granted.values_mut().for_each(|one| one.look(self.fault));
        let over: Vec<u32> =
            granted.iter().filter(|(_, one)| one.end.is_some()).map(|(id, _)| *id).collect();
        for one in granted.values_mut().filter(|one| one.end.is_none() && one.processes.is_empty())
        {
            let after = one.request.after.as_ref().map(number);
            if after.is_none_or(|other| over.contains(&other))
                || self.fault == Fault::WaitsForNobody
            {
                one.start(self.fault);
            }
        }
        granted
    }
}

#[async_trait]
impl Scheduler for Here {
    async fn shapes(&self, _: &AllocationRequest) -> Result<Shapes, SchedulerError> {
        let shape = NodeShape { cpus: 1, threads_per_core: 1, memory: 1, gpus: 0, count: 1 };
        Ok(Shapes::Known(if self.fault == Fault::KnowsNoNodes { Vec::new() } else { vec![shape] }))
    }

    async fn submit(
        &self,
        request: &AllocationRequest,
        key: &str,
    ) -> Result<AllocationHandle, SchedulerError> {
        if request.nodes > 1 && self.fault != Fault::TakesAnything {
            let words = "there is one host".to_owned();
            return Err(if self.fault == Fault::IsNeverSure {
                SchedulerError::Unavailable(words)
            } else {
                SchedulerError::Refused(words)
            });
        }
        let id = {
            let mut granted = self.granted.lock().expect("whole");
            let id = u32::try_from(granted.len()).expect("few") + 1;
            let (key, request) = (key.to_owned(), request.clone());
            granted.insert(id, Granted { key, request, processes: Vec::new(), end: None });
            id
        };
        drop(self.now());
        Ok(AllocationHandle(id.to_string()))
    }

    async fn find(&self, key: &str) -> Result<Option<AllocationHandle>, SchedulerError> {
        let is_it = |one: &Granted| match self.fault {
            Fault::ForgetsKeys => false,
            Fault::FindsByTheBeginning => one.key.starts_with(key),
            _ => one.key == key,
        };
        let found = self.now().iter().find(|(_, one)| is_it(one)).map(|(id, _)| id.to_string());
        Ok(found.map(AllocationHandle))
    }

    async fn observe(
        &self,
        allocations: &[AllocationHandle],
    ) -> Result<Vec<AllocationState>, SchedulerError> {
        let granted = self.now();
        let mut asked: Vec<u32> = allocations.iter().map(number).collect();
        match self.fault {
            Fault::AnswersSorted => asked.sort_unstable(),
            Fault::AnswersOnce => asked.truncate(2),
            Fault::FailsForTheUnknown if asked.iter().any(|id| !granted.contains_key(id)) => {
                return Err(SchedulerError::Refused("there is no such allocation".to_owned()));
            }
            _ => {}
        }
        let state = |id: &u32| match granted.get(id) {
            Some(one) => one.state(),
            None if self.fault == Fault::ThinksTheUnknownRuns => {
                AllocationState::Running { ends_at: None }
            }
            None => AllocationState::Unknown,
        };
        Ok(asked.iter().map(state).collect())
    }

    async fn cancel(&self, allocation: &AllocationHandle) -> Result<(), SchedulerError> {
        let mut granted = self.now();
        let Some(one) = granted.get_mut(&number(allocation)) else { return Ok(()) };
        if one.end.is_some() && self.fault == Fault::RefusesTheSecondCancel {
            return Err(SchedulerError::Refused("it has ended".to_owned()));
        }
        one.cancel(self.fault);
        Ok(())
    }
}

/// Shows a scheduler to the kit.
fn look(fault: Fault, judge: impl FnOnce(Candidate<'_>)) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let here = Here { fault, granted: Mutex::default() };
    let request = AllocationRequest {
        name: String::new(),
        nodes: 1,
        walltime: Some(Duration::from_secs(600)),
        settings: serde_json::Value::Null,
        command: Vec::new(),
        working_dir: String::new(),
        output: String::new(),
        env: std::env::vars()
            .filter(|(name, _)| name == "PATH")
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        umask: None,
        after: None,
    };
    let site = SchedulerSite {
        scheduler: &here,
        refused: Some(AllocationRequest {
            nodes: 2,
            command: vec!["true".to_owned()],
            working_dir: "/".to_owned(),
            output: "/dev/null".to_owned(),
            ..request.clone()
        }),
        request,
        unknown: Some(AllocationHandle("77".to_owned())),
        folder: folder.path().to_owned(),
        key: "key".to_owned(),
        patience: Duration::from_secs(20),
        look_every: Duration::from_millis(20),
    };
    judge(Candidate::Scheduler(&site));
}

#[test]
fn a_scheduler_of_this_host_keeps_every_promise() {
    look(Fault::None, |candidate| assert_keeps(candidate, &[]));
}

fn check(fault: Fault, expected: &[&str]) {
    look(fault, |candidate| {
        assert_broken(&format!("{fault:?}"), &verdicts(candidate), expected);
    });
}

#[test]
fn commands_that_do_not_run_as_asked_are_found() {
    check(Fault::KnowsNoNodes, &["scheduler.shapes"]);
    check(Fault::DropsEmptyWords, &["scheduler.command_runs"]);
    check(Fault::RunsTwice, &["scheduler.command_runs", "scheduler.after_another"]);
    check(Fault::ForgetsTheUmask, &["scheduler.surroundings"]);
    check(Fault::SwallowsOutput, &["scheduler.surroundings"]);
    check(Fault::WaitsForNobody, &["scheduler.after_another"]);
}

#[test]
fn answers_that_are_wrong_are_found() {
    check(Fault::TellsFailureAsSuccess, &["scheduler.failing_command"]);
    check(Fault::AnswersSorted, &["scheduler.observed_in_order"]);
    check(Fault::AnswersOnce, &["scheduler.observed_in_order"]);
    check(Fault::ForgetsKeys, &["scheduler.found_by_its_key"]);
    check(Fault::FindsByTheBeginning, &["scheduler.found_by_its_key"]);
    check(Fault::FailsForTheUnknown, &["scheduler.unknown"]);
    check(Fault::ThinksTheUnknownRuns, &["scheduler.unknown"]);
}

#[test]
fn requests_that_are_not_dealt_with_are_found() {
    check(Fault::RefusesTheSecondCancel, &["scheduler.cancelled"]);
    check(Fault::CancelsInNameOnly, &["scheduler.cancelled"]);
    check(Fault::TakesAnything, &["scheduler.refused"]);
    check(Fault::IsNeverSure, &["scheduler.refused"]);
}
