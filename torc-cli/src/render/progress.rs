//! What a person sees while a run is under way: a bar on a terminal, plain lines otherwise.

use std::collections::HashSet;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use torc_core::engine::JobStatus;
use torc_core::wire::{AttemptReport, WorkflowReport};
use torc_server::clock::now;
use torc_server::handle::Handle;
use torc_server::session::Running;

use crate::out::errln;
use crate::render::{about, cause, error_word, jobs};

const BAR_EVERY: Duration = Duration::from_millis(200);
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The progress of one run, on standard error.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    ticks: Interval,
    last_line: Instant,
    /// The failures of jobs that were told of.
    failures_told: u32,
    /// Attempts that have ended, and before which there is none that has not: looked at for good.
    attempts_settled: usize,
    /// The steps after these whose failure was told.
    told: HashSet<String>,
}

impl Progress {
    pub(crate) fn begin(running: &Running) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = is_terminal.then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(0).with_style(style)
        });
        let mut ticks = interval(if is_terminal { BAR_EVERY } else { LOOK_EVERY });
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let progress = Self {
            bar,
            ticks,
            last_line: Instant::now(),
            failures_told: 0,
            attempts_settled: 0,
            told: HashSet::new(),
        };
        progress.say(&beginning(running));
        progress
    }

    /// Returns when it is time to look again.
    pub(crate) async fn tick(&mut self) {
        self.ticks.tick().await;
    }

    /// Shows where the run stands.
    pub(crate) async fn show(&mut self, handle: &Handle) {
        let Ok(report) = handle.workflow(None).await else { return };
        let failures = failures(&report);
        if failures > self.failures_told {
            self.failures_told = failures;
            self.tell_failures(handle).await;
        }
        let ended = ended(&report);
        if let Some(bar) = &self.bar {
            bar.set_length(u64::from(report.jobs));
            bar.set_position(u64::from(ended));
            bar.set_message(message(&report));
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            self.say(&format!("{ended} of {} ended; {}", jobs(report.jobs), message(&report)));
        }
    }

    async fn tell_failures(&mut self, handle: &Handle) {
        let Ok(attempts) = handle.attempts(None, self.attempts_settled).await else { return };
        for attempt in &attempts {
            let is_failure = matches!(attempt.status, JobStatus::Failed | JobStatus::Terminated);
            if is_failure && self.told.insert(attempt.step.clone()) {
                self.say(&failure(attempt));
            }
        }
        // A job that runs for hours does not keep later failures from being told.
        let settled = attempts.iter().take_while(|attempt| attempt.ended_at.is_some()).count();
        for attempt in &attempts[..settled] {
            self.told.remove(&attempt.step);
        }
        self.attempts_settled += settled;
    }

    /// Says something above the bar.
    pub(crate) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| errln!("{text}")),
            None => errln!("{text}"),
        }
    }

    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn beginning(running: &Running) -> String {
    let begun = &running.begun;
    let mut text = format!("workflow {}, run {}", running.id, running.run);
    if begun.is_resumed {
        text += ": goes on where it was interrupted";
    }
    if begun.again > 0 {
        text += &format!("; {} that had completed run again", jobs(begun.again));
    }
    if begun.completed > 0 {
        text += &format!("; {} completed before", jobs(begun.completed));
    }
    if begun.lost > 0 {
        text += &format!("; {} lost with the last torc, run again", jobs(begun.lost));
    }
    text
}

fn failure(attempt: &AttemptReport) -> String {
    let code = attempt.return_code.map_or_else(String::new, |code| format!(" with code {code}"));
    let cause = attempt.outcome.as_ref().map(cause).filter(|cause| !cause.is_empty());
    let cause = cause.map_or_else(String::new, |cause| format!(" ({cause})"));
    let log = attempt.stderr.as_ref().or(attempt.stdout.as_ref());
    let log = log.map_or_else(String::new, |log| format!("; see {log}"));
    format!("{} job {} {}{code}{cause}{log}", error_word(), attempt.job, attempt.status)
}

fn ended(report: &WorkflowReport) -> u32 {
    report.counts.iter().filter(|(status, _)| status.has_ended()).map(|(_, count)| count).sum()
}

fn failures(report: &WorkflowReport) -> u32 {
    let of = |status| report.counts.get(&status).copied().unwrap_or(0);
    of(JobStatus::Failed) + of(JobStatus::Terminated)
}

fn message(report: &WorkflowReport) -> String {
    let of = |status| report.counts.get(&status).copied().unwrap_or(0);
    let mut parts = vec![format!("{} running", of(JobStatus::Running) + of(JobStatus::Pending))];
    for (status, word) in [
        (JobStatus::Failed, "failed"),
        (JobStatus::Terminated, "terminated"),
        (JobStatus::Canceled, "canceled"),
    ] {
        if of(status) > 0 {
            parts.push(format!("{} {word}", of(status)));
        }
    }
    if let Some(end) = report.expected_end {
        parts.push(about(end.since(now())));
    }
    if !report.running.is_empty() {
        parts.push(report.running.join(" "));
    }
    parts.join(", ")
}
