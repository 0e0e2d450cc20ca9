//! What a person sees when a run has ended.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use torc_core::engine::{Conclusion, JobStatus, Unstarted};
use torc_core::wire::{AttemptReport, WorkflowReport};
use torc_server::session::RunOutcome;

use crate::exit::Exit;
use crate::out::outln;
use crate::render::{cause, causes, duration_ms, idle_part, jobs};

/// Failed jobs shown in full; the rest is counted.
const FAILURES_SHOWN: usize = 10;
/// Causes shown for which jobs did not start.
const CAUSES_SHOWN: usize = 5;
/// Lines of standard error shown of each.
const LINES_SHOWN: usize = 8;
/// Bytes read from the end of a file for them.
const TAIL_BYTES: u64 = 8 * 1024;

/// The exit code that a run ends with.
pub(crate) fn exit(outcome: &RunOutcome, interrupted: bool) -> Exit {
    let completed = outcome.report.counts.get(&JobStatus::Completed).copied().unwrap_or(0);
    let disabled = outcome.report.counts.get(&JobStatus::Disabled).copied().unwrap_or(0);
    if completed + disabled == outcome.report.jobs {
        Exit::Success
    } else if interrupted || outcome.conclusion == Conclusion::Stopped {
        Exit::Interrupted
    } else {
        Exit::JobsFailed
    }
}

/// Prints the summary of a run on standard output.
pub(crate) fn print(outcome: &RunOutcome) {
    let report = &outcome.report;
    outln!("{}", headline(outcome));
    outln!("  jobs:  {}", counts(report));
    if report.available_cpu_ms > 0 {
        outln!("  cores: {}", cores(report));
        outln!("         {}", idle_part(&report.idle_cpu_ms, report.available_cpu_ms));
    }
    if !outcome.failed.is_empty() {
        outln!("  failed:");
    }
    for attempt in outcome.failed.iter().take(FAILURES_SHOWN) {
        print_failure(attempt);
    }
    if let Some(more) = outcome.failed.len().checked_sub(FAILURES_SHOWN).filter(|more| *more > 0) {
        outln!("    and {more} more: `torc results --failed` lists them");
    }
    match outcome.conclusion {
        Conclusion::Stopped => outln!("  `torc restart` goes on from here"),
        Conclusion::Stuck => {
            for line in unstarted(&outcome.unstarted, report.available_cpu_ms > 0) {
                outln!("  {line}");
            }
            outln!("  `torc restart` goes on with what is left");
        }
        Conclusion::Complete if !outcome.failed.is_empty() => {
            outln!("  `torc restart` runs what did not complete again");
        }
        Conclusion::Complete => {}
    }
}

/// Why the rest did not start. `had_nodes`: the run had any.
fn unstarted(groups: &[Unstarted], had_nodes: bool) -> Vec<String> {
    let mut lines = vec![if had_nodes {
        "the rest could not be started in the time there was:".to_owned()
    } else {
        "no nodes were granted, so nothing could be started:".to_owned()
    }];
    lines.extend(groups.iter().take(CAUSES_SHOWN).map(|group| {
        let more = match group.count {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let why = causes::sentence(&group.why, |job| job.to_string(), true);
        format!("  {}{more}: {why}", group.job)
    }));
    if groups.len() > CAUSES_SHOWN {
        lines.push("  and others: `torc jobs --status ready` says why".to_owned());
    }
    lines
}

fn headline(outcome: &RunOutcome) -> String {
    let report = &outcome.report;
    let ended = match outcome.conclusion {
        Conclusion::Complete if exit(outcome, false) == Exit::Success => "completed",
        Conclusion::Complete => "ended",
        Conclusion::Stuck => "ended early",
        Conclusion::Stopped => "was interrupted",
    };
    let run = report.run.map_or_else(String::new, |run| format!(" run {run}"));
    format!(
        "workflow {} `{}`{run} {ended} after {}",
        report.id,
        report.name,
        duration_ms(report.wall_ms)
    )
}

/// "10 completed, 2 failed": only the statuses that occur.
pub(crate) fn counts(report: &WorkflowReport) -> String {
    let parts: Vec<String> = report
        .counts
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(status, count)| format!("{count} {status}"))
        .collect();
    if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
}

pub(crate) fn cores(report: &WorkflowReport) -> String {
    let percent = |part: u64| part * 100 / report.available_cpu_ms.max(1);
    let of_what = match report.nodes.iter().map(|node| node.cpus).sum::<u32>() {
        // The allocations are over.
        #[expect(clippy::cast_precision_loss, reason = "shown to three digits")]
        0 => format!("{:.3} core-hours", report.available_cpu_ms as f64 / 3_600_000.0),
        cpus => format!("the time of {cpus} CPUs"),
    };
    format!(
        "{} % of {of_what} was given to jobs, {} % was used by them",
        percent(report.held_cpu_ms).min(100),
        percent(report.used_cpu_ms),
    )
}

fn print_failure(attempt: &AttemptReport) {
    let code = attempt.return_code.map_or_else(String::new, |code| format!(" code {code}"));
    let cause = attempt.outcome.as_ref().map(cause).filter(|cause| !cause.is_empty());
    let cause = cause.map_or_else(String::new, |cause| format!(" ({cause})"));
    outln!(
        "    {} {}{code}{cause}, attempt {}, after {}",
        attempt.job,
        attempt.status,
        attempt.attempt,
        duration_ms(attempt.wall_ms)
    );
    if let Some(path) = attempt.stderr.as_ref().or(attempt.stdout.as_ref()) {
        outln!("      {path}");
        for line in last_lines(path) {
            outln!("      | {line}");
        }
    }
}

/// The last lines of a file, as text that cannot upset a terminal.
fn last_lines(path: &str) -> Vec<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut tail = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut tail)?;
        Ok(tail)
    };
    let tail = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&tail);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = lines.len().saturating_sub(LINES_SHOWN);
    lines[from..].iter().map(|line| printable(line)).collect()
}

fn printable(line: &str) -> String {
    const WIDEST: usize = 200;
    line.chars()
        .take(WIDEST)
        .map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c })
        .collect()
}

/// Counts of jobs left to do, for `torc status`.
pub(crate) fn left(report: &WorkflowReport) -> String {
    let ended: u32 =
        report.counts.iter().filter(|(status, _)| status.has_ended()).map(|(_, count)| count).sum();
    jobs(report.jobs - ended)
}
