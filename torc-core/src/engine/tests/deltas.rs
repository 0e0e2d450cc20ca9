//! What a placer is told, in which order.

use std::sync::{Arc, Mutex};

use super::{Run, node, workflow};
use crate::engine::Event;
use crate::ids::{AllocationId, ClassId, JobId, NodeId};
use crate::resources::{NodeShare, Placement};
use crate::time::Timestamp;
use crate::traits::{Delta, Outcome, Placer, Plan, Snapshot, Start, Waiting, WaitingJob};

/// Keeps what it is told, and starts one job on the first core of the first node.
struct Listener {
    told: Arc<Mutex<Vec<Delta>>>,
    start: Option<JobId>,
    memory: u64,
}

impl Placer for Listener {
    fn apply(&mut self, deltas: &[Delta]) {
        self.told.lock().unwrap().extend_from_slice(deltas);
    }

    fn plan(&mut self, _: Timestamp, _: usize) -> Plan {
        let starts = self.start.take().map(|job| {
            let (node, memory) = (NodeId(0), self.memory);
            let shares = vec![NodeShare { node, cores: [0].into(), gpus: [].into(), memory }];
            Start { job, placement: Placement { allocation: AllocationId(1), shares } }
        });
        Plan { starts: starts.into_iter().collect(), ..Plan::default() }
    }

    fn explain(&self, _: JobId, _: Timestamp) -> Option<Waiting> {
        None
    }

    fn rebuild(&mut self, _: &Snapshot) {}
}

/// Jobs on a node of 1 CPU and 8 GiB; the first is started with so much memory. With what the placer has
/// been told since.
fn begin(jobs: &[(&str, &[&str])], memory: u64) -> (Run, impl Fn(&mut Run) -> Vec<Delta> + use<>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let placer = Listener { told: told.clone(), start: Some(JobId(1)), memory };
    let mut run = Run::begin_with(workflow(jobs), vec![node("n", 1)], Box::new(placer));
    let dispatch = run.engine.dispatch(run.now, usize::MAX);
    run.log.extend(dispatch.started);
    told.lock().unwrap().clear();
    let tell = move |run: &mut Run| {
        run.engine.dispatch(run.now, usize::MAX);
        std::mem::take(&mut *told.lock().unwrap())
    };
    (run, tell)
}

fn ready(job: u32) -> Delta {
    Delta::JobReady(WaitingJob { job: JobId(job), class: ClassId(0) })
}

#[test]
fn each_job_that_begins_or_ceases_to_wait_is_told_once() {
    let (mut run, told) = begin(&[("a", &[]), ("b", &["a"]), ("c", &[])], 8 << 30);
    assert_eq!(told(&mut run), [], "it knows what it started");
    run.exit("a", 0);
    assert_eq!(told(&mut run), [Delta::StepEnded(JobId(1)), ready(2)]);
    run.apply(Event::CancelRequested { at: run.now, jobs: Some(vec![JobId(3)]) });
    assert_eq!(told(&mut run), [Delta::JobWithdrawn(JobId(3))]);
}

#[test]
fn a_job_that_is_tried_again_waits_again() {
    let (mut run, told) = begin(&[("a", &[])], 8 << 30);
    run.end("a", Outcome::Lost);
    assert_eq!(told(&mut run), [Delta::StepEnded(JobId(1)), ready(1)]);
}

#[test]
fn a_start_that_is_not_made_is_given_back() {
    let (mut run, told) = begin(&[("a", &[])], 9 << 30);
    assert_eq!(told(&mut run), [Delta::StepEnded(JobId(1)), ready(1)]);
}
