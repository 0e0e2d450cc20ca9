//! A plan in words: the numbers of both choices, and why one of them was made.
//!
//! Owns: every sentence that a plan has. Does not know: how the numbers came about.

use std::fmt;
use std::time::Duration;

use super::choose::Choice;
use super::model::{Layout, Plan, Stage, Strategy};
use crate::spec::units::clock;
use crate::workflow::Trigger;

/// Both choices of a stage in numbers, and why one of them was made.
pub(super) struct Reason<'r> {
    pub(super) choice: &'r Choice,
    pub(super) strategy: Strategy,
    /// Jobs that the choice was made for.
    pub(super) jobs: usize,
    /// Jobs of later stages that run in the same allocation.
    pub(super) folded_jobs: usize,
    pub(super) nodes_in_partition: u32,
    /// There cannot be more nodes at once.
    pub(super) is_all: bool,
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_choice(f)?;
        match self.folded_jobs {
            0 => return Ok(()),
            1 => f.write_str("; 1 later job runs in it, too")?,
            count => write!(f, "; {count} later jobs run in it, too")?,
        }
        f.write_str(", instead of waiting in the queue again")
    }
}

impl Reason<'_> {
    fn write_choice(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Choice { one, many, many_is_chosen } = self.choice;
        let (one, many) = match (one, many) {
            (Some(one), Some(many)) => (one, many),
            (None, Some(many)) => return f.write_str(&many_small(many)),
            (Some(one), None) => {
                let why = match self.jobs {
                    1 => "a single job: there is nothing to split",
                    _ if self.is_all => "more nodes cannot be had at once",
                    _ => "more nodes would not bring the end much nearer",
                };
                return write!(f, "{}; {why}", one_large(one));
            }
            (None, None) => return Ok(()),
        };
        write!(f, "{}; {}; chosen: ", one_large(one), many_small(many))?;
        match (self.strategy, many_is_chosen) {
            (Strategy::Auto, true) => self.why_many(f, one, many),
            (Strategy::Auto, false) => self.why_one(f, one, many),
            (_, true) => f.write_str("many small, as asked"),
            (_, false) => f.write_str("one large, as asked"),
        }
    }

    /// The part of the partition that a layout wants at once, in per cent.
    fn part(&self, layout: &Layout) -> String {
        let part = 100.0 * f64::from(layout.nodes) / f64::from(self.nodes_in_partition.max(1));
        if part < 1.0 { "less than 1 %".to_owned() } else { format!("{part:.0} %") }
    }

    fn why_many(&self, f: &mut fmt::Formatter<'_>, one: &Layout, many: &Layout) -> fmt::Result {
        let are_free = if many.nodes == 1 { "is free" } else { "are free" };
        let (few, all) = (counted(many.nodes, "node"), counted(one.nodes, "node"));
        write!(f, "many small, because each starts as soon as {few} {are_free}")?;
        if one.nodes > many.nodes {
            write!(f, "; {all} at once, {} of the partition, would wait longer", self.part(one))?;
        }
        Ok(())
    }

    fn why_one(&self, f: &mut fmt::Formatter<'_>, one: &Layout, many: &Layout) -> fmt::Result {
        let more = (many.node_hours / one.node_hours - 1.0) * 100.0;
        if more > 10.0 {
            return write!(
                f,
                "one large, because many small ones would use {more:.0} % more node-hours"
            );
        }
        write!(
            f,
            "one large, because {}, {} of the partition, would not wait much longer, and one \
             allocation is less to look after",
            counted(one.nodes, "node"),
            self.part(one)
        )
    }
}

fn one_large(layout: &Layout) -> String {
    let times = match layout.num_allocations {
        1 => String::new(),
        count => format!(", {count} times one after the other"),
    };
    let (nodes, walltime) = (counted(layout.nodes, "node"), clock(layout.walltime));
    format!("one large: {nodes} for {walltime}{times}, {}", used(layout))
}

fn many_small(layout: &Layout) -> String {
    let (count, nodes) = (layout.num_allocations, counted(layout.nodes, "node"));
    let walltime = clock(layout.walltime);
    format!("many small: {count} × {nodes} for {walltime}, {}", used(layout))
}

fn used(layout: &Layout) -> String {
    let idle = (1.0 - layout.utilisation) * 100.0;
    format!("{}, idle {idle:.0} %", node_hours(layout.node_hours))
}

fn node_hours(hours: f64) -> String {
    format!("{hours:.1} node-hours")
}

/// That runtimes are not known.
pub(super) fn unknown_runtimes(jobs: usize, walltime: Duration) -> String {
    let (who, count) = match jobs {
        1 => ("1 job declares".to_owned(), "counts as one hour"),
        jobs => (format!("{jobs} jobs declare"), "count as one hour each"),
    };
    format!(
        "{who} no runtime and {count}, and {} is asked for: give `resource_requirements` with a \
         `runtime`",
        clock(walltime)
    )
}

/// That nothing is known of a partition.
pub(super) fn unknown_partition(scheduler: &str) -> String {
    format!(
        "{scheduler}: the nodes of its partition are not known; they count as large enough for its \
         largest job"
    )
}

/// That some jobs are not planned.
pub(super) fn foreign(jobs: usize) -> String {
    let jobs = counted(u32::try_from(jobs).unwrap_or(u32::MAX), "job");
    format!(
        "{jobs} with a `scheduler` that is not Slurm: only Slurm is planned, so add an action that \
         asks for its allocations"
    )
}

/// A number and a noun that agree.
pub(super) fn counted(count: u32, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

impl fmt::Display for Plan {
    /// One paragraph a stage, then what can never run, notes and totals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, stage) in self.stages.iter().enumerate() {
            write_stage(f, number + 1, stage)?;
        }
        for never in &self.never {
            let more = match never.jobs.len() {
                1 => String::new(),
                count => format!(" and {} more like it", count - 1),
            };
            writeln!(f, "never: {}{more}: {}", never.example, never.reason)?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        if self.stages.is_empty() {
            return f.write_str("nothing to ask for\n");
        }
        writeln!(
            f,
            "in all: {}, {} (at most {:.1}), {} without waiting in the queue",
            counted(self.totals.num_allocations, "allocation"),
            node_hours(self.totals.node_hours),
            self.totals.node_hours_at_most,
            clock(self.totals.makespan)
        )
    }
}

fn write_stage(f: &mut fmt::Formatter<'_>, number: usize, stage: &Stage) -> fmt::Result {
    let Layout { nodes, num_allocations, walltime, makespan, .. } = stage.chosen;
    let count = match num_allocations {
        1 => String::new(),
        count => format!("{count} × "),
    };
    let partition = match &stage.partition {
        Some(partition) => format!(" of `{partition}`"),
        None => String::new(),
    };
    let (size, walltime) = (counted(nodes, "node"), clock(walltime));
    let name = &stage.scheduler.name;
    writeln!(f, "{number}. {name}: {count}{size}{partition} for {walltime}")?;
    writeln!(f, "   when: {}", moment(stage))?;
    let mut examples: Vec<&str> = stage.examples.iter().map(|name| &**name).collect();
    if stage.jobs.len() > examples.len() {
        examples.push("…");
    }
    let count = counted(u32::try_from(stage.jobs.len()).unwrap_or(u32::MAX), "job");
    writeln!(f, "   runs: {count}: {}", examples.join(", "))?;
    writeln!(f, "   done: within {} of its start", clock(makespan))?;
    writeln!(f, "   why: {}", stage.reason)
}

fn moment(stage: &Stage) -> String {
    match &stage.trigger {
        Trigger::OnJobsReady(jobs) => match jobs.len() {
            1 => "on_jobs_ready, its first job".to_owned(),
            count => format!("on_jobs_ready, its first {count} jobs"),
        },
        _ => "on_workflow_start".to_owned(),
    }
}
