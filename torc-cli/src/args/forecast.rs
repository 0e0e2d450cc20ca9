//! The options of what happens in virtual time: `torc plan` and `torc simulate`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ArgGroup, ValueEnum};
use torc_core::forecast::{QueueWait, WaitPoint};
use torc_core::ids::WorkflowId;
use torc_core::placer::Policy;

use super::{gibibytes, workflow_id};
use crate::render::{parse_duration, parse_duration_or_zero};

#[derive(Debug, ArgGroup)]
pub(crate) struct ForecastArgs {
    /// The spec: a YAML, JSON, JSON5 or KDL file, or `-` for standard input
    #[arg(value_name = "SPEC")]
    pub(crate) spec: PathBuf,
    /// N nodes that are there from the beginning, for all jobs [default: the allocations that the
    /// spec's actions ask for, or one node if they ask for none]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) nodes: Option<u32>,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// How long a job runs that declares no runtime: 90s, 10m, 1h30m, 01:30:00 or PT1H30M [default:
    /// 1h]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) default_runtime: Option<Duration>,
}

/// What each node has.
#[derive(Debug, ArgGroup)]
pub(crate) struct NodeArgs {
    /// CPUs of each node [default: those of this machine]
    #[arg(
        long,
        alias = "cores-per-node",
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=65_535)
    )]
    pub(crate) cpus_per_node: Option<u32>,
    /// Memory of each node, in GiB [default: that of this machine]
    #[arg(long = "memory-per-node-gb", value_name = "GIB", value_parser = gibibytes)]
    pub(crate) memory_per_node: Option<u64>,
    /// GPUs of each node [default: those of this machine]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=1_024))]
    pub(crate) gpus_per_node: Option<u32>,
}

impl NodeArgs {
    /// Whether they say all that a node has.
    pub(crate) fn are_complete(&self) -> bool {
        self.cpus_per_node.is_some()
            && self.memory_per_node.is_some()
            && self.gpus_per_node.is_some()
    }
}

#[derive(Debug, ArgGroup)]
#[command(
    mut_arg("cpus_per_node", |arg| arg.help(
        "CPUs of each node [default: those of this machine; with --swf what the log says of its own]"
    )),
    mut_arg("memory_per_node", |arg| arg.help(
        "Memory of each node, in GiB [default: that of this machine; with --swf memory is not looked at]"
    )),
    mut_arg("gpus_per_node", |arg| arg.conflicts_with("swf"))
)]
pub(crate) struct SimulateArgs {
    /// The spec of a workflow: a YAML, JSON, JSON5 or KDL file, or `-` for standard input
    #[arg(value_name = "SPEC", required_unless_present = "swf", conflicts_with = "swf")]
    pub(crate) spec: Option<PathBuf>,
    /// A log of a machine instead, in the Standard Workload Format
    #[arg(long, value_name = "FILE")]
    pub(crate) swf: Option<PathBuf>,
    /// Nodes [default: as many as the spec's actions ask for; with --swf what the log says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) nodes: Option<u32>,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// How jobs on one node are put onto nodes [default: what the spec's `placer` says, or pack]
    #[arg(long, value_enum)]
    pub(crate) policy: Option<Packing>,
    /// How long an allocation lasts [default: the longest walltime of the spec's schedulers; if it has
    /// none, as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "swf")]
    pub(crate) walltime: Option<Duration>,
    /// How long an allocation waits in the queue: a TIME for all, or by nodes, with straight lines
    /// between: `1=5m,16=2h` [default: nobody waits]
    #[arg(long, value_name = "WAIT", value_parser = queue_wait, conflicts_with = "swf")]
    pub(crate) queue_wait: Option<QueueWait>,
    /// Jobs run as long as the jobs of this workflow did that have the same names
    #[arg(long, value_name = "WORKFLOW", value_parser = workflow_id, conflicts_with = "swf")]
    pub(crate) measured: Option<WorkflowId>,
    /// How long a job runs that declares no runtime: 90s, 10m, 1h30m, 01:30:00 or PT1H30M [default:
    /// 1h]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "swf")]
    pub(crate) default_runtime: Option<Duration>,
    /// Every job of the log declares exactly the runtime that it had, instead of what it asked for
    #[arg(long, conflicts_with = "spec")]
    pub(crate) perfect_estimates: bool,
    /// Write the schedule of the log to this file, a line a job
    #[arg(long, value_name = "FILE", conflicts_with = "spec")]
    pub(crate) csv: Option<PathBuf>,
}

/// How jobs on one node are put onto nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Packing {
    /// Where the least is left over, to keep nodes whole.
    Pack,
    /// Where the most is free.
    Spread,
}

impl Packing {
    pub(crate) fn policy(self) -> Policy {
        match self {
            Self::Pack => Policy::Pack,
            Self::Spread => Policy::Spread,
        }
    }
}

/// A time for all, or pairs of nodes and times.
fn queue_wait(text: &str) -> Result<QueueWait, String> {
    if !text.contains('=') {
        return parse_duration_or_zero(text).map(QueueWait::always);
    }
    let point = |pair: &str| {
        let expected = || format!("expected NODES=TIME, such as 16=2h, not `{pair}`");
        let (nodes, wait) = pair.split_once('=').ok_or_else(expected)?;
        let nodes = nodes.trim().parse().map_err(|_| expected())?;
        let wait = parse_duration_or_zero(wait.trim()).map_err(|_| expected())?;
        Ok::<WaitPoint, String>(WaitPoint { nodes, wait })
    };
    let points = text.split(',').map(point).collect::<Result<_, _>>()?;
    QueueWait::through(points).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(u32, u64)]) {
        let found = queue_wait(text).expect("a model");
        let points: Vec<(u32, u64)> =
            found.points().iter().map(|point| (point.nodes, point.wait.as_secs())).collect();
        assert_eq!(points, expected, "{text}");
    }

    #[test]
    fn waits_are_a_time_or_points() {
        check("30m", &[(1, 1800)]);
        check("0s", &[(1, 0)]);
        check("1=0s, 16=2h,32=03:00:00", &[(1, 0), (16, 7200), (32, 10800)]);
        for (text, error) in [
            ("soon", "expected a time"),
            ("1=5m,", "expected NODES=TIME, such as 16=2h, not ``"),
            ("1=5m,2h", "not `2h`"),
            ("x=5m", "not `x=5m`"),
            ("1=-5m", "not `1=-5m`"),
            ("4294967296=5m", "not `4294967296=5m`"),
            ("0=5m", "at least one node"),
            ("2=5m,1=5m", "1 nodes come after 2"),
        ] {
            let said = queue_wait(text).expect_err(text);
            assert!(said.contains(error), "{text}: {said}");
        }
    }
}
