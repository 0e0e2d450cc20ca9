//! Forecasts that can be worked out by hand.

mod compare;
mod queue;
mod stories;

use std::sync::Arc;
use std::time::Duration;

use super::{Assumptions, Forecast, forecast};
use crate::plan::testing::NoFiles;
use crate::spec::{Context, Format, load};
use crate::traits::NodeShape;
use crate::workflow::Workflow;

const NODE: NodeShape =
    NodeShape { cpus: 4, threads_per_core: 1, memory: 8 << 30, gpus: 0, count: 1 };

pub(super) fn workflow(spec: &str) -> Arc<Workflow> {
    let context = Context { user: None, sources: &NoFiles };
    match load(spec.as_bytes(), Some(Format::Yaml), &context) {
        Ok(loaded) => Arc::new(loaded.workflow),
        Err(rejected) => panic!("{:?}\n{spec}", rejected.problems),
    }
}

/// On nodes of 4 CPUs and 8 GiB; jobs without a runtime take ten minutes. `nodes`: those that are
/// there; `None`: as the actions ask.
fn forecast_of(spec: &str, nodes: Option<u32>) -> Forecast {
    forecast_with(spec, &Assumptions { nodes, ..assumed() })
}

fn assumed() -> Assumptions {
    Assumptions::of(NODE, Duration::from_secs(600))
}

fn forecast_with(spec: &str, assumed: &Assumptions) -> Forecast {
    let found = forecast(&workflow(spec), assumed).expect("there is a forecast");
    assert_eq!(found, forecast(&workflow(spec), assumed).expect("again"), "it is the same again");
    check_sums(&found);
    found
}

/// Nothing is missing in what is said about time and jobs.
fn check_sums(found: &Forecast) {
    let idle = found.idle_cpu_ms.sum();
    assert_eq!(found.held_cpu_ms + idle, found.available_cpu_ms, "every CPU has its cause");
    assert_eq!(found.node_ms * u64::from(NODE.cpus), found.available_cpu_ms, "no time is missing");
    let never: usize = found.never.iter().map(|group| group.jobs).sum();
    assert_eq!(found.completed + never, found.jobs, "every job is accounted for");
}

/// What is said about time, in minutes: the makespan, node-minutes, CPU-minutes held and idle.
fn minutes(found: &Forecast) -> [u64; 4] {
    let makespan = u64::try_from(found.makespan.as_millis()).expect("not that long");
    let idle = found.idle_cpu_ms.sum();
    [makespan, found.node_ms, found.held_cpu_ms, idle].map(|ms| {
        assert_eq!(ms % 60_000, 0, "whole minutes");
        ms / 60_000
    })
}

/// Idle CPU-minutes by cause, those that are not zero.
fn idle(found: &Forecast) -> String {
    use crate::idle::IdleCause;
    let minutes = |cause: &IdleCause| found.idle_cpu_ms.of(*cause) / 60_000;
    let causes = IdleCause::ALL.iter().filter(|cause| found.idle_cpu_ms.of(**cause) > 0);
    let words: Vec<String> =
        causes.map(|cause| format!("{} {}", cause.words(), minutes(cause))).collect();
    words.join(", ")
}

/// Each allocation: its scheduler, nodes, from minute to minute, and its jobs.
fn spans(found: &Forecast) -> Vec<String> {
    let minutes = |ms: u64| {
        let (whole, part) = (ms / 60_000, ms % 60_000 / 1000);
        if part == 0 { whole.to_string() } else { format!("{whole}:{part:02}") }
    };
    let of = |span: &super::Span| {
        let scheduler = span.scheduler.as_deref().unwrap_or("there");
        let (begins, ends) = (minutes(span.begins_ms), minutes(span.ends_ms));
        format!("{scheduler} x{} {begins}-{ends} {} jobs", span.num_nodes, span.jobs)
    };
    found.allocations.iter().map(of).collect()
}

/// Who does not run: how many, the first, and why.
fn never(found: &Forecast) -> Vec<String> {
    let of = |group: &super::NeverRan| {
        format!("{} like {}: {}", group.jobs, group.example, group.reason)
    };
    found.never.iter().map(of).collect()
}

/// Each level: jobs, the widest, its longest runtime in minutes, CPU-minutes.
fn levels(found: &Forecast) -> Vec<[u64; 4]> {
    let of = |level: &super::Level| {
        [
            level.jobs as u64,
            level.widest.into(),
            level.longest.as_secs() / 60,
            level.cpu_ms / 60_000,
        ]
    };
    found.stages.iter().map(of).collect()
}

fn chain(found: &Forecast) -> String {
    let names: Vec<&str> = found.critical_path.jobs.iter().map(|name| &**name).collect();
    format!("{} in {}", names.join(" "), found.critical_path.length.as_secs() / 60)
}
