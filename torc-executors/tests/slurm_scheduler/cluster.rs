//! The real Slurm, for one test at a time.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;
use torc_core::traits::{AllocationHandle, AllocationRequest, AllocationState, Scheduler};
use torc_executors::slurm::{Call, Programs, SlurmScheduler};

use crate::site;

/// What a user or a site may have set for themselves; none of it may matter.
const OF_A_USER: [(&str, &str); 8] = [
    ("SQUEUE_FORMAT", "%j"),
    ("SQUEUE_STATES", "PD"),
    ("SINFO_FORMAT", "%P"),
    ("SACCT_FORMAT", "User"),
    ("SLURM_TIME_FORMAT", "relative"),
    ("SBATCH_PARTITION", "nowhere"),
    ("SLURM_CLUSTERS", "another"),
    ("TZ", "Asia/Tokyo"),
];

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The cluster, as long as no other test may use it, and a folder that its nodes can reach. What was
/// submitted ends with it.
pub(crate) struct Cluster {
    pub(crate) scheduler: SlurmScheduler,
    pub(crate) folder: TempDir,
    _turn: Flock<File>,
}

impl Cluster {
    /// Waits for this test's turn. `None`: there is no cluster here, and that has been noted.
    pub(crate) fn acquire() -> Option<Self> {
        let Some(cluster) = cluster_folder() else {
            not_run_here("the scheduler on a real Slurm (no cluster is up; see docs/try-slurm.md)");
            return None;
        };
        let lock = File::create(cluster.join("tests.lock")).expect("a file to lock");
        let turn = Flock::lock(lock, FlockArg::LockExclusive).expect("this test's turn");
        let mut env: Vec<_> = std::env::vars_os().filter(|(name, _)| name == "PATH").collect();
        env.push(("SLURM_CONF".into(), cluster.join("etc/slurm.conf").into()));
        env.extend(OF_A_USER.map(|(name, value)| (name.into(), value.into())));
        let scheduler = SlurmScheduler::new(Programs::new(env));
        let folder = tempfile::tempdir().expect("a folder");
        Some(Self { scheduler, folder, _turn: turn })
    }

    /// A scheduler that has the real programs, but for these: symbolic links to the player of faults,
    /// with what it plays.
    pub(crate) fn with_faults(&self, faults: &[(&str, &str)]) -> SlurmScheduler {
        let folder = self.folder.path().join("programs");
        fs::create_dir_all(&folder).expect("a folder");
        let mut programs = self.scheduler.programs().clone();
        for name in ["sbatch", "squeue", "sacct", "scancel", "sinfo"] {
            let real = programs.find(name).expect("the client programs are installed");
            let player = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slurm_scheduler/fake");
            let fault = faults.iter().find(|(program, _)| *program == name);
            let target = if fault.is_some() { player } else { real };
            std::os::unix::fs::symlink(target, folder.join(name)).expect("a link");
        }
        let played =
            faults.iter().map(|(name, script)| (format!("FAKE_{name}").into(), script.into()));
        programs.env.extend(played);
        programs.folder = Some(folder);
        SlurmScheduler::new(programs)
    }

    pub(crate) fn request(&self, command: &str) -> AllocationRequest {
        site::request(self.folder.path(), command)
    }

    /// Submits with a key that no other test has.
    pub(crate) async fn submit(&self, request: &AllocationRequest) -> Submitted<'_> {
        let name = self.folder.path().file_name().and_then(|name| name.to_str()).expect("a name");
        let key = format!(
            "test{name}-{}",
            request.name.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
        );
        let handle = self.scheduler.submit(request, &key).await.expect("it is accepted");
        Submitted { cluster: self, handle, key }
    }

    /// What a client program says.
    pub(crate) async fn ask(&self, program: &'static str, args: &[&str]) -> String {
        let call = Call::new(program, args.iter().copied());
        let answer = self.scheduler.programs().run(call).await.expect("an answer");
        answer.text().expect("text").to_owned()
    }
}

/// An allocation; cancelled when it is dropped.
pub(crate) struct Submitted<'c> {
    cluster: &'c Cluster,
    pub(crate) handle: AllocationHandle,
    pub(crate) key: String,
}

impl Submitted<'_> {
    pub(crate) async fn state(&self) -> AllocationState {
        let states = self.cluster.scheduler.observe(std::slice::from_ref(&self.handle)).await;
        states.expect("an answer").pop().expect("one state")
    }

    /// Looks again until it stands there.
    pub(crate) async fn until(&self, is: impl Fn(&AllocationState) -> bool) -> AllocationState {
        loop {
            let state = self.state().await;
            if is(&state) {
                return state;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub(crate) async fn until_running(&self) {
        self.until(|state| matches!(state, AllocationState::Running { .. })).await;
    }

    pub(crate) async fn until_ended(&self) -> AllocationState {
        self.until(|state| matches!(state, AllocationState::Ended { .. })).await
    }
}

impl Drop for Submitted<'_> {
    fn drop(&mut self) {
        // Not through the scheduler: a test may be unwinding inside its runtime.
        let programs = self.cluster.scheduler.programs();
        let env = torc_executors::slurm::environment::for_queries(&programs.env);
        if let Ok(scancel) = programs.find("scancel") {
            let mut command = std::process::Command::new(scancel);
            let _ = command.arg(&self.handle.0).env_clear().envs(env).status();
        }
    }
}

/// The folder of the cluster that `tests/slurm/up` made: the one that the environment names, else the
/// usual one. A Slurm that is somebody's, and not for tests, is left alone.
fn cluster_folder() -> Option<PathBuf> {
    let of_conf = |conf| Some(Path::new(&conf).parent()?.parent()?.to_owned());
    let named = std::env::var_os("SLURM_CONF").and_then(of_conf);
    let usual = || {
        std::env::var_os("TORC_TEST_SLURM").map_or_else(
            || PathBuf::from(format!("/tmp/torc-slurm-{}", nix::unistd::geteuid())),
            PathBuf::from,
        )
    };
    let folder = named.unwrap_or_else(usual);
    folder.join("env.sh").exists().then_some(folder)
}

/// Notes for `tests/run` that this could not do its work here: a test that is silently left out would
/// look as if it had passed.
fn not_run_here(reason: &str) {
    let Some(notes) = std::env::var_os("TORC_SKIPS") else {
        panic!("cannot run here ({reason}), and TORC_SKIPS names no file to say so in");
    };
    let file = fs::OpenOptions::new().append(true).create(true).open(notes);
    let noted = file.and_then(|mut file| writeln!(file, "{reason}"));
    assert!(noted.is_ok(), "cannot note that this was left out: {reason}");
}
