//! Programs that fail in ways in which a real Slurm fails seldom: for minutes, half, late, or with
//! garbage. None of that may look like an answer.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use torc_core::traits::{AllocationEnd, AllocationState, Scheduler, SchedulerError};
use torc_executors::slurm::{Programs, SlurmScheduler};

use crate::site::{handle, request, wait};

const VERSION: &str = "test \"$1\" = --version && { echo slurm 23.11.4-2; exit; };";

/// A Slurm of programs that do what they are told, in a folder of its own. Each call adds a line with
/// its arguments to `calls.<program>`.
struct Played {
    folder: TempDir,
    env: Vec<(String, String)>,
}

/// The deadline of programs: short only for those that hang whatever it is.
fn patience(script: &str) -> Duration {
    Duration::from_secs(if script.contains("sleep 1000") { 1 } else { 60 })
}

impl Played {
    fn new(programs: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let player = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slurm_scheduler/fake");
        let mut env = vec![
            ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
            ("PLAY".to_owned(), folder.path().to_str().expect("UTF-8").to_owned()),
        ];
        for (program, script) in programs {
            symlink(&player, folder.path().join(program)).expect("a link");
            let note = format!("echo \"$@\" >>\"$PLAY/calls.{program}\"; {script}");
            env.push((format!("FAKE_{program}"), note));
        }
        Self { folder, env }
    }

    fn scheduler(&self) -> SlurmScheduler {
        self.scheduler_with(patience(""))
    }

    fn scheduler_with(&self, deadline: Duration) -> SlurmScheduler {
        let env = self.env.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let mut programs = Programs::new(env);
        programs.folder = Some(self.folder.path().to_owned());
        programs.deadline = deadline;
        SlurmScheduler::new(programs)
    }

    fn submit(&self, scheduler: &SlurmScheduler) -> Result<String, SchedulerError> {
        let mut request = request(self.folder.path(), "true");
        request.env =
            self.env.iter().map(|(name, value)| ((&**name).into(), (&**value).into())).collect();
        wait(scheduler.submit(&request, "key-1")).map(|handle| handle.0)
    }

    fn calls(&self, program: &str) -> usize {
        let file = self.folder.path().join(format!("calls.{program}"));
        fs::read_to_string(file).map_or(0, |text| text.lines().count())
    }
}

fn observe(
    scheduler: &SlurmScheduler,
    ids: &[&str],
) -> Result<Vec<AllocationState>, SchedulerError> {
    let handles: Vec<_> = ids.iter().map(|id| handle(id)).collect();
    wait(scheduler.observe(&handles))
}

#[track_caller]
fn unavailable<T: std::fmt::Debug>(found: Result<T, SchedulerError>, words: &str) {
    match found {
        Err(SchedulerError::Unavailable(said)) => assert!(said.contains(words), "{said}"),
        other => panic!("{other:?}, not unavailable with `{words}`"),
    }
}

#[test]
fn a_controller_that_is_away_for_a_while_takes_the_request_later() {
    let away = "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)";
    let script = format!(
        "{VERSION} test $(wc -l <\"$PLAY/calls.sbatch\") -gt 4 || {{ echo '{away}' >&2; exit 1; }}; cat >/dev/null; echo 77"
    );
    let played = Played::new(&[("sbatch", &script)]);
    let scheduler = played.scheduler();
    for _ in 0..3 {
        unavailable(played.submit(&scheduler), "Unable to contact slurm controller");
    }
    assert_eq!(played.submit(&scheduler).unwrap(), "77");
    assert_eq!(played.calls("sbatch"), 5, "the version is asked once");
}

#[test]
fn an_answer_that_was_lost_leaves_the_request_to_be_found() {
    for lost in [
        "cat >/dev/null; kill -9 $$",
        "cat >/dev/null; echo error: database >&1",
        "exec sleep 1000",
    ] {
        let accepted = "printf '\\036%s\\037%s\\n' 4 '(null)' 5 'for me key-1' 6 key-10";
        let played = Played::new(&[("sbatch", &format!("{VERSION} {lost}")), ("squeue", accepted)]);
        let found = played.submit(&played.scheduler_with(patience(lost)));
        assert!(matches!(found, Err(SchedulerError::Unavailable(_))), "{found:?}");
        assert_eq!(wait(played.scheduler().find("key-1")).unwrap(), Some(handle("5")));
    }
}

#[test]
fn a_sites_own_words_are_no_id() {
    let script = format!(
        "{VERSION} cat >/dev/null; echo You have 5 hours left; echo '77;torc'; echo careful >&2"
    );
    let played = Played::new(&[("sbatch", &script)]);
    assert_eq!(played.submit(&played.scheduler()).unwrap(), "77");
}

#[test]
fn an_old_slurm_is_refused_before_anything_is_asked_of_it() {
    let played = Played::new(&[("sbatch", "echo slurm 20.11.9")]);
    match played.submit(&played.scheduler()) {
        Err(SchedulerError::Refused(words)) => {
            assert!(words.contains("22.05.0 or newer"), "{words}")
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(played.calls("sbatch"), 1);
}

#[test]
fn programs_that_are_missing_are_named() {
    let played = Played::new(&[]);
    let scheduler = played.scheduler();
    unavailable(played.submit(&scheduler), "cannot find `sbatch` in ");
    unavailable(observe(&scheduler, &["1"]), "cannot find `squeue` in ");
    unavailable(wait(scheduler.partitions()), "cannot find `sinfo` in ");
    unavailable(wait(scheduler.cancel(&handle("1"))), "cannot find `scancel` in ");
}

#[test]
fn a_question_that_failed_is_no_answer() {
    let record = "printf '\\0365\\037RUNNING\\037None\\0371\\0372\\037n1\\037n1\\n";
    for (script, words) in [
        (
            "echo slurm_load_jobs error: Socket timed out on send/recv operation >&2; exit 1",
            "Socket timed out",
        ),
        ("echo squeue: error: Invalid user: 4242 >&2", "Invalid user"),
        ("echo '<html>502</html>'", "`<html>502</html>`, which torc cannot read"),
        ("printf '\\0365\\037RUNN'", "which torc cannot read"),
        ("exec sleep 1000", "did not answer within"),
        (&format!("{record}'; exit 1"), "failed with code 1"),
        (&format!("{record}\\377'"), "not UTF-8"),
    ] {
        let played = Played::new(&[("squeue", script)]);
        unavailable(observe(&played.scheduler_with(patience(script)), &["5", "6"]), words);
    }
}

#[test]
fn a_single_unknown_job_is_no_failure_of_squeue() {
    let complaint = "echo slurm_load_jobs error: Invalid job id specified >&2; exit 1";
    let played = Played::new(&[("squeue", complaint)]);
    let scheduler = played.scheduler();
    assert_eq!(observe(&scheduler, &["5"]).unwrap(), [AllocationState::Unknown]);
    // Of several, squeue leaves out what it does not know; that it complains means something else.
    unavailable(observe(&scheduler, &["5", "6"]), "Invalid job id");
}

#[test]
fn a_cluster_without_accounting_is_asked_once_for_it() {
    let played = Played::new(&[
        ("squeue", ""),
        ("sacct", "echo Slurm accounting storage is disabled >&2; exit 1"),
    ]);
    let scheduler = played.scheduler();
    for _ in 0..3 {
        assert_eq!(observe(&scheduler, &["5"]).unwrap(), [AllocationState::Unknown]);
        assert_eq!(wait(scheduler.find("key-1")).unwrap(), None);
    }
    assert_eq!((played.calls("squeue"), played.calls("sacct")), (6, 1));
}

#[test]
fn accounting_that_is_late_says_nothing_and_then_how_it_ended() {
    let script = "case $(wc -l <\"$PLAY/calls.sacct\") in \
        1) ;; \
        2) echo sacct: error: slurmdbd: Connection refused >&2; exit 1;; \
        3) printf '5\\037RUNNING\\0371\\037Unknown\\037None\\n';; \
        *) printf '5\\037TIMEOUT\\0371\\0372\\037None\\n';; \
        esac";
    let other = "printf '\\0367\\037RUNNING\\037None\\0371\\0379\\037n1\\037n1\\n'";
    let played = Played::new(&[("squeue", other), ("sacct", script)]);
    let scheduler = played.scheduler();
    let running = || AllocationState::Running { ends_at: Some(torc_core::time::Timestamp(9000)) };
    for _ in 0..3 {
        let found = observe(&scheduler, &["5", "7"]).unwrap();
        assert_eq!(found, [AllocationState::Unknown, running()]);
    }
    let ended =
        AllocationState::Ended { cause: AllocationEnd::TimedOut, reason: "TIMEOUT".to_owned() };
    assert_eq!(observe(&scheduler, &["5", "7"]).unwrap(), [ended, running()]);
}

#[test]
fn a_request_is_not_taken_for_lost_while_the_accounting_is_away() {
    let played = Played::new(&[
        ("squeue", ""),
        ("sacct", "echo sacct: error: slurmdbd: Connection refused >&2; exit 1"),
    ]);
    unavailable(wait(played.scheduler().find("key-1")), "Connection refused");
}

#[test]
fn very_many_allocations_are_asked_for_in_few_calls() {
    let script = "for id in $(echo \"$@\" | sed 's/.*--jobs=//; s/,/ /g'); do \
        printf '\\036%s\\037PENDING\\037Priority\\037N/A\\037N/A\\037n/a\\037\\n' $id; done";
    let played = Played::new(&[("squeue", script)]);
    let ids: Vec<String> = (1..=9000).map(|id| (2_000_000_000 + id).to_string()).collect();
    let mut ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    ids.extend(["--me", ids[0]]);
    let found = observe(&played.scheduler(), &ids).unwrap();
    let pending = AllocationState::Pending { reason: "Priority".to_owned(), expected_start: None };
    assert_eq!(found.iter().filter(|state| **state == pending).count(), 9001);
    assert_eq!(found[9000], AllocationState::Unknown, "what is no id is not asked for");
    assert_eq!(played.calls("squeue"), 3);
}

#[test]
fn nothing_is_asked_where_there_is_nothing_to_ask() {
    let played = Played::new(&[]);
    assert_eq!(observe(&played.scheduler(), &[]).unwrap(), []);
    assert_eq!(observe(&played.scheduler(), &["x"]).unwrap(), [AllocationState::Unknown]);
    wait(played.scheduler().cancel(&handle("--user=root"))).unwrap();
}

#[test]
fn cancelling_what_is_over_is_no_failure_but_an_absent_controller_is() {
    let check = |words: &str| {
        let played = Played::new(&[("scancel", &format!("echo '{words}' >&2; exit 1"))]);
        wait(played.scheduler().cancel(&handle("5")))
    };
    check("scancel: error: Kill job error on job id 5: Invalid job id specified").unwrap();
    check("scancel: error: Kill job error on job id 5: Job/step already completing or completed")
        .unwrap();
    let away = "scancel: error: Kill job error on job id 5: Unable to contact slurm controller (connect failure)";
    unavailable(check(away), "Unable to contact");
}
