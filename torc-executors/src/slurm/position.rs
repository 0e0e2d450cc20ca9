//! Where a waiting allocation stands among all that waits.
//!
//! Pure. It counts what squeue shows; why Slurm prefers one job to another is in the priorities that it
//! shows, and nowhere here.

use torc_core::time::Timestamp;

use super::duration::parse_moment;
use super::records::{Garbled, format, records};

/// squeue's arguments for all that waits.
pub(super) fn ask() -> Vec<String> {
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
pub(super) fn read(answer: &str, id: u64) -> Result<Option<QueuePosition>, Garbled> {
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

    use super::*;
    use crate::slurm::records::tests::answer;
    use crate::slurm::records::{FIELD, RECORD};

    #[test]
    fn the_question_does_not_depend_on_a_users_settings() {
        let shown = ask().join(" ").replace(RECORD, "<").replace(FIELD, "|");
        assert_eq!(shown, "--noheader --all --states=PENDING --format=<%i|%P|%Q|%r|%S");
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
        let position = read(&text, 12).unwrap().unwrap();
        let expected = QueuePosition {
            partition: "main,threads".to_owned(),
            priority: 50,
            reason: String::new(),
            expected_start: Some(Timestamp(1_795_508_900_000)),
            ahead: 12,
            others: 15,
        };
        assert_eq!(position, expected);
        assert_eq!(read(&text, 99), Ok(None));
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

    #[test]
    fn garbage_is_an_error() {
        assert!(read("502", 1).is_err());
        assert!(read(&answer(&["1|main|high|None|0"]), 1).is_err());
    }

    proptest! {
        #[test]
        fn no_words_make_it_panic(text in "\\PC*", fields in "[0-9a-z_\\[\\]%,:\u{1e}\u{1f}\n\\-]{0,60}") {
            for text in [text, fields] {
                let _ = read(&text, 1);
                let _ = jobs_of(&text);
            }
        }
    }
}
