//! The Standard Workload Format, in which logs of real parallel machines are published.
//!
//! The format is that of version 2.2 (Feitelson and others, Parallel Workloads Archive): a line a job
//! with 18 fields between spaces, -1 for what is not known; lines that begin with `;` are comments, of
//! which some say something about the machine. Pure: text in, jobs out.

use std::time::Duration;

/// Fields of a job's line.
const FIELDS: usize = 18;

/// A log of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The jobs that ran, in the order of their submission.
    pub jobs: Vec<TraceJob>,
    /// Jobs that never ran, or of which the time or the processors are not known.
    pub left_out: usize,
    /// Nodes of the machine, if a comment says so.
    pub max_nodes: Option<u32>,
    /// Processors of the machine, if a comment says so.
    pub max_procs: Option<u32>,
}

/// A job of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceJob {
    /// Its number in the log.
    pub number: u64,
    /// When it was submitted, from the beginning of the log.
    pub submitted: Duration,
    /// How long it ran.
    pub runtime: Duration,
    /// How long it might have run; `None`: the log does not say.
    pub requested: Option<Duration>,
    /// The processors that it asked for; where the log does not say, those that it got. At least 1.
    pub processors: u32,
    /// Bytes of memory for each processor, if it asked for any.
    pub memory: Option<u64>,
}

/// What is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct SwfError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and what should be there.
    pub what: String,
}

/// Reads a log.
///
/// # Errors
/// When a line is neither a comment nor a job, or there is no job.
pub fn parse(text: &str) -> Result<Trace, SwfError> {
    let mut trace = Trace::default();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(comment) = line.strip_prefix(';') {
            read_comment(&mut trace, comment);
        } else if !line.is_empty() {
            match job(line).map_err(|what| SwfError { line: index + 1, what })? {
                Some(job) => trace.jobs.push(job),
                None => trace.left_out += 1,
            }
        }
    }
    if trace.jobs.is_empty() {
        let what = "no job in this file ran; a log in the Standard Workload Format has a line of 18 \
                    numbers for each";
        let line = text.lines().count().max(1);
        return Err(SwfError { line, what: what.to_owned() });
    }
    trace.jobs.sort_by_key(|job| (job.submitted, job.number));
    Ok(trace)
}

fn read_comment(trace: &mut Trace, comment: &str) {
    let Some((key, value)) = comment.split_once(':') else { return };
    let number = value.split_whitespace().next().and_then(|word| word.parse().ok());
    let number = number.filter(|number| *number > 0);
    match key.trim() {
        "MaxNodes" => trace.max_nodes = number,
        "MaxProcs" => trace.max_procs = number,
        _ => {}
    }
}

/// A job; `None`: it did not run, or too little is known of it.
fn job(line: &str) -> Result<Option<TraceJob>, String> {
    const PARTIAL: std::ops::RangeInclusive<i64> = 2..=4;
    let words: Vec<&str> = line.split_whitespace().collect();
    if words.len() != FIELDS {
        return Err(format!(
            "{} fields; a job has {FIELDS} in the Standard Workload Format",
            words.len()
        ));
    }
    let field = |number: usize| {
        whole(words[number - 1]).ok_or_else(|| {
            format!(
                "field {number} is `{}`; a whole number belongs there",
                excerpt(words[number - 1])
            )
        })
    };
    let (number, submitted, runtime) = (field(1)?, field(2)?, field(4)?);
    let (allocated, requested) = (field(5)?, field(8)?);
    let (requested_time, memory, status) = (field(9)?, field(10)?, field(11)?);
    let seconds = |value: i64| u64::try_from(value).ok().map(Duration::from_secs);
    let positive = |value: i64| u32::try_from(value).ok().filter(|value| *value > 0);
    // The parts of a job that was swapped out are told again in its last line.
    let (Some(submitted), Some(runtime), Some(processors), false) = (
        seconds(submitted),
        seconds(runtime),
        positive(requested).or_else(|| positive(allocated)),
        PARTIAL.contains(&status),
    ) else {
        return Ok(None);
    };
    Ok(Some(TraceJob {
        number: u64::try_from(number).unwrap_or_default(),
        submitted,
        runtime,
        requested: seconds(requested_time).filter(|time| !time.is_zero()),
        processors,
        memory: u64::try_from(memory).ok().filter(|memory| *memory > 0).map(|kib| kib << 10),
    }))
}

/// A whole number; logs also write `3600.0`.
fn whole(word: &str) -> Option<i64> {
    /// Seconds of 30,000 years; beyond it sums would overflow.
    const MOST: i64 = 1_000_000_000_000;
    let value = match word.parse::<i64>() {
        Ok(value) => value,
        Err(_) => {
            let (value, fraction) = word.split_once('.')?;
            let is_number = fraction.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| value.parse().ok()).flatten()?
        }
    };
    (-MOST..=MOST).contains(&value).then_some(value)
}

fn excerpt(word: &str) -> String {
    const SHOWN: usize = 20;
    word.chars().take(SHOWN).collect()
}
