//! What Slurm's complaints mean for whoever asked: wrong for good, not now, or nothing.
//!
//! Pure tables of Slurm's own words (its list of error texts, and resource limits of
//! <https://slurm.schedmd.com/resource_limits.html>). A complaint about a submission that stands in no
//! table is a refusal: sites' own checks speak in words of their own, and retrying would hide them.

use torc_core::traits::SchedulerError;

use super::command::CommandError;

/// The controller, the network, or the way to them: nobody's requests are taken, or that is not known.
const SILENT: [&str; 28] = [
    "Unable to contact slurm controller",
    "Unable to contact slurm",
    "Socket timed out",
    "Communication connection failure",
    "Communication shutdown failure",
    "Message send failure",
    "Message receive failure",
    "Zero Bytes were transmitted or received",
    "Unexpected message received",
    "Unexpected missing socket error",
    "Connection refused",
    "Connection reset",
    "Connection timed out",
    "No route to host",
    "Transport endpoint is not connected",
    "Temporary failure in name resolution",
    "Protocol authentication error",
    "Munge encode failed",
    "Munge decode failed",
    "Rate limit exceeded",
    "Resource temporarily unavailable",
    "temporarily unable to accept job",
    "backup controller in standby mode",
    "MaxJobCount limit reached",
    "Requested operation is presently disabled",
    "I/O error writing script/environment to file",
    "Could not establish a configuration source",
    "SlurmDBD connection",
];

/// What passes with time, and concerns whoever has the same account, QOS or partition, or wants the same
/// nodes: limits on how many jobs there may be at once, which pass when others end, and what is down.
const NOT_NOW: [&str; 7] = [
    "MaxSubmitJob",
    "GrpSubmitJob",
    "MaxSubmitPU",
    "MaxSubmitPA",
    "Required partition not available",
    "Required node not available",
    "Requested nodes are busy",
];

fn has_any(stderr: &str, words: &[&str]) -> bool {
    words.iter().any(|words| contains(stderr, words))
}

/// Without regard to case: the same words begin a sentence in one release and not in another.
fn contains(text: &str, words: &str) -> bool {
    text.to_ascii_lowercase().contains(&words.to_ascii_lowercase())
}

/// What a failed sbatch means. Where it complains of a silence as well, as after an attempt of its own
/// that it repeated, nothing is known.
pub(super) fn of_submission(error: &CommandError) -> SchedulerError {
    match error {
        CommandError::Failed { stderr, .. } if !has_any(stderr, &SILENT) => {
            let words = said(stderr).unwrap_or_else(|| error.to_string());
            match has_any(stderr, &NOT_NOW) {
                true => SchedulerError::NotNow(words),
                false => SchedulerError::Refused(words),
            }
        }
        CommandError::Folder { .. } => SchedulerError::Refused(error.to_string()),
        _ => of_question(error),
    }
}

/// What any other failure means: nothing is known.
pub(super) fn of_question(error: &CommandError) -> SchedulerError {
    let said = error.stderr().and_then(said);
    SchedulerError::Unavailable(said.unwrap_or_else(|| error.to_string()))
}

/// The program's own words, on one line.
fn said(stderr: &str) -> Option<String> {
    let lines = stderr.lines().map(str::trim);
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}

/// Whether the complaint is that there is no such job.
pub(super) fn is_unknown_job(error: &CommandError) -> bool {
    error.stderr().is_some_and(|stderr| contains(stderr, "Invalid job id specified"))
}

/// Whether the complaint is that the job has ended.
pub(super) fn is_over(error: &CommandError) -> bool {
    error.stderr().is_some_and(|stderr| {
        contains(stderr, "already completing or completed") || contains(stderr, "already finished")
    })
}

/// Whether the complaint is that this cluster keeps no accounting.
pub(super) fn is_without_accounting(error: &CommandError) -> bool {
    match error {
        // Not installed with the other clients: none of this cluster's users has it.
        CommandError::NotFound { .. } => true,
        error => {
            error.stderr().is_some_and(|stderr| contains(stderr, "accounting storage is disabled"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn failed(stderr: &str) -> CommandError {
        CommandError::Failed { program: "sbatch", code: 1, stderr: stderr.to_owned() }
    }

    #[test]
    fn what_asking_again_does_not_help_is_refused() {
        for stderr in [
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
            "sbatch: error: invalid partition specified: nope\nsbatch: error: Batch job submission failed: Invalid partition name specified",
            "sbatch: error: Batch job submission failed: Invalid qos specification",
            "sbatch: error: Memory specification can not be satisfied\nsbatch: error: Batch job submission failed: Requested node configuration is not available",
            "sbatch: error: Invalid generic resource (gres) specification",
            "sbatch: error: Batch job submission failed: Invalid feature specification",
            "sbatch: unrecognized option '--bogus'\nTry \"sbatch --help\" for more information",
            "sbatch: error: Batch job submission failed: Job dependency problem",
            "sbatch: error: Invalid --time specification",
            "sbatch: error: Batch job submission failed: Requested reservation is invalid",
            "sbatch: fatal: --mem, --mem-per-cpu, and --mem-per-gpu are mutually exclusive.",
            "sbatch: error: Batch job submission failed: Requested time limit is invalid (missing or exceeds some limit)",
            "sbatch: error: AssocMaxWallDurationPerJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
            "sbatch: error: QOSMaxNodePerJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
            "sbatch: error: Batch job submission failed: User's group not permitted to use this partition",
            "sbatch: error: Batch job submission failed: Access/permission denied",
            "sbatch: error: lua: please give your project with --account",
        ] {
            let found = of_submission(&failed(stderr));
            let said = stderr.replace('\n', "; ");
            assert!(matches!(&found, SchedulerError::Refused(words) if *words == said), "{found}");
        }
    }

    #[test]
    fn what_passes_for_some_is_no_silence() {
        let policy = "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)";
        for complaint in [
            "sbatch: error: AssocMaxSubmitJobLimit",
            "sbatch: error: QOSMaxSubmitJobPerUserLimit",
            "sbatch: error: QOSGrpSubmitJobsLimit",
            "sbatch: error: AssocGrpSubmitJobsLimit",
            "sbatch: error: MaxSubmitJobsPerAccount",
            "sbatch: error: Batch job submission failed: Required partition not available (inactive or drain)",
            "sbatch: error: Batch job submission failed: Required node not available (down, drained or reserved)",
            "sbatch: error: Batch job submission failed: Requested nodes are busy",
        ] {
            let found = of_submission(&failed(&format!("{complaint}\n{policy}")));
            let said = format!("{complaint}; {policy}");
            assert!(matches!(&found, SchedulerError::NotNow(words) if *words == said), "{found}");
            let silence = "sbatch: error: Socket timed out on send/recv operation";
            let found = of_submission(&failed(&format!("{silence}\n{complaint}\n{policy}")));
            assert!(matches!(found, SchedulerError::Unavailable(_)), "{found}");
        }
    }

    #[test]
    fn what_says_nothing_is_to_be_asked_again() {
        for stderr in [
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
            "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
            "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\nsbatch: error: Batch job submission failed: Resource temporarily unavailable",
            "sbatch: error: Batch job submission failed: Slurm backup controller in standby mode",
            "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received",
            "sbatch: error: Munge encode failed: Failed to access \"/run/munge/munge.socket.2\": No such file or directory\nsbatch: error: Batch job submission failed: Protocol authentication error",
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)\n",
            "sbatch: fatal: Could not establish a configuration source",
        ] {
            let found = of_submission(&failed(stderr));
            assert!(matches!(found, SchedulerError::Unavailable(_)), "{found}");
        }
        let late = CommandError::TimedOut { program: "sbatch", deadline: Duration::from_secs(60) };
        assert!(matches!(of_submission(&late), SchedulerError::Unavailable(_)));
    }

    #[test]
    fn a_program_without_words_is_named() {
        let check =
            |found: &SchedulerError, expected: &str| assert_eq!(found.to_string(), expected);
        check(
            &of_submission(&failed(" \n")),
            "the scheduler refused the request: `sbatch` failed with code 1: ",
        );
        check(
            &of_question(&failed("")),
            "the scheduler cannot be asked now: `sbatch` failed with code 1: ",
        );
    }

    #[test]
    fn complaints_about_jobs_are_recognised() {
        let unknown = failed("slurm_load_jobs error: Invalid job id specified\n");
        let over = failed(
            "scancel: error: Kill job error on job id 6: Job/step already completing or completed",
        );
        let disabled = failed("Slurm accounting storage is disabled\n");
        assert_eq!([is_unknown_job(&unknown), is_unknown_job(&over)], [true, false]);
        assert_eq!([is_over(&unknown), is_over(&over)], [false, true]);
        assert_eq!([is_without_accounting(&disabled), is_without_accounting(&over)], [true, false]);
        let missing = CommandError::NotFound { program: "sacct", looked_in: "PATH".to_owned() };
        assert!(is_without_accounting(&missing));
    }
}
