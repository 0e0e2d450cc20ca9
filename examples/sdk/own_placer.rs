//! Runs a spec with a placer of its own, for measurements: each job has its nodes to itself, and the longest goes first.
//! The spec has `execution_config: {placer: alone}`. `own_placer SPEC STATE_DIR`

use std::{cmp::Reverse, process::ExitCode};
use torc_core::{ids::*, resources::*, time::Timestamp, traits::*};
use torc_server::{embed, embed::Embedded, placers::Placers};

#[derive(Default)]
struct Alone(Snapshot);

impl Alone {
    fn place(&self, wants: &Request) -> Option<Placement> {
        self.0.allocations.iter().filter(|one| one.serves(wants)).find_map(|one| {
            let idle = one.nodes.iter().filter(|(id, _)| self.0.is_idle(*id));
            let shares = idle.filter_map(|(id, has)| wants.share_of_idle(*id, has));
            let shares = shares.take(wants.nodes as usize).collect();
            let placement = Placement { allocation: one.id, shares };
            (placement.shares.len() == wants.nodes as usize).then_some(placement)
        })
    }
}

impl Placer for Alone {
    fn apply(&mut self, deltas: &[Delta]) {
        deltas.iter().for_each(|delta| self.0.apply(delta));
    }

    fn plan(&mut self, now: Timestamp, limit: usize) -> Plan {
        let (mut plan, mut queue) = (Plan::default(), self.0.waiting.clone());
        let wants = self.0.classes.clone();
        queue.sort_by_key(|one| (Reverse(wants[one.class.0 as usize].runtime), one.job));
        for WaitingJob { job, class } in queue {
            let placement = self.place(&wants[class.0 as usize]);
            if let Some(placement) = placement.filter(|_| plan.starts.len() < limit) {
                plan.starts.push(self.0.start(job, placement, now));
            }
        }
        plan
    }

    fn explain(&self, job: JobId, _: Timestamp) -> Option<Waiting> {
        self.0.is_waiting(job).then_some(Waiting::NotNow(NotNowReason::Queued))
    }

    fn rebuild(&mut self, all: &Snapshot) {
        self.0 = all.clone();
    }
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    if let Some(ended) = embed::run_if_asked() {
        return Ok(ended?);
    }
    let words: Vec<String> = std::env::args().collect();
    let alone = Placers::one("alone", |_| Ok(Box::<Alone>::default()));
    let torc = Embedded::open(words[1].as_ref(), words[2].as_ref())?.with_placers(alone);
    let ended = tokio::runtime::Runtime::new()?.block_on(torc.run_here())?;
    Ok(if ended.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
