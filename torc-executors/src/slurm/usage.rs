//! What steps have used and how they ended, from Slurm's accounting (sacct(1)).
//!
//! Asked for later, for the steps of many jobs at once, never on the way from one step to the next: the
//! accounting may lag by minutes, or not be there at all. What it does not say is not known; that is no
//! error.

use std::collections::HashMap;
use std::time::Duration;

use torc_core::ids::StepId;
use torc_core::time::Timestamp;
use torc_core::traits::{AllocationHandle, SchedulerError, StepAccount, Usage};

use super::command::{Call, Programs};
use super::refusals;
use super::scheduler::{IDS_OF_A_CALL, job_id, refuse_silent_failure, text};
use crate::clock::now;

const FIELDS: &str = "JobID,JobName,State,TotalCPU,AveCPU,NTasks,MaxRSS";

/// How far the clocks of a compute node and of Slurm's controller may be apart, and how late Slurm may
/// note the end of a step.
const MARGIN: Duration = Duration::from_secs(300);

/// Slurm's accounting.
#[derive(Clone, Debug)]
pub struct Accounting {
    programs: Programs,
}

impl Accounting {
    /// The accounting that these programs ask.
    pub fn new(programs: Programs) -> Self {
        Self { programs }
    }

    /// What is known by now of the steps of these Slurm jobs that did not end before `since`, and of some
    /// that did. One call, unless the jobs are thousands.
    ///
    /// # Errors
    /// [`SchedulerError::Refused`] when this cluster keeps no accounting; else ask again.
    pub async fn accounts(
        &self,
        jobs: impl IntoIterator<Item = &AllocationHandle>,
        since: Timestamp,
    ) -> Result<HashMap<StepId, StepAccount>, SchedulerError> {
        let ids: Vec<u64> = jobs.into_iter().filter_map(job_id).collect();
        let ago = now().since(since).saturating_add(MARGIN);
        let mut found = HashMap::new();
        for ids in ids.chunks(IDS_OF_A_CALL) {
            let answer = self.programs.run(Call::new("sacct", ask(ids, ago))).await;
            let answer = answer.map_err(|error| match refusals::is_without_accounting(&error) {
                true => SchedulerError::Refused(error.to_string()),
                false => refusals::of_question(&error),
            })?;
            refuse_silent_failure("sacct", &answer)?;
            found.extend(read(text(&answer)?));
        }
        Ok(found)
    }
}

/// sacct's arguments for the steps of these jobs that did not end longer ago. A start time leaves out
/// the steps that had ended before it, so that an answer does not grow with the age of a job.
fn ask(ids: &[u64], ago: Duration) -> Vec<String> {
    let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
    let common = ["--noheader", "--parsable2", "--duplicates"].map(str::to_owned);
    let named = [
        format!("--starttime=now-{}seconds", ago.as_secs()),
        format!("--format={FIELDS}"),
        format!("--jobs={}", ids.join(",")),
    ];
    common.into_iter().chain(named).collect()
}

/// The steps that have ended, from sacct's answer. When an allocation loses a node, its steps that run
/// are recorded once for the time before and once for the time after.
fn read(text: &str) -> HashMap<StepId, StepAccount> {
    let mut found: HashMap<StepId, StepAccount> = HashMap::new();
    for line in text.lines() {
        let Some((step, entry)) = read_line(line) else { continue };
        match found.get_mut(&step) {
            Some(known) => {
                known.usage.cpu_ms = known.usage.cpu_ms.saturating_add(entry.usage.cpu_ms);
                known.usage.peak_memory = known.usage.peak_memory.max(entry.usage.peak_memory);
                known.state = entry.state;
            }
            None => {
                found.insert(step, entry);
            }
        }
    }
    found.retain(|_, entry| entry.state.as_deref().is_some_and(is_final));
    found
}

/// Whether a step in this state has ended. A step that is resized goes on in a record of its own, which
/// may not be there yet.
fn is_final(state: &str) -> bool {
    !matches!(state, "" | "RUNNING" | "PENDING" | "SUSPENDED" | "RESIZING")
}

/// `41.7|wf1_j2_r1_a1|COMPLETED|00:00.012|00:00:00|1|1234K`.
fn read_line(line: &str) -> Option<(StepId, StepAccount)> {
    let mut fields = line.split('|');
    let mut next = || fields.next();
    let (id, name, state) = (next()?, next()?, next()?);
    let (total, average, tasks, memory) = (next()?, next()?, next()?, next()?);
    if !id.contains('.') {
        return None;
    }
    // The first is what processes and those that they waited for had used at their end, the second what
    // was seen of each task at the last look: neither sees all.
    let seen = milliseconds(average).unwrap_or_default();
    let seen = seen.saturating_mul(tasks.parse().unwrap_or(1));
    let usage = Usage {
        cpu_ms: milliseconds(total).unwrap_or_default().max(seen),
        peak_memory: bytes(memory).filter(|&bytes| bytes > 0),
    };
    Some((name.parse().ok()?, StepAccount { usage, state: Some(state.into()) }))
}

/// `[D-[HH:]]MM:SS[.mmm]`.
fn milliseconds(text: &str) -> Option<u64> {
    let (days, rest) = text.split_once('-').unwrap_or(("0", text));
    let (clock, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let mut seconds = days.parse::<u64>().ok()?.checked_mul(24 * 3600)?;
    let parts: Vec<u64> = clock.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    if parts.is_empty() || parts.len() > 3 {
        return None;
    }
    let clock =
        parts.iter().try_fold(0_u64, |sum, part| sum.checked_mul(60)?.checked_add(*part))?;
    seconds = seconds.checked_add(clock)?;
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    seconds.checked_mul(1000)?.checked_add(digits.parse().ok()?)
}

/// `1234K`, `1.50M`; without a unit bytes.
fn bytes(text: &str) -> Option<u64> {
    let (number, power) = match text.char_indices().next_back()? {
        (end, 'K') => (&text[..end], 1),
        (end, 'M') => (&text[..end], 2),
        (end, 'G') => (&text[..end], 3),
        (end, 'T') => (&text[..end], 4),
        _ => (text, 0),
    };
    let unit = 1024_u64.pow(power);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let thousandths: String = fraction.chars().chain("000".chars()).take(3).collect();
    let rest = unit / 1000 * thousandths.parse::<u64>().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(unit)?.checked_add(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "43|f.sh|RESIZING|00:00.014|||
43.batch|batch|RESIZING|00:00:00|00:00:00|1|
43.0|wf1_j1_r1_a1|COMPLETED|00:01.250|00:00:01|1|2048K
43.3|wf1_j2_r1_a1|RESIZING|01:00:00|||1.50G
43.4|wf1_j3_r1_a1|OUT_OF_MEMORY|1-00:00:01|||
43.5|bash|COMPLETED|00:01|00:00:01|1|1K
43|f.sh|COMPLETED|00:00.001|||
43.3|wf1_j2_r1_a1|CANCELLED by 0|00:00.500|00:00:00|1|1M
43.6|wf1_j4_r1_a1|RUNNING|00:00:00||1|
43.7|wf1_j5_r1_a1|FAILED|what|is|that|now
43.8|wf1_j6_r1_a1|RESIZING|00:00:00||1|
44.0|wf1_j7_r1_a1|COMPLETED|00:10.000|00:00:20|4|1K
";

    #[test]
    fn steps_are_found_by_name() {
        let found = read(ANSWER);
        let check = |name: &str, state: &str, cpu_ms, peak_memory| {
            let usage = Usage { cpu_ms, peak_memory };
            let expected = StepAccount { usage, state: Some(state.into()) };
            assert_eq!(found.get(&name.parse().expect("a step")), Some(&expected), "{name}");
        };
        assert_eq!(found.len(), 5, "what runs, or goes on after its node was lost, is not told");
        check("wf1_j1_r1_a1", "COMPLETED", 1250, Some(2 << 20));
        check(
            "wf1_j2_r1_a1",
            "CANCELLED by 0",
            3_600_500,
            Some((1 << 30) + (1 << 30) / 1000 * 500),
        );
        check("wf1_j3_r1_a1", "OUT_OF_MEMORY", 86_401_000, None);
        check("wf1_j5_r1_a1", "FAILED", 0, None);
        check("wf1_j7_r1_a1", "COMPLETED", 80_000, Some(1024));
    }

    #[test]
    fn many_jobs_are_asked_about_at_once() {
        let args = ask(&[7, 8], Duration::from_millis(12_600)).join(" ");
        assert_eq!(
            args,
            "--noheader --parsable2 --duplicates --starttime=now-12seconds \
             --format=JobID,JobName,State,TotalCPU,AveCPU,NTasks,MaxRSS --jobs=7,8"
        );
    }

    /// Asks a sacct that is this script.
    async fn ask_script(script: &str) -> Result<HashMap<StepId, StepAccount>, SchedulerError> {
        let folder = tempfile::tempdir().expect("a folder");
        if !script.is_empty() {
            let file = folder.path().join("sacct");
            std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("a script");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&file, mode).expect("it can be executed");
        }
        let mut programs = Programs::new(std::env::vars_os().collect());
        programs.folder = Some(folder.path().to_owned());
        let jobs = ["17", "eighteen", "19"].map(|job| AllocationHandle(job.to_owned()));
        Accounting::new(programs).accounts(&jobs, now()).await
    }

    #[tokio::test]
    async fn no_accounting_is_told_from_no_answer() {
        let refused = async |script: &str| match ask_script(script).await {
            Err(SchedulerError::Refused(_)) => true,
            Err(SchedulerError::Unavailable(_) | SchedulerError::NotNow(_)) => false,
            Ok(found) => panic!("{found:?}"),
        };
        assert!(refused("").await, "there is no sacct");
        assert!(refused("echo Slurm accounting storage is disabled >&2; exit 1").await);
        let away = "echo 'sacct: error: Unable to connect to slurmdbd: Connection refused' >&2";
        assert!(!refused(&format!("{away}; exit 1")).await);
        assert!(!refused(away).await, "it has exited with 0 after an error");
        assert!(!refused("kill -9 $$").await);
    }

    #[tokio::test]
    async fn only_numbers_of_jobs_are_asked_about() {
        let echo = r#"for last; do :; done
[ "$last" = --jobs=17,19 ] && echo '17.0|wf1_j1_r1_a1|COMPLETED|00:00.004|||1K'"#;
        let found = ask_script(echo).await.expect("an answer");
        let step: StepId = "wf1_j1_r1_a1".parse().expect("a step");
        assert_eq!(found.get(&step).map(|account| account.usage.cpu_ms), Some(4));
    }

    #[test]
    fn times_and_sizes_are_read() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(milliseconds(text), expected, "{text}");
        };
        check("00:00.004", Some(4));
        check("2-03:04:05.5", Some(((2 * 24 + 3) * 3600 + 4 * 60 + 5) * 1000 + 500));
        check("", None);
        check("1:2:3:4", None);
        check("99999999999999999999:00", None);
        assert_eq!(bytes("0"), Some(0));
        assert_eq!(bytes("17"), Some(17));
        assert_eq!(bytes("3T"), Some(3 << 40));
        assert_eq!(bytes(""), None);
        assert_eq!(bytes("é"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_words_make_it_panic(text in "\\PC*", line in "[0-9.]{0,5}\\|wf1_j1_r1_a1\\|[A-Z]*\\|[0-9:.-]*\\|[0-9:]*\\|[0-9]*\\|[0-9.]*[KMGT]?") {
            read(&text);
            read(&line);
        }
    }
}
