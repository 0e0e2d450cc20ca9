//! The real Grid Engine that `tests/gridengine/up` brings up, for one test at a time, and workflows on it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

use crate::cluster::{LOOK_EVERY, RUN_PATIENCE};
use crate::{Ended, Place, PluginFolder, Started, checkout, not_run_here};

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

/// A folder whose torc gets nodes from Grid Engine, by the plugin of the checkout. Its server ends with it.
pub struct GridEngineSite<'c> {
    /// The folder.
    pub place: Place,
    /// Where its nodes come from.
    pub cluster: &'c GridEngine,
    _plugins: PluginFolder,
}

impl<'c> GridEngineSite<'c> {
    /// A workflow of these jobs, with one allocation of a scheduler with these fields.
    ///
    /// # Panics
    /// When the folder cannot be made.
    #[track_caller]
    pub fn new(cluster: &'c GridEngine, fields: &str, jobs: &str) -> Self {
        let place = Place::with(&format!(
            "name: w
schedulers: [{{name: ge, type: gridengine, {fields}}}]
actions:
- {{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: ge, scheduler_type: gridengine}}
execution_config: {{sigterm_lead_seconds: 3, sigkill_headroom_seconds: 3}}
compute_node_wait_for_new_jobs_seconds: 2
jobs:
{jobs}"
        ));
        let polls = [("TORC_SLURM_SHORTEST_POLL", "1s"), ("TORC_SLURM_LONGEST_POLL", "2s")];
        let polls = polls.map(|(name, value)| (name.to_owned(), value.to_owned()));
        place.set_env(cluster.env().iter().cloned().chain(polls));
        let plugins = PluginFolder::of(&place);
        let program = std::fs::read_to_string(GridEngine::plugin()).expect("it is in the checkout");
        plugins.write_program("gridengine", &program);
        Self { place, cluster, _plugins: plugins }
    }

    /// Submits it, and waits for its end.
    ///
    /// # Panics
    /// When torc cannot be started.
    #[track_caller]
    pub fn start(&self) -> Started {
        Started::start_for(self.place.command(&["submit", "w.yaml", "--wait"]), RUN_PATIENCE)
    }

    /// Its allocation.
    ///
    /// # Panics
    /// When torc does not tell.
    #[track_caller]
    pub fn allocation(&self) -> Value {
        self.place.json(&["allocations", "--all"])[0].clone()
    }

    /// Waits until there is a file.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn until_there(&self, file: &str) {
        self.cluster.until(file, || self.place.join(file).exists().then_some(()));
    }

    /// How the allocation ended, once its scheduler has said so.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn cause(&self) -> String {
        self.cluster.until("the end of the allocation", || {
            self.allocation()["cause"].as_str().map(str::to_owned)
        })
    }

    /// Waits until so many jobs run.
    ///
    /// # Panics
    /// When they do not.
    #[track_caller]
    pub fn until_running(&self, count: u64) {
        self.cluster.until(&format!("{count} jobs that run"), || {
            let status = self.place.torc(&["status", "--format", "json"]);
            // At first nobody knows the workflow.
            let report: Value = serde_json::from_str(&status.stdout).ok()?;
            (report["counts"]["running"].as_u64() == Some(count)).then_some(())
        });
    }
}

impl Drop for GridEngineSite<'_> {
    fn drop(&mut self) {
        let _ = self.place.command(&["serve", "--stop"]).output();
    }
}
