//! What a schedule was worth, in the figures of the field.
//!
//! Wait and bounded slowdown are those of Feitelson ("Metrics for parallel job scheduling and their
//! convergence", 2001): a job that ran for less than ten seconds counts as if it had run for ten, or
//! a short wait for a shorter job would outweigh everything.

use serde::Serialize;

use super::replay::{Replay, WorkloadJob};
use crate::idle::IdleTime;
use crate::resources::Allocation;
use crate::time::Timestamp;

/// The shortest runtime that a slowdown is related to.
const THRESHOLD_S: f64 = 10.0;

/// How values are spread; percentiles are values that occur (nearest rank).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// Half of the values are not above it.
    pub median: f64,
    /// Nine of ten are not.
    pub p90: f64,
    /// Ninety-nine of a hundred are not.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        values.sort_by(f64::total_cmp);
        let rank = |percent: usize| values[(values.len() * percent).div_ceil(100).max(1) - 1];
        #[expect(clippy::cast_precision_loss, reason = "a mean")]
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Self { mean, median: rank(50), p90: rank(90), p99: rank(99), max: rank(100) }
    }
}

/// The figures of a schedule. Times are in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Jobs that ran.
    pub jobs: usize,
    /// Jobs that could never run on these nodes.
    pub never: usize,
    /// From the first submission to the last end.
    pub makespan_s: f64,
    /// From submission to start.
    pub wait_s: Spread,
    /// Wait and runtime over runtime, bounded; at least 1.
    pub slowdown: Spread,
    /// The part of all CPUs' time from the first submission to the last end that jobs held, from 0 to
    /// 1. A gang holds all of its nodes.
    pub held: f64,
    /// The part that they asked for: less than held where gangs leave CPUs of their nodes idle.
    pub asked: f64,
    /// Jobs that were promised a start before they started.
    pub promised: usize,
    /// Those of them that started later: a job before them ran longer than it had declared, or a job of a
    /// higher priority came.
    pub late: usize,
    /// By how much, of those.
    pub lateness_s: Spread,
    /// What nobody held, in milliseconds of one CPU by cause.
    pub idle: IdleTime,
    /// Decisions of the placer.
    pub decisions: u64,
}

/// The figures of a replay. `processors`: by job, what it asked for.
pub fn figures(
    replay: &Replay,
    workload: &[WorkloadJob],
    allocation: &Allocation,
    processors: impl Iterator<Item = u64>,
) -> Figures {
    let seconds = |from: Timestamp, to: Timestamp| to.since(from).as_secs_f64();
    let ran = || replay.jobs.iter().zip(workload).filter_map(|(at, job)| Some((at.as_ref()?, job)));
    let first = workload.iter().map(|job| job.submitted).min().unwrap_or_default();
    let last = ran().map(|(at, _)| at.ended).max().unwrap_or(first);
    let waits: Vec<f64> = ran().map(|(at, job)| seconds(job.submitted, at.started)).collect();
    let slowdowns = ran().map(|(at, job)| {
        let (response, runtime) = (seconds(job.submitted, at.ended), seconds(at.started, at.ended));
        (response / runtime.max(THRESHOLD_S)).max(1.0)
    });
    let late = ran().filter_map(|(at, _)| {
        let promised = at.promised?;
        (at.started > promised).then(|| seconds(promised, at.started))
    });
    let lateness: Vec<f64> = late.collect();
    let capacity: u64 = allocation.nodes.iter().map(|(_, node)| u64::from(node.cpus())).sum();
    let makespan_s = seconds(first, last);
    #[expect(clippy::cast_precision_loss, reason = "a part of the whole")]
    let part = |cpu_seconds: f64| {
        let all = capacity as f64 * makespan_s;
        if all > 0.0 { cpu_seconds / all } else { 0.0 }
    };
    #[expect(clippy::cast_precision_loss, reason = "a part of the whole")]
    let asked = replay.jobs.iter().zip(processors).filter_map(|(at, processors)| {
        let at = at.as_ref()?;
        Some(seconds(at.started, at.ended) * processors as f64)
    });
    #[expect(clippy::cast_precision_loss, reason = "a part of the whole")]
    let held = ran().map(|(at, _)| seconds(at.started, at.ended) * at.cpus() as f64);
    Figures {
        jobs: waits.len(),
        never: replay.jobs.len() - waits.len(),
        makespan_s,
        wait_s: Spread::of(waits),
        slowdown: Spread::of(slowdowns.collect()),
        held: part(held.sum()),
        asked: part(asked.sum()),
        promised: ran().filter(|(at, _)| at.promised.is_some()).count(),
        late: lateness.len(),
        lateness_s: Spread::of(lateness),
        idle: replay.idle,
        decisions: replay.decisions,
    }
}
