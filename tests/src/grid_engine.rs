//! The real Grid Engine that `tests/gridengine/up` brings up, for one test at a time.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use nix::fcntl::{Flock, FlockArg};

use crate::cluster::{LOOK_EVERY, RUN_PATIENCE};
use crate::{Ended, Started, checkout, not_run_here};

/// The cluster, as long as nobody else may use it.
pub struct GridEngine {
    folder: PathBuf,
    env: Vec<(String, String)>,
    _turn: Flock<File>,
}

impl GridEngine {
    /// Waits for this test's turn. `None`: there is no Grid Engine here, and that has been noted.
    ///
    /// # Panics
    /// When that cannot be noted, or the lock cannot be made.
    pub fn acquire() -> Option<Self> {
        let folder = std::env::var_os("TORC_TEST_GRIDENGINE").map_or_else(
            || PathBuf::from(format!("/tmp/torc-gridengine-{}", nix::unistd::geteuid())),
            PathBuf::from,
        );
        let Ok(text) = std::fs::read_to_string(folder.join("env.sh")) else {
            not_run_here(
                "tests on a real Grid Engine (none is up; tests/gridengine/up brings one up)",
            );
            return None;
        };
        let path = std::env::var("PATH").unwrap_or_default();
        // Several on a line; none has blanks or quotes.
        let exports = text.lines().filter_map(|line| line.strip_prefix("export "));
        let mut env: Vec<_> = exports
            .flat_map(str::split_whitespace)
            .filter_map(|word| word.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        env.push(("PATH".to_owned(), format!("{}:{path}", folder.join("commands").display())));
        let file = File::create(folder.join("tests.lock")).expect("a file to lock");
        let turn = Flock::lock(file, FlockArg::LockExclusive).expect("this test's turn");
        let cluster = Self { folder, env, _turn: turn };
        cluster.bring_up();
        cluster.clear();
        Some(cluster)
    }

    /// What its programs need in their environment.
    pub fn env(&self) -> &[(String, String)] {
        &self.env
    }

    /// The plugin for it, as it lies in the checkout.
    pub fn plugin() -> PathBuf {
        checkout().join("torc-plugins/examples/gridengine/torc-plugin-gridengine")
    }

    /// Runs one of its programs to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn run(&self, program: &str, args: &[&str]) -> Ended {
        let mut command = Command::new(program);
        command.args(args).envs(self.env.iter().map(|(name, value)| (name, value)));
        Started::start(command).wait()
    }

    /// Kills the process that all questions go to.
    ///
    /// # Panics
    /// When it does not run.
    #[track_caller]
    pub fn kill_master(&self) {
        let note = self.folder.join("spool/qmaster/qmaster.pid");
        let note = std::fs::read_to_string(&note).expect("sge_qmaster has noted its number");
        let pid = nix::unistd::Pid::from_raw(note.trim().parse().expect("is a number"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("it runs");
        self.until("the end of sge_qmaster", || {
            (!Path::new(&format!("/proc/{pid}/exe")).exists()).then_some(())
        });
    }

    /// Starts again what does not run of it.
    ///
    /// # Panics
    /// When that fails.
    #[track_caller]
    pub fn bring_up(&self) {
        let mut up = Command::new(checkout().join("tests/gridengine/up"));
        up.envs(self.env.iter().map(|(name, value)| (name, value)));
        Started::start_for(up, RUN_PATIENCE).wait().expect(0);
    }

    /// Ends what an earlier test may have left, and waits until no job is there.
    fn clear(&self) {
        self.run("qdel", &["-u", "root"]);
        self.until("a cluster without jobs", || {
            let jobs = self.run("qstat", &["-u", "*"]).stdout;
            jobs.trim().is_empty().then_some(())
        });
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
        panic!("{what} does not come to pass");
    }
}

impl Drop for GridEngine {
    fn drop(&mut self) {
        self.run("qdel", &["-u", "root"]);
    }
}
