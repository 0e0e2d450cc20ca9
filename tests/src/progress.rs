//! What tests on the cluster wait for, and what they read in torc's answers.

use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::{Cluster, ClusterPlace};

/// A field that is a text.
///
/// # Panics
/// When it is not.
#[track_caller]
pub fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}"))
}

/// A field that is a number: a count, or a moment in milliseconds.
///
/// # Panics
/// When it is not.
#[track_caller]
pub fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("no {field} in {value}"))
}

/// Now, in milliseconds since 1970.
///
/// # Panics
/// When it is earlier.
pub fn now() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().expect("it is later than 1970");
    u64::try_from(since.as_millis()).expect("it is a date")
}

/// The names of the nodes of an attempt.
///
/// # Panics
/// When it has no list of them.
#[track_caller]
pub fn nodes(attempt: &Value) -> Vec<&str> {
    let nodes = attempt["nodes"].as_array().unwrap_or_else(|| panic!("no nodes in {attempt}"));
    nodes.iter().map(|node| node.as_str().expect("a name")).collect()
}

/// The names of the nodes of an allocation.
///
/// # Panics
/// When it has no list of them.
#[track_caller]
pub fn allocated(allocation: &Value) -> Vec<&str> {
    let nodes = allocation["nodes"].as_array().unwrap_or_else(|| panic!("none in {allocation}"));
    nodes.iter().map(|node| text(node, "name")).collect()
}

/// The word for how an attempt ended.
pub fn outcome(attempt: &Value) -> &str {
    attempt["outcome"]["outcome"].as_str().unwrap_or("none")
}

/// A node that is dead until this is dropped.
pub struct DeadNode<'c> {
    cluster: &'c Cluster,
    name: String,
}

impl Cluster {
    /// Has a node die, and Slurm told so at once if `is_told`.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn fail_node(&self, name: &str, is_told: bool) -> DeadNode<'_> {
        let dead = DeadNode { cluster: self, name: name.to_owned() };
        let args = [name, "--down"];
        self.script("fail-node", if is_told { &args } else { &args[..1] });
        dead
    }
}

impl Drop for DeadNode<'_> {
    fn drop(&mut self) {
        self.cluster.script("revive-node", &[&self.name]);
    }
}

impl ClusterPlace<'_> {
    /// Waits until so many jobs run.
    ///
    /// # Panics
    /// When it does not come to pass.
    #[track_caller]
    pub fn until_running(&self, count: u64) {
        self.until_counted(count, 0);
    }

    /// Waits until so many jobs run, and so many are completed.
    ///
    /// # Panics
    /// When it does not come to pass.
    #[track_caller]
    pub fn until_counted(&self, running: u64, completed: u64) {
        self.until(&format!("{running} running and {completed} completed"), || {
            let status = self.place.torc(&["status", "--format", "json"]);
            // At first nobody knows the workflow.
            let report: Value = serde_json::from_str(&status.stdout).ok()?;
            let is = |status: &str, count| report["counts"][status].as_u64() == Some(count);
            (is("running", running) && is("completed", completed)).then_some(())
        });
    }

    /// Waits until every job has ended.
    ///
    /// # Panics
    /// When that does not come to pass.
    #[track_caller]
    pub fn until_over(&self) {
        self.until("the end of the workflow", || {
            (self.place.json(&["status"])["state"] == "ended").then_some(())
        });
    }

    /// The first allocation, once it is as it should be.
    ///
    /// # Panics
    /// When it never is.
    #[track_caller]
    pub fn until_allocation(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        self.until(what, || self.allocations().into_iter().next().filter(&is_so))
    }

    /// A signal for the worker of an allocation, wherever it runs: all nodes are this machine.
    ///
    /// # Panics
    /// When it is not there.
    #[track_caller]
    pub fn signal_worker(&self, signal: Signal, allocation: u32) {
        for pid in self.worker(allocation) {
            kill(pid, signal).expect("the worker is there");
        }
    }

    /// Stops the worker of an allocation, and again whenever somebody lets it go on, until it is killed.
    /// Slurm does let it, before it asks it to end.
    ///
    /// # Panics
    /// When it is not there.
    #[track_caller]
    pub fn paralyse_worker(&self, allocation: u32) {
        self.signal_worker(Signal::SIGSTOP, allocation);
        let pids = self.worker(allocation).into_iter().map(|pid| pid.to_string());
        let again = "(while kill -STOP \"$@\"; do sleep 0.003; done) >/dev/null 2>&1 &";
        let started = Command::new("bash").args(["-c", again, "bash"]).args(pids).status();
        assert!(started.is_ok_and(|status| status.success()));
    }

    #[track_caller]
    fn worker(&self, allocation: u32) -> Vec<Pid> {
        let dir = self.place.join("torc_output");
        let wanted =
            format!("--output-dir {} --workflow 1 --allocation {allocation} ", dir.display());
        let found = processes(&wanted);
        assert!(!found.is_empty(), "no worker of allocation {allocation}");
        found
    }
}

/// The processes on this machine, and so on any node, in whose command line a pattern is found.
///
/// # Panics
/// When they cannot be looked for.
pub fn processes(pattern: &str) -> Vec<Pid> {
    let found = Command::new("pgrep").args(["-f", "--", pattern]).output().expect("pgrep starts");
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    found.lines().map(|line| Pid::from_raw(line.parse().expect("a process id"))).collect()
}
