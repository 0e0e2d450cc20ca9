//! What is done when the keeper itself was killed: its jobs must not run on.
//!
//! This process is a subreaper, too, so it adopts what the keeper held. A process is a job's if it is
//! in the keeper's session, carries the keeper's mark, or descends from such a process. A daemon that
//! left its session, its parents and its environment looks like anybody's and is left alone; only a
//! living keeper can tell. Blocking.

use std::collections::HashSet;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::keeper::mark;
use crate::processes::{self, Process};

/// Ends all processes that a keeper, which has ended, was responsible for; returns when none is left
/// that this process can wait for.
pub(super) fn end_jobs_of(keeper: i32) {
    let own = Pid::this().as_raw();
    let mut out_of_reach = HashSet::new();
    loop {
        let mut targets = jobs_of(keeper, &processes::all());
        targets.retain(|process| process.pid != own && !out_of_reach.contains(&process.pid));
        for process in targets.iter().filter(|process| process.is_same()) {
            if kill(Pid::from_raw(process.pid), Signal::SIGKILL) == Err(Errno::EPERM) {
                out_of_reach.insert(process.pid);
            }
        }
        // Children of a killed process become this process's once it is gone: the next round's.
        let adopted = targets
            .iter()
            .filter(|process| process.parent == own && !out_of_reach.contains(&process.pid));
        let mut has_waited = false;
        for process in adopted {
            has_waited = true;
            // An error means that it is gone already.
            let _ = waitpid(Pid::from_raw(process.pid), None);
        }
        if !has_waited {
            return;
        }
    }
}

/// The processes of a keeper's jobs among `all`.
fn jobs_of(keeper: i32, all: &[Process]) -> Vec<Process> {
    let is_job = |process: &&Process| {
        process.session == keeper || mark::find(&processes::environ(process.pid), keeper).is_some()
    };
    let mut found: Vec<Process> = all.iter().filter(is_job).copied().collect();
    let mut ids: HashSet<i32> = found.iter().map(|process| process.pid).collect();
    loop {
        let below =
            |process: &&Process| ids.contains(&process.parent) && !ids.contains(&process.pid);
        let more: Vec<Process> = all.iter().filter(below).copied().collect();
        if more.is_empty() {
            return found;
        }
        ids.extend(more.iter().map(|process| process.pid));
        found.extend(more);
    }
}
