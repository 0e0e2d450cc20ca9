//! Reads quantities written as text: memory, runtimes, walltimes, signals.
//!
//! Knows no field and no place. Every refusal shows the right form.

use std::time::Duration;

use crate::diagnostics::nearest;

/// A quantity is not written as it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct Malformed {
    /// What is wrong, without a full stop.
    pub(crate) why: String,
    /// What to write instead.
    pub(crate) right: String,
}

fn malformed<T>(why: impl Into<String>, right: impl Into<String>) -> Result<T, Malformed> {
    Err(Malformed { why: why.into(), right: right.into() })
}

/// Bytes from an integer with an optional k, m, g or t in either case, in units of 1024.
pub(crate) fn memory(text: &str) -> Result<u64, Malformed> {
    const RIGHT: &str = "write an integer with k, m, g or t, such as `4g`, or bare bytes";
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let shift = |unit: &str| match unit.to_ascii_lowercase().as_str() {
        "" => Some(0),
        "k" => Some(10),
        "m" => Some(20),
        "g" => Some(30),
        "t" => Some(40_u32),
        _ => None,
    };
    let Some(bits) = shift(unit).filter(|_| !digits.is_empty()) else {
        let right = memory_meant(text).map_or(RIGHT.to_owned(), |form| format!("write `{form}`"));
        return malformed("the memory is not an integer with k, m, g or t", right);
    };
    match digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << bits)) {
        Some(0) => malformed("a job needs some memory", "write `1g`, or leave `memory` out"),
        Some(bytes) => Ok(bytes),
        None => malformed("this is more memory than can be counted", RIGHT),
    }
}

/// The right form of `4GB`, `4 GiB` or `1.5g`.
fn memory_meant(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(end);
    let unit = unit.trim().to_ascii_lowercase();
    let letter = unit.chars().next().filter(|letter| "kmgt".contains(*letter))?;
    if !matches!(&unit[1..], "" | "b" | "ib") {
        return None;
    }
    let Some((whole, fraction)) = number.split_once('.') else {
        return number.parse::<u64>().ok().map(|number| format!("{number}{letter}"));
    };
    let smaller = match letter {
        't' => 'g',
        'g' => 'm',
        'm' => 'k',
        _ => return None,
    };
    let whole: u64 = whole.parse().ok()?;
    let fraction: f64 = format!("0.{fraction}").parse().ok()?;
    let part = format!("{:.0}", (fraction * 1024.0).ceil()).parse::<u64>().ok()?;
    Some(format!("{}{smaller}", whole.checked_mul(1024)?.checked_add(part)?))
}

/// A duration of ISO 8601: `PnWnDTnHnMnS`, the seconds with a fraction if need be. Years and months
/// have no fixed length and are refused.
pub(crate) fn runtime(text: &str) -> Result<Duration, Malformed> {
    const RIGHT: &str = "write an ISO 8601 duration, such as `PT30M`, `PT2H` or `P1DT12H`";
    let Some(rest) = text.strip_prefix('P') else {
        let meant = walltime(text).ok().or_else(|| words_meant(text));
        let right = meant.map(|meant| format!("write `{}`", iso(meant)));
        return malformed("a runtime begins with P", right.unwrap_or_else(|| RIGHT.to_owned()));
    };
    let (days, time) = rest.split_once('T').map_or((rest, None), |(days, time)| (days, Some(time)));
    if days.contains(['Y', 'M']) {
        return malformed("years and months have no fixed length", RIGHT);
    }
    let total = add_units(days, &[('W', 604_800), ('D', 86_400)]).and_then(|days| {
        let Some(time) = time.map(|time| {
            if time.is_empty() {
                None
            } else {
                add_units(time, &[('H', 3600), ('M', 60), ('S', 1)])
            }
        }) else {
            return Some(days);
        };
        time?.checked_add(days)
    });
    match total {
        Some(Duration::ZERO) => malformed("a runtime must be longer than zero", RIGHT),
        Some(total) if rest != "T" && !rest.is_empty() => Ok(total),
        _ => malformed("the runtime is not an ISO 8601 duration", RIGHT),
    }
}

/// The duration that `4h`, `90 min` or `1 day 2 hours` stands for.
fn words_meant(text: &str) -> Option<Duration> {
    let (mut rest, mut total) = (text.trim(), 0_u64);
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let end = after.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(after.len());
        let seconds = match after[..end].to_ascii_lowercase().as_str() {
            "s" | "sec" | "secs" | "second" | "seconds" => 1,
            "m" | "min" | "mins" | "minute" | "minutes" => 60,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3_600,
            "d" | "day" | "days" => 86_400_u64,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(seconds)?)?;
        rest = after[end..].trim_start();
    }
    const LONGEST: u64 = 3_200_000_000_000;
    (1..=LONGEST).contains(&total).then(|| Duration::from_secs(total))
}

/// A duration of whole seconds in ISO 8601.
fn iso(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let part =
        |count: u64, unit: char| if count == 0 { String::new() } else { format!("{count}{unit}") };
    let time = [(seconds / 3600 % 24, 'H'), (seconds / 60 % 60, 'M'), (seconds % 60, 'S')];
    let time: String = time.into_iter().map(|(count, unit)| part(count, unit)).collect();
    let days = part(seconds / 86_400, 'D');
    if time.is_empty() { format!("P{days}") } else { format!("P{days}T{time}") }
}

/// Numbers, each with its unit, in this order and each at most once.
fn add_units(mut text: &str, units: &[(char, u64)]) -> Option<Duration> {
    let mut total = Duration::ZERO;
    for (unit, seconds) in units {
        let Some((number, rest)) = text.split_once(*unit) else {
            continue;
        };
        text = rest;
        let (whole, fraction) = match number.split_once(['.', ',']) {
            // ISO 8601 allows a fraction of the smallest unit only.
            Some((whole, fraction)) if rest.is_empty() => (whole, fraction),
            Some(_) => return None,
            None => (number, "0"),
        };
        let digits = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return None;
        }
        let nanos: u64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
        let whole = whole.parse::<u64>().ok()?.checked_mul(*seconds)?;
        total = total.checked_add(Duration::from_secs(whole))?;
        total = total.checked_add(Duration::from_nanos(nanos.checked_mul(*seconds)?))?;
    }
    // More than a hundred thousand years is a slip, and would not fit the clock's arithmetic.
    const LONGEST: Duration = Duration::from_secs(3_200_000_000_000);
    (text.is_empty() && total <= LONGEST).then_some(total)
}

/// A walltime as Slurm writes it: `HH:MM:SS` or `D-HH:MM:SS`.
pub(crate) fn walltime(text: &str) -> Result<Duration, Malformed> {
    const RIGHT: &str = "write `HH:MM:SS` or `D-HH:MM:SS`, such as `04:00:00` or `2-00:00:00`";
    let (days, hours) = match text.split_once('-') {
        Some((days, hours)) => (days, hours),
        None => ("0", text),
    };
    let number = |part: &str| {
        let fits = !part.is_empty() && part.len() <= 6 && part.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| part.parse::<u64>().ok()).flatten()
    };
    let parts: Vec<_> = hours.split(':').map(number).collect();
    let (Some(days), [Some(hours), Some(minutes), Some(seconds)]) = (number(days), &parts[..])
    else {
        let meant = if text.starts_with('P') { runtime(text).ok() } else { words_meant(text) };
        let right = meant.map(|meant| format!("write `{}`", clock(meant)));
        return malformed("this is not a walltime", right.unwrap_or_else(|| RIGHT.to_owned()));
    };
    if *minutes > 59 || *seconds > 59 {
        return malformed(
            "a walltime has at most 59 minutes and 59 seconds beside its hours",
            RIGHT,
        );
    }
    match days * 86_400 + hours * 3600 + minutes * 60 + seconds {
        0 => malformed("a walltime must be longer than zero", RIGHT),
        total => Ok(Duration::from_secs(total)),
    }
}

/// A duration as Slurm writes walltimes: `HH:MM:SS` or `D-HH:MM:SS`. A part of a second counts as one.
pub(crate) fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let clock = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    if days == 0 { clock } else { format!("{days}-{clock}") }
}

/// Bytes as a spec writes them, exactly: `64g`, `1536m`.
pub(crate) fn written_memory(bytes: u64) -> String {
    let units = [(40, 't'), (30, 'g'), (20, 'm'), (10, 'k')];
    let unit = units.iter().find(|(bits, _)| bytes >= 1 << bits && bytes.is_multiple_of(1 << bits));
    match unit {
        Some((bits, letter)) => format!("{}{letter}", bytes >> bits),
        None => bytes.to_string(),
    }
}

/// The number of a signal from `SIGTERM`, `TERM` or `15`; the names and numbers are those of
/// signal(7) on Linux that make sense as a request to end.
pub(crate) fn signal(text: &str) -> Result<i32, Malformed> {
    const SIGNALS: [(&str, i32); 9] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ABRT", 6),
        ("KILL", 9),
        ("USR1", 10),
        ("USR2", 12),
        ("TERM", 15),
        ("XCPU", 24),
    ];
    const HIGHEST: i32 = 64;
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let named = SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    match named.or_else(|| text.parse().ok().filter(|number| (1..=HIGHEST).contains(number))) {
        Some(number) => Ok(number),
        None => {
            let names = SIGNALS.iter().map(|(known, _)| *known);
            let upper = text.to_ascii_uppercase();
            let right = match nearest(upper.strip_prefix("SIG").unwrap_or(&upper), names) {
                Some(near) => format!("did you mean `SIG{near}`?"),
                None => "write a signal such as `SIGTERM` or `15`".to_owned(),
            };
            malformed("there is no such signal", right)
        }
    }
}

/// A signal as srun's `--signal` has it: the signal, and the seconds before the end at which it is
/// sent; 60 when none are said (srun(1)).
pub(crate) fn slurm_signal(text: &str) -> Result<(i32, u64), Malformed> {
    const USUAL_SECONDS: u64 = 60;
    const MOST_SECONDS: u64 = 65_535;
    let help = "write a signal and seconds such as `TERM@120`";
    let (name, seconds) = match text.split_once('@') {
        None => (text, USUAL_SECONDS),
        Some((name, seconds)) => match seconds.parse() {
            Ok(seconds) if seconds <= MOST_SECONDS => (name, seconds),
            _ => return malformed("the time before the end is not 0 to 65535 seconds", help),
        },
    };
    let number = signal(name.strip_prefix("R:").unwrap_or(name))?;
    Ok((number, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_counts_in_1024() {
        let check = |text: &str, bytes: u64| assert_eq!(memory(text), Ok(bytes), "{text}");
        check("4g", 4 << 30);
        check("4G", 4 << 30);
        check("512m", 512 << 20);
        check("2k", 2048);
        check("1t", 1 << 40);
        check("123", 123);
    }

    #[test]
    fn wrong_memory_shows_the_right_form() {
        let check = |text: &str, right: &str| assert_eq!(memory(text).unwrap_err().right, right);
        check("4GB", "write `4g`");
        check("4 GiB", "write `4g`");
        check("1.5g", "write `1536m`");
        check("0.5T", "write `512g`");
        let general = "write an integer with k, m, g or t, such as `4g`, or bare bytes";
        for text in ["", "g", "-1g", "four", "1x", "99999999999999999999t", "1.5", "1..5g", "4gx"] {
            check(text, general);
        }
        assert!(memory("0g").is_err());
    }

    #[test]
    fn runtimes_are_iso_8601() {
        let check = |text: &str, millis: u64| {
            assert_eq!(runtime(text), Ok(Duration::from_millis(millis)), "{text}");
        };
        check("PT1H", 3_600_000);
        check("P1DT2H3M4S", 93_784_000);
        check("PT0.5S", 500);
        check("PT1,25S", 1250);
        check("P2W", 1_209_600_000);
        check("P0DT5M", 300_000);
        for text in [
            "", "P", "PT", "P1DT", "1H", "PT1", "P1M", "P1Y", "PT1S1M", "PT1.5H2M", "PT0S",
            "PT-1S", "P1H",
        ] {
            assert!(runtime(text).is_err(), "{text}");
        }
        assert!(runtime("P99999999999999999999D").is_err());
        assert!(runtime("P9999999999999W").is_err());
    }

    #[test]
    fn wrong_durations_show_the_right_form() {
        let check =
            |text: &str, right: &str| assert_eq!(runtime(text).unwrap_err().right, right, "{text}");
        check("3h", "write `PT3H`");
        check("90 min", "write `PT1H30M`");
        check("1 day 2 hours", "write `P1DT2H`");
        check("2-00:00:30", "write `P2DT30S`");
        check("1d", "write `P1D`");
        let general = "write an ISO 8601 duration, such as `PT30M`, `PT2H` or `P1DT12H`";
        for text in ["", "60", "h", "3x", "0h", "99999999999999999999h", "18446744073709551615d"] {
            check(text, general);
        }
        let check = |text: &str, right: &str| {
            assert_eq!(walltime(text).unwrap_err().right, right, "{text}")
        };
        check("4h", "write `04:00:00`");
        check("PT90M", "write `01:30:00`");
        check("2 days", "write `2-00:00:00`");
        let general = "write `HH:MM:SS` or `D-HH:MM:SS`, such as `04:00:00` or `2-00:00:00`";
        for text in ["", "04:00", "240", "P1Y", "soon"] {
            check(text, general);
        }
    }

    #[test]
    fn a_mistyped_signal_comes_with_the_nearest() {
        let check =
            |text: &str, right: &str| assert_eq!(signal(text).unwrap_err().right, right, "{text}");
        check("SIGTREM", "did you mean `SIGTERM`?");
        check("sigterm", "did you mean `SIGTERM`?");
        check("usr3", "did you mean `SIGUSR2`?");
        check("99", "write a signal such as `SIGTERM` or `15`");
    }

    #[test]
    fn walltimes_are_slurms() {
        let check = |text: &str, seconds: u64| {
            assert_eq!(walltime(text), Ok(Duration::from_secs(seconds)), "{text}");
        };
        check("01:00:00", 3600);
        check("1-02:03:04", 93_784);
        check("100:00:00", 360_000);
        for text in
            ["", "30", "10:00", "1-2", "00:60:00", "00:00:60", "00:00:00", "a:b:c", "-1:0:0"]
        {
            assert!(walltime(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let check = |seconds: u64, text: &str| {
            let duration = Duration::from_secs(seconds);
            assert_eq!(clock(duration), text);
            assert_eq!(walltime(text), Ok(duration));
        };
        check(1, "00:00:01");
        check(7_800, "02:10:00");
        check(86_399, "23:59:59");
        check(93_784, "1-02:03:04");
        assert_eq!(clock(Duration::from_millis(59_001)), "00:01:00");
        for bytes in [1, 1000, 1024, 1536 << 20, 64 << 30, 3 << 40, u64::MAX] {
            assert_eq!(memory(&written_memory(bytes)), Ok(bytes));
        }
        assert_eq!(written_memory(1536 << 20), "1536m");
    }

    #[test]
    fn signals_have_names_and_numbers() {
        assert_eq!(signal("SIGTERM"), Ok(15));
        assert_eq!(signal("INT"), Ok(2));
        assert_eq!(signal("10"), Ok(10));
        for text in ["SIGNOPE", "0", "65", "", "-1"] {
            assert!(signal(text).is_err(), "{text}");
        }
    }
}
