//! Whether there is a cluster, and how a test gets an allocation of it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use crate::site::{Test, Where, appears};

/// Names the folder through which a test inside talks to its submitter.
const FOLDER: &str = "TORC_TEST_FOLDER";

/// In that folder: the node that is to die, and that it has.
const DOOMED: &str = "doomed";
const DEAD: &str = "dead";

/// And that the test passed.
const PASSED: &str = "passed";

/// What this program is called with inside an allocation, before the name of a test.
const INSIDE: &str = "__inside";

/// The partitions of the project's own cluster (`tests/slurm/up`).
const MAIN: &str = "main";
const THREADS: &str = "threads";

/// Runs a test if this process was submitted for it.
pub(crate) fn run_inside_if_asked(suites: &[(&str, &[Test])]) -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next()? != INSIDE {
        return None;
    }
    let wanted = arguments.next()?;
    for (suite, tests) in suites {
        let name = wanted.strip_prefix(&format!("{suite}::"));
        if let Some(test) = tests.iter().find(|test| Some(test.name) == name) {
            (test.run)();
            std::fs::write(folder().join(PASSED), "").expect("can be told");
            return Some(ExitCode::SUCCESS);
        }
    }
    panic!("there is no test {wanted}");
}

/// Submits this program to run a test inside an allocation, and waits for it.
///
/// # Errors
/// What it printed, if it failed.
pub(crate) fn submit(name: &str, test: &Test) -> Result<(), String> {
    let partition = match test.place {
        Where::Main { .. } => MAIN,
        Where::Threads => THREADS,
    };
    if let Err(reason) = check(partition) {
        not_run_here(&format!("torc-executors {name}: {reason}"));
        return Ok(());
    }
    let _turn = turn();
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let output = folder.path().join("output");
    let nodes = match test.place {
        Where::Main { nodes } => nodes,
        Where::Threads => 1,
    };
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let script = "#!/bin/bash\nexec \"$@\"\n";
    let file = folder.path().join("script");
    std::fs::write(&file, script).map_err(|error| error.to_string())?;
    let mut submitted = Command::new("sbatch")
        .args(["--wait", "--exclusive", "--mem=0", "--no-kill", "--no-requeue", "--time=10"])
        .args([format!("--nodes={nodes}"), format!("--partition={partition}")])
        .args([format!("--output={}", output.display()), format!("--job-name=test-{}", test.name)])
        .args(test.poison)
        .arg(&file)
        .arg(program)
        .args([INSIDE, name])
        .env(FOLDER, folder.path())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let (status, doomed) = attend(&mut submitted, folder.path());
    if let Some(node) = doomed {
        harness("revive-node", &node);
    }
    // sbatch's word alone is none: a job that Slurm has forgotten has not failed.
    if status.success() && folder.path().join(PASSED).exists() {
        return Ok(());
    }
    let said = std::fs::read_to_string(&output).unwrap_or_default();
    Err(format!("the batch job failed ({status}):\n{said}"))
}

/// Waits for this test's turn on the project's own cluster; others end whatever they find there.
fn turn() -> Option<Flock<File>> {
    let cluster = std::env::var_os("TORC_TEST_SLURM")?;
    let lock = File::create(Path::new(&cluster).join("tests.lock")).expect("a file to lock");
    Some(Flock::lock(lock, FlockArg::LockExclusive).expect("this test's turn"))
}

/// Waits for a batch job, and lets a node die if it asks for that. From outside: what is started inside
/// of a job ends with it.
fn attend(submitted: &mut Child, folder: &Path) -> (ExitStatus, Option<String>) {
    let mut doomed = None;
    loop {
        if let Some(status) = submitted.try_wait().expect("sbatch can be waited for") {
            return (status, doomed);
        }
        if doomed.is_none()
            && let Ok(node) = std::fs::read_to_string(folder.join(DOOMED))
            && let Some(node) = node.strip_suffix('\n')
        {
            harness("fail-node", node);
            doomed = Some(node.to_owned());
            std::fs::write(folder.join(DEAD), "\n").expect("can be told");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn harness(script: &str, node: &str) {
    let done = Command::new(scripts().join(script)).arg(node).output();
    let done = done.expect("the script runs");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{script} {node}: {said}");
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/slurm")
}

/// Where a test inside talks to its submitter.
fn folder() -> PathBuf {
    std::env::var_os(FOLDER).expect("a submitter").into()
}

/// Lets a node die; returns when it is dead.
pub(crate) async fn fail(node: &str) {
    std::fs::write(folder().join(DOOMED), format!("{node}\n")).expect("can be asked for");
    appears(&folder().join(DEAD)).await;
}

/// Says why there is no such partition.
fn check(partition: &str) -> Result<(), String> {
    if std::env::var_os("SLURM_CONF").is_none() {
        return Err("SLURM_CONF is not set: there is no Slurm cluster".to_owned());
    }
    let asked = Command::new("sinfo").args(["-h", "-o", "%P", "-p", partition]).output();
    match asked {
        Err(error) => Err(format!("sinfo: {error}")),
        Ok(answer) if !answer.status.success() => {
            Err(format!("sinfo: {}", String::from_utf8_lossy(&answer.stderr).trim()))
        }
        Ok(answer) if answer.stdout.is_empty() => {
            Err(format!("the Slurm cluster has no partition {partition}"))
        }
        Ok(_) => Ok(()),
    }
}

/// Notes for `tests/run` that a test could not do its work here, and why.
pub(crate) fn not_run_here(reason: &str) {
    let Some(notes) = std::env::var_os("TORC_SKIPS") else {
        panic!("cannot run here ({reason}), and TORC_SKIPS names no file to say so in");
    };
    let file = std::fs::OpenOptions::new().append(true).create(true).open(notes);
    let noted = file.and_then(|mut file| writeln!(file, "{reason}"));
    assert!(noted.is_ok(), "cannot note that this was left out: {reason}");
}
