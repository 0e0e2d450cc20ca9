//! The queue beside a plain list of its classes: a search passes over none that is wanted.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::amounts::Amounts;
use super::super::queue::{Least, Queue};
use super::model::request;
use crate::ids::{ClassId, JobId};
use crate::resources::Request;
use crate::workflow::SortMethod;

const CLASSES: u32 = 8;

#[derive(Clone, Copy, Debug)]
enum Change {
    Insert(JobId, ClassId),
    Remove(JobId),
    SetFresh(ClassId, bool),
    SetUnpromisable(ClassId),
    ForgetUnpromisable,
}

fn changes() -> impl Strategy<Value = Change> {
    let job = || (1u32..20).prop_map(JobId);
    let class = || (0..CLASSES).prop_map(ClassId);
    prop_oneof![
        4 => (job(), class()).prop_map(|(job, class)| Change::Insert(job, class)),
        2 => job().prop_map(Change::Remove),
        2 => (class(), any::<bool>()).prop_map(|(class, fresh)| Change::SetFresh(class, fresh)),
        2 => class().prop_map(Change::SetUnpromisable),
        1 => Just(Change::ForgetUnpromisable),
    ]
}

/// What the queue should know of a class.
#[derive(Clone, Debug)]
struct Listed {
    request: Request,
    jobs: BTreeSet<JobId>,
    is_fresh: bool,
    is_promisable: bool,
}

fn take_out(list: &mut [Listed], job: JobId) {
    for listed in list {
        listed.jobs.remove(&job);
    }
}

fn change(queue: &mut Queue, list: &mut [Listed], change: Change) {
    match change {
        Change::Insert(job, class) => {
            queue.insert(job, class);
            let listed = &list[class.0 as usize];
            if listed.jobs.contains(&job) {
                return;
            }
            take_out(list, job);
            let listed = &mut list[class.0 as usize];
            listed.is_fresh |= listed.jobs.is_empty();
            listed.jobs.insert(job);
        }
        Change::Remove(job) => {
            queue.remove(job);
            take_out(list, job);
        }
        Change::SetFresh(class, fresh) => {
            queue.set_fresh(class, fresh);
            list[class.0 as usize].is_fresh = fresh;
        }
        Change::SetUnpromisable(class) => {
            queue.set_unpromisable(class);
            list[class.0 as usize].is_promisable = false;
        }
        Change::ForgetUnpromisable => {
            queue.forget_unpromisable();
            list.iter_mut().for_each(|listed| listed.is_promisable = true);
        }
    }
}

/// All classes that a search finds one after the other, each with its lowest job.
fn found(queue: &Queue, may: impl Fn(&Least) -> bool) -> Vec<(ClassId, JobId)> {
    let mut last = None;
    let next = || {
        last = queue.next(last, &may);
        last.map(|key| (key.class, key.job))
    };
    std::iter::from_fn(next).collect()
}

/// The same in the list.
fn wanted(list: &[Listed], may: impl Fn(&Listed) -> bool) -> Vec<(ClassId, JobId)> {
    let listed = list.iter().zip(0..).filter(|(listed, _)| may(listed));
    let mut wanted: Vec<_> = listed
        .filter_map(|(listed, class)| {
            let first = *listed.jobs.first()?;
            Some((Reverse(listed.request.priority), first, ClassId(class)))
        })
        .collect();
    wanted.sort_unstable();
    wanted.into_iter().map(|(_, job, class)| (class, job)).collect()
}

proptest! {
    #[test]
    fn a_search_finds_what_looking_at_every_class_finds(
        kinds in prop::collection::vec((0i32..2, 1u32..4, 1u32..3), CLASSES as usize),
        happened in prop::collection::vec(changes(), 0..40),
        cpus in 1u32..4,
        count in 1u32..3,
    ) {
        let mut queue = Queue::new(SortMethod::None);
        let mut list = Vec::new();
        for (priority, cpus, nodes) in kinds {
            let request = Request { priority, nodes, ..request(cpus) };
            queue.add_class(&request);
            let jobs = BTreeSet::new();
            list.push(Listed { request, jobs, is_fresh: false, is_promisable: true });
        }
        for what in happened {
            change(&mut queue, &mut list, what);
            let promisable = found(&queue, |least| least.promisable);
            prop_assert_eq!(promisable, wanted(&list, |listed| listed.is_promisable));
            let fresh = found(&queue, |least| least.fresh);
            prop_assert_eq!(fresh, wanted(&list, |listed| listed.is_fresh));
            let room = Amounts { cpus, ..Amounts::default() };
            let small = found(&queue, |least| room.covers(least.single));
            let is_small =
                |listed: &Listed| listed.request.nodes == 1 && listed.request.cpus <= cpus;
            prop_assert_eq!(small, wanted(&list, is_small));
            let narrow = found(&queue, |least| least.gang_nodes <= count);
            let is_narrow =
                |listed: &Listed| listed.request.nodes > 1 && listed.request.nodes <= count;
            prop_assert_eq!(narrow, wanted(&list, is_narrow));
        }
    }
}
