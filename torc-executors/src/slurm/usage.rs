//! What steps have used, from Slurm's accounting (sacct(1)).
//!
//! Asked for later, in batches, never on the way from one step to the next: the accounting may lag by
//! minutes, or not be there at all. What it does not say is not known; that is no error.

use std::collections::HashMap;

use torc_core::ids::StepId;
use torc_core::traits::Usage;

use super::command::{Call, CommandError, Programs};

const FIELDS: &str = "JobID,JobName,State,TotalCPU,MaxRSS";

/// Slurm's accounting.
#[derive(Clone, Debug)]
pub struct Accounting {
    programs: Programs,
}

/// What the accounting says about a step that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepUsage {
    /// How it ended, in Slurm's words: `COMPLETED`, `OUT_OF_MEMORY`.
    pub state: String,
    /// Processor time of all its processes, and the largest memory of one of its tasks.
    pub usage: Usage,
}

impl Accounting {
    /// The accounting that these programs ask.
    pub fn new(programs: Programs) -> Self {
        Self { programs }
    }

    /// What these steps of a Slurm job used, as far as it is known by now. Empty where nothing is
    /// accounted.
    ///
    /// # Errors
    /// When sacct cannot be run now; ask again.
    pub async fn usage(
        &self,
        job: &str,
        steps: &[StepId],
    ) -> Result<HashMap<StepId, StepUsage>, CommandError> {
        let args = ["--noheader", "--parsable2", "--duplicates", "--jobs", job, "--format", FIELDS];
        let answer = match self.programs.run(Call::new("sacct", args)).await {
            Err(error) if is_not_accounted(&error) => return Ok(HashMap::new()),
            answer => answer?,
        };
        let mut found = parse(answer.text()?);
        found.retain(|step, _| steps.contains(step));
        Ok(found)
    }
}

fn is_not_accounted(error: &CommandError) -> bool {
    error.stderr().is_some_and(|words| words.contains("accounting storage is disabled"))
}

/// The steps that have ended. When an allocation loses a node, its steps that run are recorded once for
/// the time before and once for the time after.
fn parse(text: &str) -> HashMap<StepId, StepUsage> {
    let mut found: HashMap<StepId, StepUsage> = HashMap::new();
    for line in text.lines() {
        let Some((step, entry)) = read(line) else { continue };
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
    found.retain(|_, entry| !matches!(entry.state.as_str(), "RUNNING" | "PENDING" | "SUSPENDED"));
    found
}

/// `41.7|wf1_j2_r1_a1|COMPLETED|00:00.012|1234K`.
fn read(line: &str) -> Option<(StepId, StepUsage)> {
    let mut fields = line.split('|');
    let mut next = || fields.next();
    let (id, name, state, cpu, memory) = (next()?, next()?, next()?, next()?, next()?);
    if !id.contains('.') {
        return None;
    }
    let usage = Usage {
        cpu_ms: milliseconds(cpu).unwrap_or_default(),
        peak_memory: bytes(memory).filter(|&bytes| bytes > 0),
    };
    Some((name.parse().ok()?, StepUsage { state: state.to_owned(), usage }))
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

    const ANSWER: &str = "43|f.sh|RESIZING|00:00.014|
43.batch|batch|RESIZING|00:00:00|
43.0|wf1_j1_r1_a1|COMPLETED|00:01.250|2048K
43.3|wf1_j2_r1_a1|RESIZING|01:00:00|1.50G
43.4|wf1_j3_r1_a1|OUT_OF_MEMORY|1-00:00:01|
43.5|bash|COMPLETED|00:01|1K
43|f.sh|COMPLETED|00:00.001|
43.3|wf1_j2_r1_a1|CANCELLED by 0|00:00.500|1M
43.6|wf1_j4_r1_a1|RUNNING|00:00:00|
43.7|wf1_j5_r1_a1|FAILED|what|ever
";

    #[test]
    fn steps_are_found_by_name() {
        let found = parse(ANSWER);
        let check = |name: &str, state: &str, cpu_ms, peak_memory| {
            let expected =
                StepUsage { state: state.to_owned(), usage: Usage { cpu_ms, peak_memory } };
            assert_eq!(found.get(&name.parse().expect("a step")), Some(&expected), "{name}");
        };
        assert_eq!(found.len(), 4);
        check("wf1_j1_r1_a1", "COMPLETED", 1250, Some(2 << 20));
        check(
            "wf1_j2_r1_a1",
            "CANCELLED by 0",
            3_600_500,
            Some((1 << 30) + (1 << 30) / 1000 * 500),
        );
        check("wf1_j3_r1_a1", "OUT_OF_MEMORY", 86_401_000, None);
        check("wf1_j5_r1_a1", "FAILED", 0, None);
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
        fn no_words_make_it_panic(text in "\\PC*", line in "[0-9.]{0,5}\\|wf1_j1_r1_a1\\|[A-Z]*\\|[0-9:.-]*\\|[0-9.]*[KMGT]?") {
            parse(&text);
            parse(&line);
        }
    }
}
