//! What squeue is asked about this user's jobs, and its answers.
//!
//! Pure. It knows jobs that are in the queue or ended a short while ago (slurm.conf(5), MinJobAge).

use torc_core::traits::AllocationState;

use super::duration::parse_moment;
use super::hostlist;
use super::records::{Garbled, format, records};
use super::states::{self, JobWords};

/// A job as squeue or sacct tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SeenJob {
    /// The job id.
    pub(super) id: u64,
    /// Where it stands.
    pub(super) state: AllocationState,
}

/// squeue's arguments for where these jobs stand, whatever their state.
pub(super) fn ask_states(ids: &[u64]) -> Vec<String> {
    let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
    let mut args = ask_own(&format("iTrSeBN"));
    args.push(format!("--jobs={}", ids.join(",")));
    args
}

/// squeue's arguments for the marks of all of this user's jobs.
pub(super) fn ask_marks() -> Vec<String> {
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
pub(super) fn read_states(answer: &str) -> Result<Vec<SeenJob>, Garbled> {
    let records = records::<7>("squeue", answer)?;
    let read = |[id, state, reason, start, end, head, nodes]: [&str; 7]| {
        let words = JobWords { state, reason, start: parse_moment(start), end: parse_moment(end) };
        let number = id.parse().map_err(|_| Garbled::new("squeue", id))?;
        let state = match states::read(&words) {
            AllocationState::Running { .. } if is_headless(head, nodes) => {
                AllocationState::Headless
            }
            state => state,
        };
        Ok(SeenJob { id: number, state })
    };
    records.into_iter().map(read).collect()
}

/// Whether the host of the batch script is none of the job's nodes any more: Slurm lets a job that was
/// submitted with `--no-kill` go on without it, and its script is gone.
fn is_headless(head: &str, nodes: &str) -> bool {
    let is_named = |text: &str| !matches!(text.trim(), "" | "n/a" | "N/A" | "(null)");
    is_named(head)
        && is_named(nodes)
        && hostlist::expand(nodes.trim(), hostlist::MOST_NODES)
            .is_ok_and(|nodes| !nodes.iter().any(|node| node == head.trim()))
}

/// The job with this mark, from squeue's answer about marks. Of several, the first that was submitted.
///
/// # Errors
/// When it is garbled.
pub(super) fn read_marked(answer: &str, key: &str) -> Result<Option<u64>, Garbled> {
    let records = records::<2>("squeue", answer)?;
    let marked = records.into_iter().filter(|[_, comment]| has_mark(comment, key));
    // A job array has no such id, and is not torc's.
    Ok(marked.filter_map(|[id, _]| id.parse().ok()).min())
}

/// Whether a comment, or the line of a submission, carries this mark.
pub(super) fn has_mark(text: &str, key: &str) -> bool {
    let word_is_mark = |word: &str| word.strip_prefix("--comment=").unwrap_or(word) == key;
    text.split_whitespace().any(word_is_mark)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use torc_core::time::Timestamp;
    use torc_core::traits::AllocationEnd;

    use super::*;
    use crate::slurm::records::tests::answer;
    use crate::slurm::records::{FIELD, RECORD};

    #[test]
    fn questions_do_not_depend_on_a_users_settings() {
        let shown = |args: Vec<String>| args.join(" ").replace(RECORD, "<").replace(FIELD, "|");
        assert_eq!(
            shown(ask_states(&[7, 8])),
            "--noheader --me --all --states=all --format=<%i|%T|%r|%S|%e|%B|%N --jobs=7,8"
        );
        assert_eq!(shown(ask_marks()), "--noheader --me --all --states=all --format=<%i|%k");
    }

    #[test]
    fn the_queue_is_read() {
        let text = answer(&[
            "5|CANCELLED|None|1795508700|1795508702|node1|node[1-2]",
            "27|PENDING|Resources|N/A|N/A|n/a|",
            "28|RUNNING|None|1795508700|1795512300|node1|node[1-2]",
            "29|HIBERNATED|None|x|y|z|z",
            "30|RUNNING|None|1795508700|1795512300|node1|node[2-4]",
            "31|RUNNING|None|1795508700|1795512300|n/a|node[2-4]",
        ]);
        let seen = read_states(&text).unwrap();
        let ended = AllocationState::Ended {
            cause: AllocationEnd::Cancelled,
            reason: "CANCELLED".to_owned(),
        };
        let pending =
            AllocationState::Pending { reason: "Resources".to_owned(), expected_start: None };
        let running = AllocationState::Running { ends_at: Some(Timestamp(1_795_512_300_000)) };
        let unclear = AllocationState::Unclear { words: "HIBERNATED".to_owned() };
        let headless = AllocationState::Headless;
        let expected = [
            (5, ended),
            (27, pending),
            (28, running.clone()),
            (29, unclear),
            (30, headless),
            (31, running),
        ];
        assert_eq!(seen, expected.map(|(id, state)| SeenJob { id, state }));
        assert_eq!(read_states(""), Ok(vec![]));
        assert_eq!(read_states("\n"), Ok(vec![]));
        assert_eq!(read_states(&format!("Welcome!\n{text}")).unwrap().len(), 6);
    }

    #[test]
    fn garbage_is_an_error_not_an_empty_queue() {
        let check = |text: &str, words: &str| {
            let expected = Garbled { program: "squeue", words: words.to_owned() };
            assert_eq!(read_states(text), Err(expected), "{text}");
        };
        check("<html>502</html>", "<html>502</html>");
        check(&answer(&["5|RUNNING|None"]), "5 RUNNING None");
        check(&answer(&["5_[1-3]|RUNNING|None|1|2|n|n"]), "5_[1-3]");
        check(&answer(&["5|RUNNING|None|1|2|n|n", "6|RUN"]), "6 RUN");
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

    proptest! {
        #[test]
        fn no_words_make_it_panic(text in "\\PC*", fields in "[0-9a-zA-Z_\\[\\]:\u{1e}\u{1f}\n]{0,60}") {
            for text in [text, fields] {
                let _ = read_states(&text);
                let _ = read_marked(&text, "k");
            }
        }
    }
}
