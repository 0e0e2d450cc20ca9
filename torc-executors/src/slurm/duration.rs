//! Times as Slurm writes them: limits, and points in time.
//!
//! Pure. Points in time are asked for as seconds since the epoch (`SLURM_TIME_FORMAT=%s`, squeue(1)), so
//! that no time zone is involved; anything else is no time, never a wrong one.

use std::time::Duration;

use torc_core::time::Timestamp;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A time limit, as far as Slurm tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeLimit {
    /// This long.
    For(Duration),
    /// There is none.
    Unlimited,
    /// The partition's.
    OfPartition,
    /// Slurm does not say (`NOT_SET`, `INVALID`, `n/a`).
    NotSaid,
}

impl TimeLimit {
    /// The time, if there is one.
    pub fn finite(self) -> Option<Duration> {
        match self {
            Self::For(duration) => Some(duration),
            Self::Unlimited | Self::OfPartition | Self::NotSaid => None,
        }
    }
}

/// Words that are no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no time that Slurm would write; it writes minutes, `HH:MM:SS` or `D-HH:MM:SS`")]
pub struct BadTime(String);

/// Reads a time limit: `MM`, `MM:SS`, `HH:MM:SS`, `D-HH`, `D-HH:MM`, `D-HH:MM:SS` (sbatch(1), `--time`),
/// or one of the words that stand for none.
///
/// # Errors
/// When it is neither.
pub fn parse_limit(text: &str) -> Result<TimeLimit, BadTime> {
    let text = text.trim();
    match text.to_ascii_lowercase().as_str() {
        "unlimited" | "infinite" => return Ok(TimeLimit::Unlimited),
        "partition_limit" => return Ok(TimeLimit::OfPartition),
        "not_set" | "invalid" | "n/a" | "none" | "unknown" | "(null)" => {
            return Ok(TimeLimit::NotSaid);
        }
        _ => {}
    }
    let seconds = seconds(text).ok_or_else(|| BadTime(text.chars().take(40).collect()))?;
    Ok(TimeLimit::For(Duration::from_secs(seconds)))
}

fn seconds(text: &str) -> Option<u64> {
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (Some(number(days)?), clock),
        None => (None, text),
    };
    let parts: Vec<u64> = clock.split(':').map(number).collect::<Option<_>>()?;
    let units: &[u64] = match (days.is_some(), parts.len()) {
        (false, 1) => &[MINUTE],
        (false, 2) => &[MINUTE, 1],
        (true, 1) => &[HOUR],
        (true, 2) => &[HOUR, MINUTE],
        (_, 3) => &[HOUR, MINUTE, 1],
        _ => return None,
    };
    parts.iter().zip(units).try_fold(days.unwrap_or(0).checked_mul(DAY)?, |total, (n, unit)| {
        total.checked_add(n.checked_mul(*unit)?)
    })
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<u64> {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_digits.then(|| text.parse().ok()).flatten()
}

/// As sbatch takes it: `HH:MM:SS` or `D-HH:MM:SS`, a part of a second counting as one.
pub fn render(duration: Duration) -> String {
    let total = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
    let (days, rest) = (total / DAY, total % DAY);
    let clock = format!("{:02}:{:02}:{:02}", rest / HOUR, rest % HOUR / MINUTE, rest % MINUTE);
    if days > 0 { format!("{days}-{clock}") } else { clock }
}

/// A point in time from seconds since the epoch; `None` for the words that stand for no time, and for
/// everything else.
pub fn parse_moment(text: &str) -> Option<Timestamp> {
    let seconds = number(text.trim()).filter(|seconds| *seconds > 0)?;
    seconds.checked_mul(1000).map(Timestamp)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn limits_are_slurms() {
        let check = |text: &str, seconds: u64| {
            let expected = TimeLimit::For(Duration::from_secs(seconds));
            assert_eq!(parse_limit(text), Ok(expected), "{text}");
        };
        check("30", 1800);
        check("30:00", 1800);
        check("0:05", 5);
        check("01:02:03", 3723);
        check("1-0", 86_400);
        check("1-00:30", 88_200);
        check("2-03:04:05", 183_845);
        check("365-00:00:00", 31_536_000);
    }

    #[test]
    fn words_stand_for_no_limit() {
        let check = |text: &str, expected| assert_eq!(parse_limit(text), Ok(expected), "{text}");
        check("UNLIMITED", TimeLimit::Unlimited);
        check("infinite", TimeLimit::Unlimited);
        check("Partition_Limit", TimeLimit::OfPartition);
        check("NOT_SET", TimeLimit::NotSaid);
        check("INVALID", TimeLimit::NotSaid);
        check("n/a", TimeLimit::NotSaid);
    }

    #[test]
    fn other_words_are_refused() {
        for text in ["", "-", "1-", "-1", "a", "1:2:3:4", "1-2:3:4:5", "+5", "1:-2", "1.5", "::"] {
            assert!(parse_limit(text).is_err(), "{text}");
        }
        assert!(parse_limit("99999999999999999999").is_err());
        assert!(parse_limit("18446744073709551615-00:00:00").is_err());
    }

    #[test]
    fn durations_are_rendered_for_sbatch() {
        let check = |millis, expected: &str| {
            assert_eq!(render(Duration::from_millis(millis)), expected);
        };
        check(0, "00:00:00");
        check(1, "00:00:01");
        check(3_600_000, "01:00:00");
        check(86_399_001, "1-00:00:00");
        check(183_845_000, "2-03:04:05");
    }

    #[test]
    fn moments_are_seconds_since_the_epoch() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(parse_moment(text), expected.map(Timestamp), "{text}");
        };
        check("1795508699", Some(1_795_508_699_000));
        for text in ["N/A", "NONE", "Unknown", "", "0", "-5", "2026-11-24T08:00:00"] {
            check(text, None);
        }
        check("18446744073709551615", None);
    }

    proptest! {
        #[test]
        fn what_is_rendered_is_read_back(seconds in 0_u64..4_000_000_000) {
            let duration = Duration::from_secs(seconds);
            prop_assert_eq!(parse_limit(&render(duration)), Ok(TimeLimit::For(duration)));
        }

        #[test]
        fn no_words_make_it_panic(text in "\\PC*", clock in "[0-9:\\-]{0,30}") {
            for text in [text, clock] {
                let _ = parse_limit(&text);
                let _ = parse_moment(&text);
            }
        }
    }
}
