//! Endless streams of small jobs in virtual time: a wide job starts when it was promised (P5).

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use super::super::Policy;
use super::model::{Model, request};
use crate::ids::JobId;
use crate::resources::Request;
use crate::time::Timestamp;
use crate::workflow::SortMethod;

/// A stream that never lets up: whenever a job ends, another is there.
struct Stream {
    model: Model,
    due: BTreeSet<(Timestamp, JobId)>,
    small: Vec<Request>,
    /// Of its declared runtime each job uses one part in so many more.
    haste: u32,
    submitted: usize,
}

impl Stream {
    fn submit(&mut self) {
        let request = &self.small[self.submitted % self.small.len()];
        self.model.submit(request);
        self.submitted += 1;
    }

    fn plan(&mut self) -> Vec<JobId> {
        let started = self.model.plan();
        for job in &started {
            let class = self.model.running[job].class;
            let declared = self.model.classes[class.0 as usize].runtime.unwrap_or_default();
            // Of a group of jobs each takes another part of its runtime.
            let used = declared / (1 + job.0 % self.haste);
            self.due.insert((self.model.now + used, *job));
        }
        started
    }

    fn step(&mut self) -> Vec<JobId> {
        let (due, job) = self.due.pop_first().expect("something runs");
        self.model.now = due;
        self.model.end(job);
        self.submit();
        self.plan()
    }

    /// The longest that any running job may still take by its declared runtime.
    fn longest_remaining(&self) -> Duration {
        let ends = self.model.running.values().map(|step| {
            let declared = self.model.classes[step.class.0 as usize].runtime.unwrap_or_default();
            step.started_at + declared
        });
        ends.max().map_or(Duration::ZERO, |end| end.since(self.model.now))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_wide_job_starts_within_the_longest_remaining_runtime(
        nodes in 2usize..6,
        small in prop::collection::vec((1u32..5, 10u64..900), 1..5),
        wide in (1u32..5, 10u64..900),
        haste in 1u32..4,
        warm_up in 0usize..30,
        sort in prop_oneof![Just(SortMethod::None), Just(SortMethod::GpusRuntimeMemory)],
    ) {
        let mut model = Model::new(sort, Policy::Pack);
        model.allocate(&vec![(4, 8, 0); nodes], None);
        let runtime = |seconds| Some(Duration::from_secs(seconds));
        let small = small.into_iter();
        let small = small.map(|(cpus, secs)| Request { runtime: runtime(secs), ..request(cpus) });
        let mut stream = Stream {
            model,
            due: BTreeSet::new(),
            small: small.collect(),
            haste,
            submitted: 0,
        };
        for _ in 0..nodes * 4 {
            stream.submit();
            stream.plan();
        }
        for _ in 0..warm_up {
            stream.step();
        }
        // Who waits already has the older claim; the stream itself goes on.
        for job in stream.model.waiting.keys().copied().collect::<Vec<_>>() {
            stream.model.withdraw(job);
        }
        let width = wide.0.min(u32::try_from(nodes).unwrap());
        let wide = Request { nodes: width, runtime: runtime(wide.1), ..request(4) };
        let job = stream.model.submit(&wide);
        let latest = stream.model.now + stream.longest_remaining();
        let mut started = stream.plan().contains(&job);
        let mut promised = stream.model.planned.clone();
        while !started {
            let before = promised.expect("a blocked wide job is promised a start");
            prop_assert_eq!(before.job, job);
            stream.submit();
            started = stream.step().contains(&job);
            promised = stream.model.planned.clone();
            if let Some(after) = promised.as_ref().filter(|after| after.job == job) {
                prop_assert!(after.at <= before.at, "a promise was delayed");
            }
        }
        prop_assert!(stream.model.now <= latest);
    }
}
