//! The questions about jobs that squeue and sacct are asked, and their answers.
//!
//! Pure. Each question names its fields, so that no site's or user's format gets in between; fields are
//! kept apart by control characters, which no Slurm name has. An answer that is garbled is an error,
//! never a shorter list.

use torc_core::time::Timestamp;
use torc_core::traits::AllocationState;

use super::duration::parse_moment;
use super::states::{self, JobWords};

/// Opens each record of squeue's and sinfo's answers, so that a line break in a comment opens none.
pub(super) const RECORD: char = '\u{1e}';
/// Between the fields of a record.
pub(super) const FIELD: char = '\u{1f}';

/// What was answered is not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{program}` answered `{words}`, which torc cannot read")]
pub struct Garbled {
    /// The program.
    pub program: &'static str,
    /// Where it went wrong.
    pub words: String,
}

impl Garbled {
    pub(super) fn new(program: &'static str, words: &str) -> Self {
        let plain = words.chars().map(|c| if c.is_control() { ' ' } else { c });
        Self { program, words: plain.take(80).collect::<String>().trim().to_owned() }
    }
}

/// A format for `squeue -o` and `sinfo -o` from their letters.
pub(super) fn format(letters: &str) -> String {
    let fields: Vec<String> = letters.chars().map(|letter| format!("%{letter}")).collect();
    format!("{RECORD}{}", fields.join(&FIELD.to_string()))
}

/// The records of an answer in such a format, each with exactly `N` fields. What stands before the
/// first is a banner of a site's.
pub(super) fn records<'a, const N: usize>(
    program: &'static str,
    answer: &'a str,
) -> Result<Vec<[&'a str; N]>, Garbled> {
    let Some((_, records)) = answer.split_once(RECORD) else {
        return if answer.trim().is_empty() {
            Ok(Vec::new())
        } else {
            Err(Garbled::new(program, answer))
        };
    };
    let read = |record: &'a str| {
        let record = record.strip_suffix('\n').unwrap_or(record);
        let fields: Vec<&str> = record.split(FIELD).collect();
        <[&str; N]>::try_from(fields).map_err(|_| Garbled::new(program, record))
    };
    records.split(RECORD).map(read).collect()
}

/// A job as squeue or sacct tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenJob {
    /// The job id.
    pub id: u64,
    /// Where it stands.
    pub state: AllocationState,
}

/// squeue's arguments for where these jobs stand, whatever their state.
pub fn ask_states(ids: &[u64]) -> Vec<String> {
    let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
    let mut args = ask_own(&format("iTrSe"));
    args.push(format!("--jobs={}", ids.join(",")));
    args
}

/// squeue's arguments for the marks of all of this user's jobs.
pub fn ask_marks() -> Vec<String> {
    ask_own(&format("ik"))
}

fn ask_own(format: &str) -> Vec<String> {
    ["--noheader", "--me", "--all", "--states=all"]
        .into_iter()
        .map(str::to_owned)
        .chain([format!("--format={format}")])
        .collect()
}

/// squeue's answer about where jobs stand.
///
/// # Errors
/// When it is garbled.
pub fn read_states(answer: &str) -> Result<Vec<SeenJob>, Garbled> {
    let records = records::<5>("squeue", answer)?;
    let read = |[id, state, reason, start, end]: [&str; 5]| {
        let words = JobWords { state, reason, start: parse_moment(start), end: parse_moment(end) };
        let number = id.parse().map_err(|_| Garbled::new("squeue", id))?;
        Ok(SeenJob { id: number, state: states::read(&words) })
    };
    records.into_iter().map(read).collect()
}

/// The job with this mark, from squeue's answer about marks. Of several, the first that was submitted.
///
/// # Errors
/// When it is garbled.
pub fn read_marked(answer: &str, key: &str) -> Result<Option<u64>, Garbled> {
    let records = records::<2>("squeue", answer)?;
    let marked = records.into_iter().filter(|[_, comment]| has_mark(comment, key));
    // A job array has no such id, and is not torc's.
    Ok(marked.filter_map(|[id, _]| id.parse().ok()).min())
}

/// Whether a comment, or the line of a submission, carries this mark.
fn has_mark(text: &str, key: &str) -> bool {
    let word_is_mark = |word: &str| word.strip_prefix("--comment=").unwrap_or(word) == key;
    text.split_whitespace().any(word_is_mark)
}

/// sacct's arguments for where these jobs stand.
pub fn ask_accounting_states(ids: &[u64]) -> Vec<String> {
    let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
    ask_accounting("JobIDRaw,State,Start,End,Reason", format!("--jobs={}", ids.join(",")))
}

/// How far back the accounting is searched for a mark: far longer than a crash goes unnoticed.
const DAYS_SEARCHED: u32 = 30;

/// sacct's arguments for the marks of the jobs of the user with this number.
pub fn ask_accounting_marks(user: u32) -> Vec<String> {
    let mut args = ask_accounting("JobIDRaw,Comment,SubmitLine", format!("--user={user}"));
    args.push(format!("--starttime=now-{DAYS_SEARCHED}days"));
    args
}

fn ask_accounting(fields: &str, which: String) -> Vec<String> {
    // Allocations only: a step says nothing about its allocation.
    let common = ["--noheader", "--parsable2", "--allocations"].map(str::to_owned);
    let named = [format!("--delimiter={FIELD}"), format!("--format={fields}"), which];
    common.into_iter().chain(named).collect()
}

/// sacct's answer about where jobs stand.
///
/// # Errors
/// When it is garbled.
pub fn read_accounting_states(answer: &str) -> Result<Vec<SeenJob>, Garbled> {
    let mut found = Vec::new();
    for line in answer.lines().filter(|line| !line.trim().is_empty()) {
        let fields: Vec<&str> = line.split(FIELD).collect();
        let [id, state, start, end, reason] = fields[..] else {
            return Err(Garbled::new("sacct", line));
        };
        let words = JobWords { state, reason, start: parse_moment(start), end: parse_moment(end) };
        let id = id.parse().map_err(|_| Garbled::new("sacct", id))?;
        found.push(SeenJob { id, state: states::read_from_accounting(&words) });
    }
    Ok(found)
}

/// The job with this mark, from sacct's answer about marks. A line without fields goes on the command of
/// some other submission, which had line breaks.
pub fn read_accounting_marked(answer: &str, key: &str) -> Option<u64> {
    let records = answer.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(FIELD).collect();
        let [id, comment, submission] = fields[..] else { return None };
        (has_mark(comment, key) || has_mark(submission, key)).then(|| id.parse().ok()).flatten()
    });
    records.min()
}

/// squeue's arguments for all that waits.
pub fn ask_waiting() -> Vec<String> {
    ["--noheader", "--all", "--states=PENDING"]
        .into_iter()
        .map(str::to_owned)
        .chain([format!("--format={}", format("iPQrS"))])
        .collect()
}

/// Where a waiting allocation stands among all that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuePosition {
    /// Its partitions.
    pub partition: String,
    /// Its priority; higher starts first.
    pub priority: u64,
    /// Slurm's reason why it waits; empty: none is said.
    pub reason: String,
    /// When Slurm expects it to start.
    pub expected_start: Option<Timestamp>,
    /// Jobs of its partitions that may start before it: eligible, and of a higher priority, or of the
    /// same and submitted earlier. The jobs of an array count one by one. Jobs of others may be hidden
    /// (slurm.conf(5), PrivateData).
    pub ahead: u64,
    /// All other jobs that wait in its partitions.
    pub others: u64,
}

/// The position of a job in squeue's answer about what waits; `None`: it does not wait.
///
/// # Errors
/// When it is garbled.
pub fn read_position(answer: &str, id: u64) -> Result<Option<QueuePosition>, Garbled> {
    let records = records::<5>("squeue", answer)?;
    let parse = |text: &str| text.parse::<u64>().map_err(|_| Garbled::new("squeue", text));
    let name = id.to_string();
    let Some([_, partition, priority, reason, start]) =
        records.iter().find(|record| record[0] == name)
    else {
        return Ok(None);
    };
    let priority = parse(priority)?;
    let (mut ahead, mut others) = (0_u64, 0_u64);
    for [other, other_partition, other_priority, other_reason, _] in &records {
        if *other == name || !share_a_partition(partition, other_partition) {
            continue;
        }
        let jobs = jobs_of(other);
        others = others.saturating_add(jobs);
        let rank = parse(other_priority)?;
        let is_older = first_id(other).is_some_and(|other| other < id);
        let is_before = rank > priority || (rank == priority && is_older);
        if is_before && is_eligible(other_reason) {
            ahead = ahead.saturating_add(jobs);
        }
    }
    Ok(Some(QueuePosition {
        partition: (*partition).to_owned(),
        priority,
        reason: if *reason == "None" { String::new() } else { (*reason).to_owned() },
        expected_start: parse_moment(start),
        ahead,
        others,
    }))
}

fn share_a_partition(one: &str, other: &str) -> bool {
    one.split(',').any(|name| other.split(',').any(|other| other == name))
}

/// What is held, or waits for a time or another job, is ahead of nobody.
fn is_eligible(reason: &str) -> bool {
    !["Dependency", "BeginTime", "JobHeld"].iter().any(|word| reason.starts_with(word))
}

fn first_id(text: &str) -> Option<u64> {
    text.split(['_', '+']).next()?.parse().ok()
}

/// Above this an array is not counted any further; slurm.conf(5), MaxArraySize, is far below.
const LARGEST_ARRAY: usize = 5_000_000;

/// How many jobs an id stands for: `12_[0-9,20%5]` for eleven.
fn jobs_of(id: &str) -> u64 {
    let Some((_, tasks)) = id.split_once("_[") else { return 1 };
    let tasks = tasks.trim_end_matches(']').split('%').next().unwrap_or_default();
    let count = |item: &str| -> Option<usize> {
        let (range, step) = item.split_once(':').unwrap_or((item, "1"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        let step = step.parse::<usize>().ok().filter(|step| *step > 0)?;
        Some((last.checked_sub(first)? / step).min(LARGEST_ARRAY - 1) + 1)
    };
    let total =
        tasks.split(',').map(|item| count(item).unwrap_or(1)).fold(0, usize::saturating_add);
    u64::try_from(total).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use torc_core::traits::AllocationEnd;

    use super::*;

    /// Squeue's answer with `|` for the field separator, one record a line.
    fn answer(lines: &[&str]) -> String {
        let record = |line: &&str| format!("{RECORD}{}\n", line.replace('|', &FIELD.to_string()));
        lines.iter().map(record).collect()
    }

    #[test]
    fn questions_do_not_depend_on_a_users_settings() {
        let shown = |args: Vec<String>| args.join(" ").replace(RECORD, "<").replace(FIELD, "|");
        assert_eq!(
            shown(ask_states(&[7, 8])),
            "--noheader --me --all --states=all --format=<%i|%T|%r|%S|%e --jobs=7,8"
        );
        assert_eq!(shown(ask_marks()), "--noheader --me --all --states=all --format=<%i|%k");
        assert_eq!(
            shown(ask_accounting_states(&[7, 8])),
            "--noheader --parsable2 --allocations --delimiter=| --format=JobIDRaw,State,Start,End,Reason --jobs=7,8"
        );
        assert_eq!(
            shown(ask_accounting_marks(1000)),
            "--noheader --parsable2 --allocations --delimiter=| --format=JobIDRaw,Comment,SubmitLine --user=1000 --starttime=now-30days"
        );
        assert_eq!(
            shown(ask_waiting()),
            "--noheader --all --states=PENDING --format=<%i|%P|%Q|%r|%S"
        );
    }

    #[test]
    fn the_queue_is_read() {
        let text = answer(&[
            "5|CANCELLED|None|1795508700|1795508702",
            "27|PENDING|Resources|N/A|N/A",
            "28|RUNNING|None|1795508700|1795512300",
            "29|HIBERNATED|None|x|y",
        ]);
        let seen = read_states(&text).unwrap();
        let ended = AllocationState::Ended {
            cause: AllocationEnd::Cancelled,
            reason: "CANCELLED".to_owned(),
        };
        let pending =
            AllocationState::Pending { reason: "Resources".to_owned(), expected_start: None };
        let running = AllocationState::Running { ends_at: Some(Timestamp(1_795_512_300_000)) };
        let expected = [(5, ended), (27, pending), (28, running), (29, AllocationState::Unknown)];
        assert_eq!(seen, expected.map(|(id, state)| SeenJob { id, state }));
        assert_eq!(read_states(""), Ok(vec![]));
        assert_eq!(read_states("\n"), Ok(vec![]));
        assert_eq!(read_states(&format!("Welcome!\n{text}")).unwrap().len(), 4);
    }

    #[test]
    fn garbage_is_an_error_not_an_empty_queue() {
        let check = |text: &str, words: &str| {
            let expected = Garbled { program: "squeue", words: words.to_owned() };
            assert_eq!(read_states(text), Err(expected), "{text}");
        };
        check("<html>502</html>", "<html>502</html>");
        check(&answer(&["5|RUNNING|None"]), "5 RUNNING None");
        check(&answer(&["5_[1-3]|RUNNING|None|1|2"]), "5_[1-3]");
        check(&answer(&["5|RUNNING|None|1|2", "6|RUN"]), "6 RUN");
        assert!(read_accounting_states("sacct: hello\n").is_err());
        assert!(read_position("502", 1).is_err());
        assert!(read_marked("502", "k").is_err());
    }

    #[test]
    fn a_marked_job_is_found_again() {
        let text = answer(&[
            "4|(null)",
            "5_[1-3]|torc-1-1",
            "6|see torc-1-11",
            "7|for me\ntorc-1-1",
            "9|torc-1-1",
        ]);
        let check = |key: &str, expected| assert_eq!(read_marked(&text, key).unwrap(), expected);
        check("torc-1-1", Some(7));
        check("torc-1-11", Some(6));
        check("torc-1", None);
        check("torc-1-111", None);
    }

    #[test]
    fn the_accounting_finds_marks_in_lines_of_submission() {
        let text = "1||sbatch --parsable\n2||srun python -c x=1\nprint(x)\n3||sbatch --parsable --comment=k-3\n4|k-4|sbatch x\n5||sbatch --comment=own words k-5 --parsable\n"
            .replace('|', &FIELD.to_string());
        let check = |key: &str, expected| assert_eq!(read_accounting_marked(&text, key), expected);
        check("k-3", Some(3));
        check("k-4", Some(4));
        check("k-5", Some(5));
        check("k", None);
        check("print(x)", None);
    }

    #[test]
    fn the_accounting_tells_only_of_ends() {
        let text = "5|CANCELLED by 0|1|2|None\n6|RUNNING|1|Unknown|None\n7|NODE_FAIL|1|2|None\n"
            .replace('|', &FIELD.to_string());
        let seen = read_accounting_states(&text).unwrap();
        let ended =
            |cause, reason: &str| AllocationState::Ended { cause, reason: reason.to_owned() };
        let expected = [
            (5, ended(AllocationEnd::Cancelled, "CANCELLED by 0")),
            (6, AllocationState::Unknown),
            (7, ended(AllocationEnd::NodeFailed, "NODE_FAIL")),
        ];
        assert_eq!(seen, expected.map(|(id, state)| SeenJob { id, state }));
    }

    #[test]
    fn those_ahead_are_counted() {
        let text = answer(&[
            "10|main|100|Resources|1795508700",
            "11_[1-10%2]|main|90|Priority|N/A",
            "12|main,threads|50|None|1795508900",
            "13|main|50|Priority|N/A",
            "9|threads|50|Priority|N/A",
            "14|other|1000|Priority|N/A",
            "15|main|1000|Dependency|N/A",
            "16|main|0|JobHeldUser|N/A",
        ]);
        let position = read_position(&text, 12).unwrap().unwrap();
        let expected = QueuePosition {
            partition: "main,threads".to_owned(),
            priority: 50,
            reason: String::new(),
            expected_start: Some(Timestamp(1_795_508_900_000)),
            ahead: 12,
            others: 15,
        };
        assert_eq!(position, expected);
        assert_eq!(read_position(&text, 99), Ok(None));
    }

    #[test]
    fn arrays_count_one_by_one() {
        let check = |id: &str, expected| assert_eq!(jobs_of(id), expected, "{id}");
        check("5", 1);
        check("5_3", 1);
        check("5+1", 1);
        check("5_[3]", 1);
        check("5_[1-10,20%5]", 11);
        check("5_[0-20:10]", 3);
        check("5_[1-3,...]", 4);
        check("5_[9-1]", 1);
        check("5_[0-18446744073709551615]", 5_000_000);
    }

    proptest! {
        #[test]
        fn no_words_make_it_panic(text in "\\PC*", fields in "[0-9a-zA-Z_\\[\\]%,:\u{1e}\u{1f}\n\\-]{0,60}") {
            for text in [text, fields] {
                let _ = read_states(&text);
                let _ = read_marked(&text, "k");
                let _ = read_accounting_states(&text);
                let _ = read_accounting_marked(&text, "k");
                let _ = read_position(&text, 1);
                let _ = jobs_of(&text);
            }
        }
    }
}
