//! Programs that answer, fail, hang and say too much: the shell plays them.

use std::io::Read;

use super::*;

/// The shell as a client program: it does what the test says.
fn programs() -> Programs {
    Programs {
        folder: Some("/bin".into()),
        env: vec![("PATH".into(), "/bin:/usr/bin".into()), ("SQUEUE_FORMAT".into(), "x".into())],
        deadline: Duration::from_secs(60),
        longest_answer: 1000,
    }
}

fn shell(script: &str) -> Call {
    Call::new("sh", ["-c", script])
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn run(programs: &Programs, call: Call) -> Result<Answer, CommandError> {
    wait(programs.run(call))
}

#[test]
fn a_program_gets_its_arguments_input_and_environment() {
    let mut call = Call::new(
        "sh",
        ["-c", "cat; echo \"$1|$SQUEUE_FORMAT|$LC_ALL\"; pwd; echo w >&2", "sh", "a b"],
    );
    call.input = b"input\n".to_vec();
    call.folder = Some("/".into());
    let answer = run(&programs(), call).unwrap();
    assert_eq!(answer.text().unwrap(), "input\na b||C\n/\n");
    assert_eq!(answer.stderr, "w\n");
}

#[test]
fn an_environment_of_its_own_is_the_whole_one() {
    let mut call = shell("/usr/bin/env");
    call.env = Some(vec![("A".into(), "1".into())]);
    let answer = run(&programs(), call).unwrap();
    assert!(answer.text().unwrap().lines().any(|line| line == "A=1"));
    assert!(!answer.text().unwrap().contains("SLURM_TIME_FORMAT"));
}

#[test]
fn input_that_is_not_read_is_no_error() {
    let mut call = shell("exec <&-; echo done");
    call.input = vec![b'x'; 1 << 20];
    assert_eq!(run(&programs(), call).unwrap().text().unwrap(), "done\n");
}

#[test]
fn failures_are_told_apart() {
    let check = |call: Call, expected: &str| {
        assert_eq!(run(&programs(), call).unwrap_err().to_string(), expected);
    };
    check(shell("echo no such account >&2; exit 3"), "`sh` failed with code 3: no such account");
    check(shell("kill -9 $$"), "`sh` was ended by signal 9: ");
    check(
        shell("head -c 2000 /dev/zero"),
        "`sh` answered with more than 1000 bytes, and was killed",
    );
    let missing = Call::new("sbatch-that-is-not-there", [""; 0]);
    check(
        missing,
        "cannot find `sbatch-that-is-not-there` in /bin: load Slurm the way this site does (often `module load slurm`), or install its client programs (Debian: slurm-client), or configure the folder that has them",
    );
    let mut call = shell("true");
    call.folder = Some("/nowhere/at/all".into());
    check(
        call,
        "cannot start `sh` in the folder /nowhere/at/all: No such file or directory (os error 2); make the folder, or submit from another",
    );
    let answer = run(&programs(), shell("printf '\\377'")).unwrap();
    assert_eq!(answer.text().unwrap_err().to_string(), "what `sh` answered is not UTF-8");
}

#[test]
fn long_complaints_do_not_block_it() {
    let call = shell("head -c 300000 /dev/zero | tr '\\0' x >&2; echo done");
    let answer = run(&programs(), call).unwrap();
    assert_eq!(answer.text().unwrap(), "done\n");
    assert_eq!(answer.stderr.len(), LONGEST_COMPLAINT);
}

#[test]
fn programs_are_found_in_the_path_of_their_environment() {
    let mut programs = programs();
    programs.folder = None;
    programs.env = vec![("PATH".into(), "/nowhere:/bin".into())];
    assert_eq!(programs.find("sh").unwrap(), Path::new("/bin/sh"));
    programs.env = vec![("PATH".into(), "/nowhere".into())];
    let error = programs.find("sh").unwrap_err().to_string();
    assert!(error.starts_with("cannot find `sh` in PATH (/nowhere): "), "{error}");
}

#[test]
fn a_program_that_hangs_is_given_up() {
    let mut programs = programs();
    programs.deadline = Duration::from_millis(1);
    let error = run(&programs, shell("exec sleep 1000")).unwrap_err();
    assert!(matches!(error, CommandError::TimedOut { program: "sh", .. }), "{error}");
}

/// The program and what it started hold the writing end of a pipe, which is closed when the last of
/// them is gone.
#[test]
fn a_call_that_is_dropped_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("held");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (started, has_started) = tokio::sync::oneshot::channel();
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || {
            let mut pipe = std::fs::File::open(fifo).unwrap();
            let mut word = [0; 8];
            pipe.read_exact(&mut word).unwrap();
            started.send(()).unwrap();
            pipe.read_to_end(&mut Vec::new()).unwrap()
        }
    });
    let script = "exec 3>\"$1\"; sleep 1000 & echo started >&3; sleep 1000";
    let call = Call::new("sh", ["-c", script, "sh", fifo.to_str().unwrap()]);
    wait(async {
        let programs = programs();
        tokio::select! {
            answer = programs.run(call) => panic!("{answer:?}"),
            started = has_started => started.unwrap(),
        }
    });
    assert_eq!(reader.join().unwrap(), 0);
}
