//! Finds out how a step ended whose srun has ended, and puts its files in order.
//!
//! Asks Slurm where the allocation stands only for a step that did not succeed by itself; many such steps
//! share one question. Decides nothing: [`outcome`](super::outcome) does.

use std::sync::Arc;
use std::time::Instant;

use nix::sys::signal::Signal;
use tokio::sync::Mutex;
use torc_core::traits::{Outcome, StepEvent, Usage};

use super::allocation::SlurmAllocation;
use super::books::Conclusion;
use super::outcome::{self, Facts, Standing};
use super::{overrun, steps};
use crate::clock::now;
use crate::keeper::files;

/// By nobody of ours: that has a name of its own.
const KILLED: Outcome = Outcome::Signaled { signal: Signal::SIGKILL as i32 };

/// How a step ended, and which of its nodes have left the allocation.
#[derive(Debug)]
pub(super) struct Concluded {
    pub(super) event: StepEvent,
    pub(super) lost_nodes: Vec<String>,
}

/// An answer, and when it was asked for.
#[derive(Clone, Debug)]
struct Known {
    asked: Instant,
    standing: Standing,
    members: Option<Vec<String>>,
}

/// Where the allocation stands, asked at most once at a time.
#[derive(Debug)]
pub(super) struct Inquiry {
    allocation: SlurmAllocation,
    known: Mutex<Option<Known>>,
}

impl Inquiry {
    /// Nothing is known yet.
    pub(super) fn new(allocation: SlurmAllocation) -> Self {
        Self { allocation, known: Mutex::new(None) }
    }

    /// An answer that was asked for after `since`.
    async fn since(&self, since: Instant) -> Known {
        let mut known = self.known.lock().await;
        match &*known {
            Some(known) if known.asked >= since => known.clone(),
            _ => {
                let asked = Instant::now();
                let (standing, members) = self.allocation.standing(now()).await;
                known.insert(Known { asked, standing, members }).clone()
            }
        }
    }
}

/// How a step ended.
pub(super) async fn conclude(conclusion: Box<Conclusion>, inquiry: Arc<Inquiry>) -> Concluded {
    let id = conclusion.step.id;
    let at = conclusion.at;
    let mut lost_nodes = Vec::new();
    let mut standing = Standing::Lives;
    if outcome::needs_standing(&facts(&conclusion, standing, false)) {
        let known = inquiry.since(Instant::now()).await;
        standing = known.standing;
        if let Some(members) = known.members {
            let names = conclusion.step.nodes.iter().map(|node| node.name.to_string());
            lost_nodes.extend(names.filter(|name| !members.contains(name)));
        }
    }
    if conclusion.srun == Outcome::Lost || matches!(conclusion.srun, Outcome::Signaled { .. }) {
        end_without_srun(&conclusion, &inquiry.allocation).await;
    }
    let has_lost_node = !lost_nodes.is_empty();
    let job = inquiry.allocation.job().to_owned();
    // Looking for files may take a while, and removing them, too.
    let judged =
        tokio::task::spawn_blocking(move || judge(&conclusion, standing, has_lost_node, &job));
    let outcome = judged.await.unwrap_or(Outcome::Lost);
    let event = StepEvent::Ended { step: id, at, outcome, usage: Usage::default() };
    Concluded { event, lost_nodes }
}

fn facts(conclusion: &Conclusion, standing: Standing, has_lost_node: bool) -> Facts<'_> {
    Facts {
        srun: &conclusion.srun,
        evidence: &conclusion.evidence,
        reason: conclusion.reason,
        has_outlived_limit: conclusion.has_outlived_limit,
        standing,
        has_lost_node,
    }
}

fn judge(
    conclusion: &Conclusion,
    standing: Standing,
    has_lost_node: bool,
    slurm_job: &str,
) -> Outcome {
    let step = &conclusion.step;
    let facts = facts(conclusion, standing, has_lost_node);
    let mut outcome =
        outcome::outcome(&facts, || files::missing(&step.working_dir, &step.expected_files));
    if outcome == KILLED
        && let Some(number) = conclusion.evidence.number
        && let Some(used) = overrun::memory_used(&step.stdio, &format!("{slurm_job}.{number}"))
    {
        outcome = Outcome::OutOfMemory { used: Some(used) };
    }
    files::tidy(&step.stdio, &outcome);
    outcome
}

/// A step does not end with its srun when that was killed.
async fn end_without_srun(conclusion: &Conclusion, allocation: &SlurmAllocation) {
    let number = match conclusion.evidence.number {
        Some(number) => Some(number),
        None => {
            let numbers = steps::numbers(allocation).await.unwrap_or_default();
            numbers.get(&conclusion.step.id.to_string()).copied()
        }
    };
    if let Some(number) = number {
        let kill = Signal::SIGKILL as i32;
        steps::signal(allocation, kill, &[number]).await;
    }
}
