//! Jobs that wait for each other.

use super::Expanded;
use super::names::Names;
use crate::diagnostics::{Problem, Span};
use crate::spec::problems::{Problems, excerpt};
use crate::workflow::Job;

/// Repairing one cycle often repairs others; more are not worth reading.
const MOST_REPORTED: usize = 10;

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    New,
    Open,
    Done,
}

/// Reports cycles of dependencies, each as a path. Walks without recursion, since a chain can be as
/// long as the workflow.
pub(crate) fn check(jobs: &Expanded<Job>, problems: &Problems<'_>) {
    let mut marks = vec![Mark::New; jobs.items.len()];
    let mut reported = 0;
    for root in 0..jobs.items.len() {
        if marks[root] != Mark::New {
            continue;
        }
        marks[root] = Mark::Open;
        // Each job of the current path, and which of its dependencies is next.
        let mut path = vec![(root, 0)];
        while let Some((job, next)) = path.last_mut() {
            let Some(dependency) = jobs.items[*job].depends_on.get(*next) else {
                marks[*job] = Mark::Done;
                path.pop();
                continue;
            };
            *next += 1;
            let dependency = dependency.index();
            match marks[dependency] {
                Mark::New => {
                    marks[dependency] = Mark::Open;
                    path.push((dependency, 0));
                }
                Mark::Open if reported < MOST_REPORTED => {
                    reported += 1;
                    let start = path.iter().rposition(|(job, _)| *job == dependency).unwrap_or(0);
                    let cycle: Vec<_> = path[start..].iter().map(|(job, _)| *job).collect();
                    problems.push(problem(cycle, &jobs.names));
                }
                Mark::Open | Mark::Done => {}
            }
        }
    }
}

fn problem(mut cycle: Vec<usize>, names: &Names) -> Problem {
    const SHOWN: usize = 8;
    let first = cycle.iter().enumerate().min_by_key(|(_, job)| **job).map_or(0, |(at, _)| at);
    cycle.rotate_left(first);
    let name = |job: &usize| excerpt(&names.all()[*job]);
    let mut shown: Vec<String> = cycle.iter().take(SHOWN).map(name).collect();
    if cycle.len() > SHOWN {
        shown.push(format!("… ({} more)", cycle.len() - SHOWN));
    }
    shown.push(name(&cycle[0]));
    let message = format!("jobs wait for each other: {}", shown.join(" -> "));
    // What was there before the jobs of an addition has no place in its text.
    let mut places = cycle.iter().map(|job| names.place(u32::try_from(*job).unwrap_or(u32::MAX)));
    let place = places.find(|place| *place != Span::default()).unwrap_or_default();
    Problem::error("spec::cycle", message)
        .at(place, "waits for itself in the end")
        .help("an arrow leads to what a job waits for; remove one of them")
}
