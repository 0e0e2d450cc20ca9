//! Warnings about mistakes that are common with Slurm: what is legal, but would wait for ever.
//!
//! Knows the resolved workflow and where its parts were written. Does not know which nodes a cluster
//! has; the planner does. Invariant: it only warns, and it warns once for all jobs that
//! are alike.

mod commands;
mod wording;

use std::collections::HashMap;

pub(crate) use commands::check_commands;

use super::names::Names;
use crate::diagnostics::Span;
use crate::resources::{MemoryRequest, START_UP_GRACE};
use crate::spec::model::{ActionItem, ActionWork};
use crate::spec::problems::Problems;
use crate::spec::{SharedCpus, SlurmSettings};
use crate::workflow::{ActionKind, Header, Job, Requirements};

/// Where the parts of a workflow were written.
pub(crate) struct Places<'p> {
    pub(crate) jobs: &'p Names,
    pub(crate) schedulers: &'p Names,
    /// The places of the actions, in their order.
    pub(crate) actions: &'p [Span],
}

/// What stands for an action: its scheduler, or its moment.
pub(crate) fn place_of(action: &ActionItem) -> Span {
    match &action.work {
        ActionWork::ScheduleNodes { scheduler, .. } => scheduler.span,
        ActionWork::RunCommands(_) => action.moment.span,
    }
}

/// Warns of ranks that are asked for on one node, where a command is started once.
pub(crate) fn check_ranks(requirements: &[Requirements], names: &Names, problems: &Problems<'_>) {
    for (index, needs) in (0_u32..).zip(requirements) {
        if needs.nodes == 1 && needs.ntasks_per_node > 1 {
            problems.push(wording::ranks_on_one_node(needs).at(names.place(index), "one node"));
        }
    }
}

/// Warns of schedulers and jobs that do not come together.
pub(crate) fn check(header: &Header, jobs: &[Job], places: &Places<'_>, problems: &Problems<'_>) {
    if header.schedulers.is_empty() {
        return;
    }
    let slurm = header.schedulers.iter().map(SlurmSettings::of).collect();
    let mut is_started = vec![false; header.schedulers.len()];
    for action in &header.actions {
        if let ActionKind::ScheduleNodes { scheduler, .. } = action.kind {
            is_started[scheduler as usize] = true;
        }
    }
    let advisor = Advisor { header, places, problems, slurm, is_started };
    let groups = groups(jobs);
    for group in &groups {
        advisor.check_group(group);
    }
    advisor.check_actions(&groups);
    advisor.check_walltimes();
}

/// Jobs that are alike for schedulers.
struct Group<'j> {
    requirements: u32,
    pin: Option<u32>,
    labels: &'j [Box<str>],
    /// The index of the first of them.
    first: u32,
    first_name: &'j str,
    count: usize,
}

fn groups(jobs: &[Job]) -> Vec<Group<'_>> {
    let mut known = HashMap::new();
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (index, job) in (0_u32..).zip(jobs) {
        let labels = job.labels.as_deref().unwrap_or_default();
        let group = *known.entry((job.requirements, job.scheduler, labels)).or_insert_with(|| {
            groups.push(Group {
                requirements: job.requirements,
                pin: job.scheduler,
                labels,
                first: index,
                first_name: &job.name,
                count: 0,
            });
            groups.len() - 1
        });
        groups[group].count += 1;
    }
    groups
}

/// What of a job the allocations of a scheduler have too little for.
#[derive(Clone, Copy, Default)]
struct Lacks {
    nodes: bool,
    walltime: bool,
    memory: bool,
    gpus: bool,
    cpus: bool,
    /// It may have too few CPUs, for nobody says how many it has.
    perhaps_cpus: bool,
}

impl Lacks {
    /// The rules are those by which a job is called impossible once the allocation is there. `has_slots`:
    /// an action gives its nodes slots.
    fn of(needs: &Requirements, slurm: &SlurmSettings, has_slots: bool) -> Self {
        let longest = slurm.walltime + START_UP_GRACE;
        let nodes = needs.nodes > slurm.nodes;
        let walltime = needs.runtime.is_some_and(|runtime| runtime > longest);
        if has_slots && needs.nodes == 1 {
            return Self { nodes, walltime, ..Self::default() };
        }
        Self {
            nodes,
            walltime,
            memory: match (needs.memory, slurm.memory) {
                (MemoryRequest::Bytes(needs), Some(has)) => needs > has,
                _ => false,
            },
            gpus: slurm.gpus.is_some_and(|has| needs.gpus > has),
            cpus: matches!(slurm.cpus, Some(SharedCpus::Stated(has)) if needs.cpus > has),
            perhaps_cpus: slurm.cpus == Some(SharedCpus::Unstated) && needs.cpus > 1,
        }
    }

    fn any(self) -> bool {
        let short = self.nodes || self.walltime || self.memory || self.gpus;
        short || self.cpus || self.perhaps_cpus
    }

    fn both(self, other: Self) -> Self {
        Self {
            nodes: self.nodes && other.nodes,
            walltime: self.walltime && other.walltime,
            memory: self.memory && other.memory,
            gpus: self.gpus && other.gpus,
            cpus: self.cpus && other.cpus,
            perhaps_cpus: self.perhaps_cpus && other.perhaps_cpus,
        }
    }
}

struct Advisor<'p, 'a> {
    header: &'p Header,
    places: &'p Places<'p>,
    problems: &'p Problems<'a>,
    /// By scheduler; `None` for one that is not Slurm, of which nothing is known.
    slurm: Vec<Option<SlurmSettings>>,
    /// By scheduler: an action asks for its allocations.
    is_started: Vec<bool>,
}

impl Advisor<'_, '_> {
    /// Whether a job of the group may run in allocations of the scheduler, by pin and labels.
    fn may_serve(&self, scheduler: usize, group: &Group<'_>) -> bool {
        if group.pin.is_some_and(|pin| pin as usize != scheduler) {
            return false;
        }
        match &self.slurm[scheduler] {
            None => true,
            Some(slurm) if group.labels.is_empty() => slurm.labels.is_empty(),
            Some(slurm) => group.labels.iter().all(|label| slurm.labels.contains(label)),
        }
    }

    fn check_group(&self, group: &Group<'_>) {
        let mut serving: Vec<usize> =
            (0..self.slurm.len()).filter(|index| self.may_serve(*index, group)).collect();
        // One that is never started helps nobody, and is told of by itself.
        if serving.iter().any(|index| self.is_started[*index]) {
            serving.retain(|index| self.is_started[*index]);
        }
        let known: Vec<(&str, &SlurmSettings)> = serving
            .iter()
            .filter_map(|index| {
                Some((&*self.header.schedulers[*index].name, self.slurm[*index].as_ref()?))
            })
            .collect();
        if serving.is_empty() {
            let place = self.places.jobs.place(group.first);
            self.problems.push(wording::unserved(group).at(place, "would never start"));
        } else if known.len() == serving.len() {
            let needs = &self.header.requirements[group.requirements as usize];
            let has_slots =
                |name: &str| self.header.slots_under(name).last().is_some_and(Option::is_some);
            let lacks: Vec<Lacks> = known
                .iter()
                .map(|(name, slurm)| Lacks::of(needs, slurm, has_slots(name)))
                .collect();
            if lacks.iter().all(|lacks| lacks.any()) {
                let common = lacks.iter().copied().reduce(Lacks::both).unwrap_or_default();
                let problem = wording::unfit(group, needs, &known, common);
                let may_start = lacks.iter().any(|lacks| lacks.perhaps_cpus);
                let label = if may_start { "may never start" } else { "would never start" };
                self.problems.push(problem.at(self.places.jobs.place(group.first), label));
            }
        }
    }

    /// In allocations that are over before they have begun, nothing gets any time.
    fn check_walltimes(&self) {
        let execution = &self.header.execution;
        let margin = execution.stop_margin(execution.mode.may_have_sruns());
        for (index, slurm) in (0_u32..).zip(&self.slurm) {
            if slurm.as_ref().is_some_and(|slurm| slurm.walltime <= margin) {
                let name = &self.header.schedulers[index as usize].name;
                let problem = wording::no_time_left(name, margin);
                let place = self.places.schedulers.place(index);
                self.problems.push(problem.at(place, "leaves no time"));
            }
        }
    }

    fn check_actions(&self, groups: &[Group<'_>]) {
        // Jobs that no scheduler serves have been told of; that others serve nobody follows from it.
        let all = 0..self.slurm.len();
        let is_served = |group| all.clone().any(|index| self.may_serve(index, group));
        let all_are_served = groups.iter().all(is_served);
        for (action, place) in self.header.actions.iter().zip(self.places.actions) {
            let ActionKind::ScheduleNodes { scheduler, .. } = action.kind else { continue };
            let index = scheduler as usize;
            if all_are_served && !groups.iter().any(|group| self.may_serve(index, group)) {
                let problem = wording::serves_nobody(&self.header.schedulers[index].name);
                self.problems.push(problem.at(*place, "serves no job"));
            }
        }
        let place = |scheduler| self.places.schedulers.place(scheduler);
        if !self.is_started.contains(&true) {
            let problem = wording::nothing_scheduled(&self.header.schedulers[0].name);
            self.problems.push(problem.at(place(0), "never started"));
            return;
        }
        for (index, scheduler) in (0_u32..).zip(&self.header.schedulers) {
            if !self.is_started[index as usize] {
                let problem = wording::never_started(&scheduler.name);
                self.problems.push(problem.at(place(index), "never started"));
            }
        }
    }
}
