//! What people see: tables, times, sizes, causes. No decisions, but how to say it.

pub(crate) mod causes;
pub(crate) mod diagnostics;
mod idle;
pub(crate) mod progress;
mod reasons;
pub(crate) mod restart_plan;
pub(crate) mod summary;

use std::time::Duration;

pub(crate) use idle::{idle_causes, idle_part, percent};

use crate::out::{self, Output, outln};
use anstream::ColorChoice;
use comfy_table::{Table, presets};
use jiff::{SignedDuration, Zoned};
use serde::Serialize;
use torc_core::engine::JobStatus;
use torc_core::resources::Slots;
use torc_core::time::Timestamp;
use torc_core::traits::{LaunchStage, Outcome};

const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const CYAN: &str = "\x1b[36m";
const RED_BOLD: &str = "\x1b[1;31m";
const PLAIN: &str = "\x1b[0m";

/// Prints one JSON value on standard output.
pub(crate) fn json<T: Serialize>(value: &T) {
    let text =
        serde_json::to_string_pretty(value).expect("our own types have string keys and serialize");
    out::pass_on(text.as_bytes());
    out::pass_on(b"\n");
}

/// Prints a table on standard output.
pub(crate) fn table(header: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().map(|word| word.to_uppercase()));
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for line in table.lines() {
        if out::state() != Output::Open {
            return;
        }
        outln!("{}", line.trim_end());
    }
}

/// As many of these names as a cell of a table has room for.
pub(crate) fn few(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let mut cell = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN {
        cell += &format!(" and {} more", names.len() - SHOWN);
    }
    cell
}

pub(crate) fn error_word() -> String {
    format!("{RED_BOLD}error:{PLAIN}")
}

/// CPUs of a node in use, of all; its slots where it has any.
pub(crate) fn in_use(used: u32, cpus: u32, slots: Option<Slots>) -> String {
    match slots {
        Some(slots) => format!("{}/{} slots", slots.used, slots.all),
        None => format!("{used}/{cpus}"),
    }
}

/// A status in its colour; the word alone where there is no colour.
pub(crate) fn status_cell(status: JobStatus) -> String {
    let color = match status {
        JobStatus::Completed => GREEN,
        JobStatus::Failed | JobStatus::Terminated | JobStatus::PendingFailed => RED,
        JobStatus::Canceled => YELLOW,
        JobStatus::Running | JobStatus::Pending => CYAN,
        _ => return status.to_string(),
    };
    let colored = ColorChoice::global() != ColorChoice::Never
        && anstream::stdout().current_choice() != ColorChoice::Never;
    if colored { format!("{color}{status}{PLAIN}") } else { status.to_string() }
}

/// "1 job", "2 jobs".
pub(crate) fn jobs(count: u32) -> String {
    if count == 1 { "1 job".to_owned() } else { format!("{count} jobs") }
}

/// "1 job", "2 jobs", "2 dependencies".
pub(crate) fn counted(count: usize, noun: &str) -> String {
    match (count, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (count, Some(stem)) => format!("{count} {stem}ies"),
        (count, None) => format!("{count} {noun}s"),
    }
}

/// Hours, minutes and seconds, and days where there are any: 01:30:00, 2-00:00:00. Rounded to seconds.
pub(crate) fn clock(time: Duration) -> String {
    let rounded = time.saturating_add(Duration::from_millis(500)).as_secs();
    let (hours, minutes, seconds) = (rounded / 3600, rounded / 60 % 60, rounded % 60);
    match hours / 24 {
        0 => format!("{hours:02}:{minutes:02}:{seconds:02}"),
        days => format!("{days}-{:02}:{minutes:02}:{seconds:02}", hours % 24),
    }
}

/// Milliseconds as hours: 12.50.
pub(crate) fn hours(ms: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown to two decimals")]
    let hours = ms as f64 / 3_600_000.0;
    format!("{hours:.2}")
}

/// Milliseconds for people: 0.34 s, 12.3 s, 4 min 05 s, 2 h 03 min.
pub(crate) fn duration_ms(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..10 => format!("{}.{:02} s", seconds, ms % 1000 / 10),
        10..60 => format!("{}.{} s", seconds, ms % 1000 / 100),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Time left for people: no more exact than an estimate is.
pub(crate) fn about(left: Duration) -> String {
    match left.as_secs() {
        seconds @ 0..60 => format!("about {seconds} s left"),
        seconds @ 60..3600 => format!("about {} min left", seconds.div_ceil(60)),
        seconds => format!("about {} h {:02} min left", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Bytes for people, in binary units.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = bytes;
    let mut tenths = 0;
    let mut unit = 0;
    while scaled >= 1024 && unit + 1 < UNITS.len() {
        tenths = scaled % 1024 * 10 / 1024;
        scaled /= 1024;
        unit += 1;
    }
    if unit == 0 || scaled >= 100 {
        format!("{scaled} {}", UNITS[unit])
    } else {
        format!("{scaled}.{tenths} {}", UNITS[unit])
    }
}

fn zoned(at: Timestamp) -> Option<Zoned> {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(at.0).ok()?).ok()?;
    Some(at.to_zoned(jiff::tz::TimeZone::system()))
}

/// A time of day, with the day when it is not today.
pub(crate) fn local_time(at: Timestamp) -> String {
    zoned(at).map_or_else(String::new, |at| {
        let is_today = at.date() == Zoned::now().date();
        at.strftime(if is_today { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" }).to_string()
    })
}

/// How a step ended, when its code alone does not say it.
pub(crate) fn cause(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Exited { .. } => String::new(),
        Outcome::Signaled { signal } => match nix::sys::signal::Signal::try_from(*signal) {
            Ok(name) => format!("ended by {name}"),
            Err(_) => format!("ended by signal {signal}"),
        },
        Outcome::FilesMissing { files } => format!("did not write {}", files.join(", ")),
        Outcome::LaunchFailed { stage, reason } => {
            let stage = match stage {
                LaunchStage::Prepare => "preparing it",
                LaunchStage::Output => "opening its output files",
                LaunchStage::WorkingDir => "entering its working folder",
                LaunchStage::Execute => "executing it",
            };
            format!("{stage} failed: {reason}")
        }
        Outcome::TimedOut { .. } => "its time was up".to_owned(),
        Outcome::OutOfMemory { used: Some(used) } => {
            format!("used {} of memory, more than it asked for", bytes(*used))
        }
        Outcome::OutOfMemory { used: None } => "used more memory than it asked for".to_owned(),
        Outcome::NodeFailed => "its node failed".to_owned(),
        Outcome::Preempted => "its allocation was preempted".to_owned(),
        Outcome::Cancelled => "ended on request".to_owned(),
        Outcome::Lost => "lost: torc or its allocation ended before its end was known".to_owned(),
    }
}

/// A duration as people write it: `90s`, `1h30m`, `01:30:00`, `PT1H30M`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    match text.parse::<SignedDuration>().map(Duration::try_from) {
        Ok(Ok(duration)) if !duration.is_zero() => Ok(duration),
        _ => Err("expected a time such as 90s, 10m, 1h30m, 01:30:00 or PT1H30M".to_owned()),
    }
}

/// The same, and `0s`.
pub(crate) fn parse_duration_or_zero(text: &str) -> Result<Duration, String> {
    match text.parse::<SignedDuration>() {
        Ok(duration) if duration.is_zero() => Ok(Duration::ZERO),
        _ => parse_duration(text),
    }
}

/// A point in time to come: `18:00` (the next one), a local date and time, or one with its offset.
pub(crate) fn parse_end_time(text: &str) -> Result<Timestamp, String> {
    let expected =
        || "expected a time such as 18:00, 2026-11-22T18:00 or 2026-11-22T18:00:00Z".to_owned();
    let now = Zoned::now();
    let at = if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        instant
    } else if let Ok(civil) = text.parse::<jiff::civil::DateTime>() {
        civil.to_zoned(now.time_zone().clone()).map_err(|error| error.to_string())?.timestamp()
    } else {
        let time = text.parse::<jiff::civil::Time>().map_err(|_| expected())?;
        let today = now.with().time(time).build().map_err(|error| error.to_string())?;
        if today > now {
            today.timestamp()
        } else {
            today.tomorrow().map_err(|error| error.to_string())?.timestamp()
        }
    };
    if at <= now.timestamp() {
        return Err("that is in the past".to_owned());
    }
    u64::try_from(at.as_millisecond()).map(Timestamp).map_err(|_| expected())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_short() {
        for (ms, text) in [
            (0, "0.00 s"),
            (345, "0.34 s"),
            (12_345, "12.3 s"),
            (245_000, "4 min 05 s"),
            (7_380_000, "2 h 03 min"),
        ] {
            assert_eq!(duration_ms(ms), text);
        }
        for (count, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (200 << 30, "200 GiB")]
        {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, seconds) in
            [("90s", 90), ("10m", 600), ("1h30m", 5400), ("01:30:00", 5400), ("PT1H30M", 5400)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "0s", "-5m", "soon", "10"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        assert!(parse_end_time("2001-01-01T00:00:00Z").is_err());
        assert!(parse_end_time("9000-01-01T00:00").is_ok());
        assert!(parse_end_time("23:59").is_ok());
        assert!(parse_end_time("noonish").is_err());
    }
}
