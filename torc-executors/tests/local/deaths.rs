//! Deaths of torc and of the keeper: nothing of any job survives.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use torc_core::traits::{Executor, ExecutorError, Outcome};

use crate::sights::signals;
use crate::site::{Pipe, Reader, Site, Test, run, step_id};

pub(crate) const TESTS: &[Test] = &[
    ("nothing_survives_a_killed_torc", killed_torc),
    ("nothing_survives_a_killed_keeper", killed_keeper),
    ("nothing_survives_a_lease_that_is_over", lease),
    ("nothing_survives_when_torc_takes_no_reports_any_more", full_torc),
    ("nothing_survives_a_dropped_executor", dropped_executor),
    ("nothing_survives_a_shutdown", shutdown),
    ("the_keeper_ignores_what_a_user_sends", sturdy_keeper),
    ("ignored_signals_are_not_inherited", ignored_signals),
];

/// Processes that ignore signals: a shell, a child, a grandchild in another session, and a daemon;
/// each writes a line when it is there.
const FAMILY: &str = "exec 9> ready; trap '' HUP INT TERM; sleeper='echo ready >&9; sleep 1000'; \
     bash -c \"$sleeper\" & (setsid bash -c \"$sleeper\" & wait) & \
     (setsid bash -c \"$sleeper\" &); $HIDDEN echo ready >&9; wait; sleep 1000";
const FAMILY_SIZE: usize = 4;

/// A daemon without environment.
const HIDDEN: &str = "(setsid env -i bash -c \"$sleeper\" &);";

/// The script of a family, and how many processes there are to wait for.
fn with_hidden() -> (String, usize) {
    (FAMILY.replace("$HIDDEN", HIDDEN), FAMILY_SIZE + 1)
}

fn without_hidden() -> (String, usize) {
    (FAMILY.replace("$HIDDEN", ""), FAMILY_SIZE)
}

/// The first argument of a program that is to start a job and be killed.
const VICTIM: &str = "__victim";

/// The exit code of a victim whose job was ended by SIGINT.
const INTERRUPTED: u8 = 42;

/// Runs one job with the given script in the given folder if this program was asked to.
pub(crate) fn victim_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next()? != VICTIM {
        return None;
    }
    let (folder, script) = (arguments.next()?, arguments.next()?);
    let mut is_interrupted = false;
    run(async {
        let mut site = Site::new();
        let mut step = site.step(1, &script);
        step.working_dir = folder.into();
        is_interrupted = site.outcome(step).await == Outcome::Signaled { signal: 2 };
    });
    Some(if is_interrupted { ExitCode::from(INTERRUPTED) } else { ExitCode::FAILURE })
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
        let (script, size) = with_hidden();
        let mut victim = victim(folder.path(), &script).spawn().expect("starts");
        let reader = ready.lines(size).await;
        victim.kill().expect("is killed");
        victim.wait().expect("is reaped");
        reader.all_gone().await;
    });
}

/// A site where a family runs.
async fn family((script, size): (String, usize)) -> (Site, Reader) {
    let site = Site::new();
    let ready = site.pipe("ready");
    site.launch(site.step(1, &script)).await;
    let reader = ready.lines(size).await;
    (site, reader)
}

fn keeper(site: &Site) -> Pid {
    Pid::from_raw(i32::try_from(site.executor.keeper_pid()).expect("fits"))
}

fn killed_keeper() {
    run(async {
        let (mut site, reader) = family(without_hidden()).await;
        kill(keeper(&site), Signal::SIGKILL).expect("is killed");
        assert_eq!(site.end().await.1, Outcome::Lost);
        reader.assert_all_gone();
        let error = site.executor.launch(site.step(2, "true")).await;
        assert!(matches!(error, Err(ExecutorError::Gone(_))), "{error:?}");
    });
}

fn lease() {
    run(async {
        let (mut site, reader) = family(without_hidden()).await;
        // As far as the keeper knows, this program hangs from now on.
        site.executor.lease(Duration::from_millis(300));
        assert_eq!(site.end().await.1, Outcome::Lost);
        reader.assert_all_gone();
    });
}

fn full_torc() {
    run(async {
        let (mut site, reader) = family(without_hidden()).await;
        site.executor.lease(Duration::from_millis(500));
        // More than the socket takes is to be told of them.
        let program = format!("/{}", "x".repeat(4_000));
        for number in 2..200 {
            let mut step = site.step(number, "true");
            step.argv = vec![program.clone()];
            site.launch(step).await;
        }
        // On the only thread there is.
        reader.wait_until_all_gone();
        loop {
            let (step, outcome, _) = site.end().await;
            if step == step_id(1) {
                return assert_eq!(outcome, Outcome::Lost);
            }
        }
    });
}

fn dropped_executor() {
    run(async {
        let (site, reader) = family(with_hidden()).await;
        drop(site);
        reader.all_gone().await;
    });
}

fn shutdown() {
    run(async {
        let (mut site, reader) = family(with_hidden()).await;
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
        assert_eq!(status.code(), Some(i32::from(INTERRUPTED)));
        let ignored = std::fs::read_to_string(folder.path().join("ignored")).expect("readable");
        let mask = ignored.strip_prefix("SigIgn:").expect("the mask of ignored signals");
        assert_eq!(signals(mask), 0);
    });
}
