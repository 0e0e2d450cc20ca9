//! How much memory the processes of steps use.
//!
//! The resident sizes of a step's processes are added up; that counts pages that they share (after a
//! fork, for instance) several times. So before a step is said to use too much, the kernel is asked
//! for each process's proportional share, which is slower to tell. The processes are read one after the other, so
//! that what they share counts too often when some of them end meanwhile; so it is looked at once more. Reads
//! only; decides nothing.

use std::collections::HashMap;

use crate::keeper::mark;
use crate::keeper::wire::StepKey;
use crate::processes::{self, Process};

/// A step to measure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject {
    /// The step.
    pub(super) key: StepKey,
    /// Its main process, a child of the keeper.
    pub(super) pid: i32,
    /// Bytes that it may use; `None`: any number.
    pub(super) limit: Option<u64>,
}

/// What a step uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// The step.
    pub(super) key: StepKey,
    /// Bytes it uses, shared pages counted once if that mattered.
    pub(super) used: u64,
    /// Whether that is more than it may.
    pub(super) is_over: bool,
}

/// Measures these steps of a keeper. Takes a few 10 µs for each process, more where a step seems to
/// use too much.
pub(super) fn measure(keeper: i32, subjects: &[Subject]) -> Vec<Sample> {
    let orphans = orphans(keeper, subjects);
    let is_main = |process: &Process| process.parent == keeper && !process.is_zombie;
    let look = |subject: &Subject| {
        let mut processes = processes::tree(subject.pid);
        // The process id may be another's by now.
        processes.first().filter(|first| is_main(first))?;
        let left = orphans.get(&subject.key).into_iter().flatten();
        processes.extend(left.flat_map(|&pid| processes::tree(pid)));
        Some(judge(subject, &processes))
    };
    let found = |subject| {
        look(subject).and_then(|seen| if seen.is_over { look(subject) } else { Some(seen) })
    };
    subjects.iter().filter_map(found).collect()
}

fn judge(subject: &Subject, processes: &[Process]) -> Sample {
    let resident = processes.iter().map(Process::resident_bytes).sum();
    let Some(limit) = subject.limit.filter(|&limit| resident > limit) else {
        return Sample { key: subject.key, used: resident, is_over: false };
    };
    let share =
        |process: &Process| process.proportional_bytes().unwrap_or_else(|| process.resident_now());
    let used = processes.iter().map(share).sum();
    Sample { key: subject.key, used, is_over: used > limit }
}

/// The processes that the keeper adopted, by the step that left them.
fn orphans(keeper: i32, subjects: &[Subject]) -> HashMap<StepKey, Vec<i32>> {
    let children = processes::children_of_thread(keeper, keeper).unwrap_or_default();
    let mut orphans: HashMap<StepKey, Vec<i32>> = HashMap::new();
    if children.len() > subjects.len() {
        let mains: std::collections::HashSet<i32> =
            subjects.iter().map(|subject| subject.pid).collect();
        for pid in children.into_iter().filter(|pid| !mains.contains(pid)) {
            if let Some(key) = mark::find(&processes::environ(pid), keeper) {
                orphans.entry(key).or_default().push(pid);
            }
        }
    }
    orphans
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::process::{Command, Stdio};

    use super::*;

    /// Holds 64 MiB, shared with four children.
    const SHARED: &str = "import os, sys
x = bytearray(64 << 20)
for i in range(4):
    if os.fork() == 0:
        sys.stdin.read()
        os._exit(0)
print('x', end='', flush=True)
sys.stdin.read()";
    const MIB: u64 = 1 << 20;

    #[test]
    fn shared_pages_count_once_before_a_step_is_over_its_limit() {
        let mut command = Command::new("python3");
        command.args(["-c", SHARED]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python3 starts");
        let output = child.stdout.as_mut().expect("is piped");
        output.read_exact(&mut [0]).expect("the processes are there");
        let own = i32::try_from(std::process::id()).expect("fits");
        let pid = i32::try_from(child.id()).expect("fits");
        let measured = |keeper, limit| measure(keeper, &[Subject { key: 7, pid, limit }]);
        let one = |limit: Option<u64>| {
            let samples = measured(own, limit);
            assert_eq!(samples.len(), 1);
            samples[0]
        };
        let all = one(None);
        assert!(all.key == 7 && all.used > 4 * 64 * MIB && !all.is_over, "{all:?}");
        let below = one(Some(150 * MIB));
        assert!(below.used > 64 * MIB && below.used < 150 * MIB && !below.is_over, "{below:?}");
        let over = one(Some(50 * MIB));
        assert!(over.used < 150 * MIB && over.is_over, "{over:?}");
        assert_eq!(measured(own + 1, None), [], "a process of another parent is another's");
        // At the end of their input all of them end.
        drop(child.stdin.take());
        assert!(child.wait().expect("is reaped").success());
    }
}
