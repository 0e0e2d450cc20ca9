//! The real Slurm that `tests/slurm/up` brings up, for one test at a time.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

use crate::{Ended, Place, Started, checkout, not_run_here};

/// How long a workflow on the cluster may take: nodes are given within seconds, but the machine may be
/// busy.
pub const RUN_PATIENCE: Duration = Duration::from_secs(240);
/// The pause between two looks at something that only the cluster can tell.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The cluster, as long as nobody else may use it.
pub struct Cluster {
    env: Vec<(String, String)>,
    _turn: Flock<File>,
}

impl Cluster {
    /// Waits for this test's turn. `None`: there is no cluster here, and that has been noted.
    ///
    /// # Panics
    /// When that cannot be noted, or the lock cannot be made.
    pub fn acquire() -> Option<Self> {
        let folder = std::env::var_os("TORC_TEST_SLURM").map_or_else(
            || PathBuf::from(format!("/tmp/torc-slurm-{}", nix::unistd::geteuid())),
            PathBuf::from,
        );
        let Ok(text) = std::fs::read_to_string(folder.join("env.sh")) else {
            not_run_here("tests on a real Slurm (no cluster is up; see docs/try-slurm.md)");
            return None;
        };
        let exports = text.lines().filter_map(|line| line.strip_prefix("export "));
        let env = exports
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.trim_matches(['\'', '"']).to_owned()))
            .collect();
        let file = File::create(folder.join("tests.lock")).expect("a file to lock");
        let turn = Flock::lock(file, FlockArg::LockExclusive).expect("this test's turn");
        let cluster = Self { env, _turn: turn };
        cluster.clear();
        Some(cluster)
    }

    /// A folder with this spec in `w.yaml`, whose torc knows the cluster.
    pub fn place(&self, spec: &str) -> ClusterPlace<'_> {
        let place = Place::with(spec);
        let seconds = [("TORC_SLURM_SHORTEST_POLL", "1s"), ("TORC_SLURM_LONGEST_POLL", "2s")];
        let own = seconds.map(|(name, value)| (name.to_owned(), value.to_owned()));
        place.set_env(self.env.iter().cloned().chain(own));
        ClusterPlace { place, cluster: self }
    }

    /// Runs one of Slurm's programs to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn slurm(&self, program: &str, args: &[&str]) -> Ended {
        let mut command = Command::new(program);
        command.args(args).envs(self.env.iter().map(|(name, value)| (name, value)));
        Started::start(command).wait()
    }

    /// Runs a script of `tests/slurm`.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn script(&self, name: &str, args: &[&str]) {
        let mut command = Command::new(checkout().join("tests/slurm").join(name));
        command.args(args).envs(self.env.iter().map(|(name, value)| (name, value)));
        Started::start(command).wait().expect(0);
    }

    /// The fields of Slurm's answer about a job, one line a step, from its accounting.
    ///
    /// # Panics
    /// When Slurm does not answer.
    #[track_caller]
    pub fn accounting(&self, job: &str, format: &str) -> Vec<Vec<String>> {
        let format = format!("--format={format}");
        let ended = self.slurm("sacct", &["--noheader", "--parsable2", "-j", job, &format]);
        let ended = ended.expect(0);
        let fields = |line: &str| line.split('|').map(str::to_owned).collect();
        ended.stdout.lines().map(fields).collect()
    }

    /// Ends what an earlier test may have left, and waits until no job is there.
    fn clear(&self) {
        self.slurm("scancel", &["--user=root", "--quiet"]);
        self.until_empty();
    }

    /// Waits until no job is there, be it one that is about to end.
    ///
    /// # Panics
    /// When one stays.
    #[track_caller]
    pub fn until_empty(&self) {
        let deadline = Instant::now() + RUN_PATIENCE;
        while Instant::now() < deadline {
            let jobs = self.slurm("squeue", &["--noheader"]).stdout;
            if jobs.trim().is_empty() {
                return;
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
        panic!("the cluster does not become empty");
    }
}

/// A folder whose torc submits to the cluster. Its server ends with it.
pub struct ClusterPlace<'c> {
    /// The folder.
    pub place: Place,
    /// The cluster.
    pub cluster: &'c Cluster,
}

impl ClusterPlace<'_> {
    /// Submits `w.yaml` and follows it to its end.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn submit_and_wait(&self) -> Ended {
        self.start_and_wait().wait()
    }

    /// Submits `w.yaml` and follows it, beside the test.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start_and_wait(&self) -> Started {
        Started::start_for(self.place.command(&["submit", "w.yaml", "--wait"]), RUN_PATIENCE)
    }

    /// Submits `w.yaml`.
    ///
    /// # Panics
    /// When it is not taken.
    #[track_caller]
    pub fn submit(&self) {
        self.place.torc(&["submit", "w.yaml"]).expect(0);
    }

    /// The allocations, those that are over included.
    ///
    /// # Panics
    /// When they cannot be asked for.
    #[track_caller]
    pub fn allocations(&self) -> Vec<Value> {
        self.place.json(&["allocations", "--all"]).as_array().expect("a list").clone()
    }

    /// Looks again until what is looked for is there.
    ///
    /// # Panics
    /// When it does not come to pass.
    #[track_caller]
    pub fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + RUN_PATIENCE;
        while Instant::now() < deadline {
            if let Some(found) = look() {
                return found;
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
        panic!("{what} does not come to pass\n{}", self.server_log());
    }

    /// What the server said about itself.
    pub fn server_log(&self) -> String {
        std::fs::read_to_string(self.place.join("torc_output/server.log")).unwrap_or_default()
    }

    /// The process of the server.
    ///
    /// # Panics
    /// When none runs.
    #[track_caller]
    pub fn server_pid(&self) -> i32 {
        let note: Value =
            serde_json::from_str(&self.place.read("torc_output/server.json")).expect("is JSON");
        note["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a process id")
    }

    /// Kills the server, as a crash would.
    ///
    /// # Panics
    /// When none runs.
    #[track_caller]
    pub fn kill_server(&self) {
        let pid = nix::unistd::Pid::from_raw(self.server_pid());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("it runs");
        self.until("the end of the killed server", || {
            (!Path::new(&format!("/proc/{pid}/exe")).exists()).then_some(())
        });
    }
}

impl Drop for ClusterPlace<'_> {
    fn drop(&mut self) {
        let _ = self.place.command(&["serve", "--stop"]).output();
        self.cluster.slurm("scancel", &["--user=root", "--quiet"]);
    }
}
