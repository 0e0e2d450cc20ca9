//! What sacct is asked about jobs that the queue has forgotten, and its answers.
//!
//! Pure. Accounting may be late, or not kept at all; it is asked only for what nobody else can tell, and
//! it never says that something lives.

use super::duration::parse_moment;
use super::queue::{SeenJob, has_mark};
use super::records::{FIELD, Garbled};
use super::states::{self, JobWords};

/// sacct's arguments for where these jobs stand.
pub(super) fn ask_states(ids: &[u64]) -> Vec<String> {
    let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
    ask("JobIDRaw,State,Start,End,Reason", format!("--jobs={}", ids.join(",")))
}

/// How far back the accounting is searched for a mark: far longer than a crash goes unnoticed.
const DAYS_SEARCHED: u32 = 30;

/// sacct's arguments for the marks of the jobs of the user with this number.
pub(super) fn ask_marks(user: u32) -> Vec<String> {
    let mut args = ask("JobIDRaw,Comment,SubmitLine", format!("--user={user}"));
    args.push(format!("--starttime=now-{DAYS_SEARCHED}days"));
    args
}

fn ask(fields: &str, which: String) -> Vec<String> {
    // Allocations only: a step says nothing about its allocation.
    let common = ["--noheader", "--parsable2", "--allocations"].map(str::to_owned);
    let named = [format!("--delimiter={FIELD}"), format!("--format={fields}"), which];
    common.into_iter().chain(named).collect()
}

/// sacct's answer about where jobs stand.
///
/// # Errors
/// When it is garbled.
pub(super) fn read_states(answer: &str) -> Result<Vec<SeenJob>, Garbled> {
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
pub(super) fn read_marked(answer: &str, key: &str) -> Option<u64> {
    let records = answer.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(FIELD).collect();
        let [id, comment, submission] = fields[..] else { return None };
        (has_mark(comment, key) || has_mark(submission, key)).then(|| id.parse().ok()).flatten()
    });
    records.min()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use torc_core::traits::{AllocationEnd, AllocationState};

    use super::*;

    #[test]
    fn questions_do_not_depend_on_a_users_settings() {
        let shown = |args: Vec<String>| args.join(" ").replace(FIELD, "|");
        assert_eq!(
            shown(ask_states(&[7, 8])),
            "--noheader --parsable2 --allocations --delimiter=| --format=JobIDRaw,State,Start,End,Reason --jobs=7,8"
        );
        assert_eq!(
            shown(ask_marks(1000)),
            "--noheader --parsable2 --allocations --delimiter=| --format=JobIDRaw,Comment,SubmitLine --user=1000 --starttime=now-30days"
        );
    }

    #[test]
    fn the_accounting_finds_marks_in_lines_of_submission() {
        let text = "1||sbatch --parsable\n2||srun python -c x=1\nprint(x)\n3||sbatch --parsable --comment=k-3\n4|k-4|sbatch x\n5||sbatch --comment=own words k-5 --parsable\n"
            .replace('|', &FIELD.to_string());
        let check = |key: &str, expected| assert_eq!(read_marked(&text, key), expected);
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
        let seen = read_states(&text).unwrap();
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
    fn garbage_is_an_error() {
        assert!(read_states("sacct: hello\n").is_err());
        assert!(read_states("x\u{1f}FAILED\u{1f}1\u{1f}2\u{1f}None\n").is_err());
    }

    proptest! {
        #[test]
        fn no_words_make_it_panic(text in "\\PC*", fields in "[0-9a-zA-Z:\u{1f}\n\\-]{0,60}") {
            for text in [text, fields] {
                let _ = read_states(&text);
                let _ = read_marked(&text, "k");
            }
        }
    }
}
