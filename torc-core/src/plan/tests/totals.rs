//! Values that were probably meant for all nodes of a job together.

use insta::assert_snapshot;

use super::*;
use crate::plan::{Reach, totals};

/// What is said of a spec, a line each: code, place, message and help.
fn said(spec: &str, reach: &Reach) -> String {
    let loaded = loaded(spec);
    let line = |problem: crate::diagnostics::Problem| {
        let place = problem.span.map_or("nowhere", |span| &spec[span.start..span.end]);
        let help = problem.help.unwrap_or_default();
        format!("{} at {place}: {}; {help}", problem.code, problem.message)
    };
    let found = totals(&loaded.workflow, reach, &loaded.requirement_places);
    found.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

fn planned_on(shapes: &[NodeShape]) -> Reach {
    Reach { planned: shapes.to_vec(), ..Reach::default() }
}

#[test]
fn totals_instead_of_values_per_node() {
    let found = |requirements: &str, shapes: &[NodeShape]| {
        let spec = format!(
            "name: w\nresource_requirements: [{{name: r, {requirements}}}]
jobs: [{{name: a, command: x, resource_requirements: r}}]"
        );
        said(&spec, &planned_on(shapes))
    };
    let shapes = [nodes(9, 64, 256, 4), nodes(9, 32, 512, 0)];
    assert_snapshot!(found("num_nodes: 4, num_cpus: 256, memory: 1t", &shapes), @"plan::totals at r: `r` asks for num_cpus 256 and memory 1t on each of 4 nodes, but no node that it can get has more than 64 and 512g; values are per node: if they are meant for all 4 nodes together, write `num_cpus: 64` and `memory: 256g` (needed by the job `a`)");
    assert_snapshot!(found("num_nodes: 4, num_gpus: 16", &shapes), @"plan::totals at r: `r` asks for num_gpus 16 on each of 4 nodes, but no node that it can get has more than 4; values are per node: if they are meant for all 4 nodes together, write `num_gpus: 4` (needed by the job `a`)");
    for unremarkable in [
        "num_nodes: 4, num_cpus: 64, memory: 256g, num_gpus: 4",
        "num_cpus: 65",
        "num_nodes: 2, num_cpus: 1000",
        "num_nodes: 2, num_cpus: 64, memory: 1024g, num_gpus: 1",
    ] {
        assert_eq!(found(unremarkable, &shapes), "", "{unremarkable}");
    }
    assert_eq!(found("num_nodes: 4, num_cpus: 256", &[]), "");
}

/// A job of four nodes with 12 CPUs each, and two schedulers; the nodes of `small` have 8 CPUs.
#[test]
fn only_nodes_that_a_job_can_get_count() {
    let spec = |job: &str, large: &str| {
        format!(
            "name: w
slurm_defaults: {{account: p}}
slurm_schedulers: [{{name: small, nodes: 4}}, {{name: large, {large}}}]
resource_requirements: [{{name: r, num_nodes: 4, num_cpus: 12}}]
jobs: [{{name: a, command: x, resource_requirements: r{job}}}]"
        )
    };
    let sixteen = [nodes(4, 16, 32, 0)];
    let reach = |large: &[NodeShape], planned: &[NodeShape]| Reach {
        of_schedulers: vec![vec![nodes(4, 8, 32, 0)], large.to_vec()],
        planned: planned.to_vec(),
    };
    let check = |job: &str, large: &str, reach: &Reach, expected: bool| {
        let found = said(&spec(job, large), reach);
        assert_eq!(!found.is_empty(), expected, "{job} {large} {reach:?}: {found}");
    };
    check("", "nodes: 4", &reach(&sixteen, &[]), false);
    check(", scheduler: large", "nodes: 4", &reach(&sixteen, &[]), false);
    check(", scheduler: small", "nodes: 4", &reach(&sixteen, &[]), true);
    check(", scheduler: small", "nodes: 4", &reach(&sixteen, &sixteen), true);
    check("", "nodes: 4, labels: [l]", &reach(&sixteen, &[]), true);
    check("", "nodes: 4, labels: [l]", &reach(&sixteen, &sixteen), false);
    check("", "nodes: 3", &reach(&sixteen, &[]), true);
    // Of some nodes nothing is known.
    check("", "nodes: 4", &reach(&[], &[]), false);
    check("", "nodes: 4, labels: [l]", &reach(&[], &[]), true);
    assert_snapshot!(said(&spec(", scheduler: small", "nodes: 4"), &reach(&sixteen, &[])), @"plan::totals at r: `r` asks for num_cpus 12 on each of 4 nodes, but no node that it can get has more than 8; values are per node: if they are meant for all 4 nodes together, write `num_cpus: 3` (needed by the job `a`)");
}

#[test]
fn each_of_the_requirements_is_told_of_once() {
    let spec = "name: w
resource_requirements:
- {name: r, num_nodes: 2, num_cpus: 12}
- {name: s, num_nodes: 2, num_cpus: 16}
- {name: unused, num_nodes: 2, num_cpus: 16}
jobs:
- {name: fits, command: x}
- {name: a, command: x, resource_requirements: r}
- {name: b, command: x, resource_requirements: r, priority: 1}
- {name: c, command: x, resource_requirements: s}
- {name: d, command: x, resource_requirements: r}";
    let found = said(spec, &planned_on(&[nodes(4, 8, 32, 0)]));
    assert_snapshot!(found, @r"
    plan::totals at r: `r` asks for num_cpus 12 on each of 2 nodes, but no node that it can get has more than 8; values are per node: if they are meant for all 2 nodes together, write `num_cpus: 6` (needed by the job `a`)
    plan::totals at s: `s` asks for num_cpus 16 on each of 2 nodes, but no node that it can get has more than 8; values are per node: if they are meant for all 2 nodes together, write `num_cpus: 8` (needed by the job `c`)
    ");
}
