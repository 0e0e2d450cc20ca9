//! Processes that a step left behind and that the keeper, as the subreaper of its jobs, adopted.
//!
//! Each is attributed to its step when it is first seen: by its process group, else by the mark in
//! its environment, else by a session or group that it shares with an attributed orphan. One that
//! hides all of these belongs to one of the steps that run when it is first seen, and is killed at
//! the latest when the last of those ends. Direct children cannot be confused by reused process
//! ids: only the keeper could reap them.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use nix::sys::signal::Signal;

use super::mark;
use super::step::is_out_of_reach;
use super::wire::StepKey;
use crate::processes::{self, Process};

/// Bytes read at once of the list of children: some hundred process ids.
const LIST_PIECE: usize = 4096;

/// Whose an orphan is.
#[derive(Debug)]
enum Owner {
    Step(StepKey),
    OneOf(Vec<StepKey>),
}

#[derive(Debug)]
struct Orphan {
    owner: Owner,
    group: i32,
    session: i32,
    /// It belongs to another user, so that it cannot be ended; nobody waits for it.
    is_out_of_reach: bool,
}

/// The adopted processes, and which steps' they are.
#[derive(Debug)]
pub(super) struct Orphans {
    keeper: i32,
    children: Option<File>,
    list: Vec<u8>,
    known: HashMap<i32, Orphan>,
}

impl Orphans {
    /// The orphans of this process, which is `keeper`.
    pub(super) fn new(keeper: i32) -> Self {
        let children = File::open(format!("/proc/{keeper}/task/{keeper}/children")).ok();
        Self { keeper, children, list: Vec::new(), known: HashMap::new() }
    }

    /// All children of this process, ended ones included until they are reaped.
    pub(super) fn children(&mut self) -> Vec<i32> {
        if let Some(length) = self.read_list() {
            return processes::parse_ids(&self.list[..length]);
        }
        // A kernel without lists of children.
        let own = processes::all().into_iter().filter(|process| process.parent == self.keeper);
        own.map(|process| process.pid).collect()
    }

    /// Reads the kernel's list of children into the buffer, from its start. This happens once a job,
    /// so the file stays open and nothing is asked but its content.
    fn read_list(&mut self) -> Option<usize> {
        let file = self.children.as_ref()?;
        let mut length = 0;
        loop {
            if self.list.len() < length + LIST_PIECE {
                self.list.resize(length + LIST_PIECE, 0);
            }
            match file.read_at(&mut self.list[length..], length as u64).ok()? {
                0 => return Some(length),
                count => length += count,
            }
        }
    }

    /// Looks for new orphans among `children`. `group_owner` says whose a process group is;
    /// `running` are all steps.
    pub(super) fn adopt(
        &mut self,
        children: &[i32],
        group_owner: impl Fn(i32) -> Option<StepKey>,
        running: impl Fn() -> Vec<StepKey>,
    ) {
        for &pid in children {
            if self.known.contains_key(&pid) {
                continue;
            }
            let Some(process) = Process::read(pid) else { continue };
            let owner = group_owner(process.group)
                .or_else(|| mark::find(&processes::environ(pid), self.keeper))
                .or_else(|| self.owner_of_kin(&process));
            let owner = match owner {
                Some(key) => Owner::Step(key),
                // Nothing runs in it any more; it will be reaped.
                None if process.is_zombie => continue,
                None => match running().as_slice() {
                    &[only] => Owner::Step(only),
                    several => Owner::OneOf(several.to_vec()),
                },
            };
            let Process { group, session, .. } = process;
            self.known.insert(pid, Orphan { owner, group, session, is_out_of_reach: false });
        }
    }

    /// A session that was made by an orphan is its step's; the keeper's own session is everybody's.
    fn owner_of_kin(&self, process: &Process) -> Option<StepKey> {
        self.known.values().find_map(|orphan| {
            let is_kin = orphan.group == process.group
                || (orphan.session == process.session && process.session != self.keeper);
            match orphan.owner {
                Owner::Step(key) if is_kin => Some(key),
                _ => None,
            }
        })
    }

    /// Forgets an orphan that was reaped. Returns its step.
    pub(super) fn forget(&mut self, pid: i32) -> Option<StepKey> {
        match self.known.remove(&pid)?.owner {
            Owner::Step(key) => Some(key),
            Owner::OneOf(_) => None,
        }
    }

    /// The orphans of a step.
    pub(super) fn of(&self, step: StepKey) -> Vec<i32> {
        let own = |orphan: &Orphan| matches!(orphan.owner, Owner::Step(key) if key == step);
        self.known.iter().filter(|(_, orphan)| own(orphan)).map(|(&pid, _)| pid).collect()
    }

    /// Kills the orphans of a step. Returns whether any is left to wait for.
    pub(super) fn kill(&mut self, step: StepKey) -> bool {
        let mut is_left = false;
        for (&pid, orphan) in &mut self.known {
            if matches!(orphan.owner, Owner::Step(key) if key == step) {
                orphan.is_out_of_reach = is_out_of_reach(pid, Signal::SIGKILL);
                is_left |= !orphan.is_out_of_reach;
            }
        }
        is_left
    }

    /// Kills the orphans that can have been nobody's but this step's, now that it has ended.
    pub(super) fn step_ended(&mut self, step: StepKey) {
        for (&pid, orphan) in &mut self.known {
            if let Owner::OneOf(suspects) = &mut orphan.owner {
                suspects.retain(|&key| key != step);
                if suspects.is_empty() {
                    orphan.is_out_of_reach = is_out_of_reach(pid, Signal::SIGKILL);
                }
            }
        }
    }
}
