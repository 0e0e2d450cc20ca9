//! Deaths of torc and of the keeper: nothing of any job survives.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use torc_core::traits::{Executor, ExecutorError, Outcome};

use crate::site::{Pipe, Reader, Site, Test, run, step_id};

pub(crate) const TESTS: &[Test] = &[
    ("nothing_survives_a_killed_torc", killed_torc),
    ("nothing_survives_a_killed_keeper", killed_keeper),
    ("nothing_survives_a_dropped_executor", dropped_executor),
    ("nothing_survives_a_shutdown", shutdown),
    ("the_keeper_ignores_what_a_user_sends", sturdy_keeper),
    ("ignored_signals_are_not_inherited", ignored_signals),
];

/// A process that ignores signals, in a child, a grandchild in another session, a daemon, and a
/// daemon without environment; each writes a line when it is there.
const FAMILY: &str = "exec 9> ready; trap '' HUP INT TERM; sleeper='echo ready >&9; sleep 1000'; \
     bash -c \"$sleeper\" & (setsid bash -c \"$sleeper\" & wait) & \
     (setsid bash -c \"$sleeper\" &); (setsid setsid env -i bash -c \"$sleeper\" &); \
     echo ready >&9; wait; sleep 1000";
const FAMILY_SIZE: usize = 5;

/// The first argument of a program that is to start a job and be killed.
const VICTIM: &str = "__victim";

/// Runs one job with the given script in the given folder if this program was asked to.
pub(crate) fn victim_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next()? != VICTIM {
        return None;
    }
    let (folder, script) = (arguments.next()?, arguments.next()?);
    run(async move {
        let mut site = Site::new();
        let mut step = site.step(1, &script);
        step.working_dir = folder.into();
        assert!(matches!(site.outcome(step).await, Outcome::Exited { .. }));
    });
    Some(ExitCode::SUCCESS)
}

/// This program as one that runs a job; the returned command can be made another's.
fn victim(folder: &Path, script: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a program"));
    command.arg(VICTIM).arg(folder).arg(script).process_group(0);
    command
}

fn killed_torc() {
    run(async {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ready = Pipe::make(folder.path().join("ready"));
        let mut victim = victim(folder.path(), FAMILY).spawn().expect("starts");
        let reader = ready.lines(FAMILY_SIZE).await;
        victim.kill().expect("is killed");
        victim.wait().expect("is reaped");
        reader.all_gone().await;
    });
}

/// A site where a family runs.
async fn family() -> (Site, Reader) {
    let site = Site::new();
    let ready = site.pipe("ready");
    site.launch(site.step(1, FAMILY)).await;
    let reader = ready.lines(FAMILY_SIZE).await;
    (site, reader)
}

fn keeper(site: &Site) -> Pid {
    Pid::from_raw(i32::try_from(site.executor.keeper_pid()).expect("fits"))
}

fn killed_keeper() {
    run(async {
        let (mut site, reader) = family().await;
        kill(keeper(&site), Signal::SIGKILL).expect("is killed");
        assert_eq!(site.end().await.1, Outcome::Lost);
        reader.assert_all_gone();
        let error = site.executor.launch(site.step(2, "true")).await;
        assert!(matches!(error, Err(ExecutorError::Gone(_))), "{error:?}");
    });
}

fn dropped_executor() {
    run(async {
        let (site, reader) = family().await;
        drop(site);
        reader.all_gone().await;
    });
}

fn shutdown() {
    run(async {
        let (mut site, reader) = family().await;
        site.executor.shutdown().await;
        reader.assert_all_gone();
        assert_eq!(site.end().await.1, Outcome::Cancelled);
        assert_eq!(kill(keeper(&site), None), Err(nix::errno::Errno::ESRCH));
        let error = site.executor.launch(site.step(2, "true")).await;
        assert!(matches!(error, Err(ExecutorError::Gone(_))), "{error:?}");
        // A second time is no harm.
        site.executor.shutdown().await;
    });
}

fn sturdy_keeper() {
    run(async {
        let mut site = Site::new();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
            kill(keeper(&site), signal).expect("is sent");
        }
        let step = site.step(1, "exit 4");
        assert_eq!(site.outcome(step).await, Outcome::Exited { code: 4 });
        assert!(
            site.executor.signal(step_id(1), torc_core::traits::StepSignal::Kill).await.is_ok()
        );
    });
}

fn ignored_signals() {
    run(async {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let script = "grep SigIgn /proc/self/status > ignored; kill -INT $$; sleep 1000";
        let inner = victim(folder.path(), script);
        // What `nohup torc run &` does in a script.
        let mut outer = Command::new("bash");
        outer.args(["-c", "trap '' INT HUP QUIT CHLD; exec \"$@\"", "bash"]);
        outer.arg(inner.get_program()).args(inner.get_args());
        let status = tokio::process::Command::from(outer).status().await.expect("runs");
        // The job was ended by the signal, which the victim takes for a failure.
        assert!(!status.success());
        let ignored = std::fs::read_to_string(folder.path().join("ignored")).expect("readable");
        assert_eq!(ignored.trim_end(), "SigIgn:\t0000000000000000");
    });
}
