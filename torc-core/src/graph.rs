//! The graph of a workflow as a picture: boxes and arrows for Graphviz or Mermaid.
//!
//! Owns: which jobs share a box (those that parameters made of one entry), and the colour of it. Knows
//! neither files nor terminals. What comes out is the same for the same jobs, in their order.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use crate::engine::JobStatus;
use crate::ids::JobId;
use crate::workflow::Workflow;

/// A job, as far as a picture goes.
#[derive(Clone, Debug)]
pub struct GraphJob<'a> {
    /// Its name.
    pub name: &'a str,
    /// The entry of the spec that parameters made it of.
    pub family: Option<&'a str>,
    /// Nodes that it needs.
    pub nodes: u32,
    /// Its status; `None`: of a spec.
    pub status: Option<JobStatus>,
    /// The jobs that it depends on.
    pub depends_on: &'a [JobId],
}

/// Boxes, and arrows from each to those that depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    boxes: Vec<GraphBox>,
    /// By boxes: how many dependencies of jobs an arrow stands for.
    arrows: BTreeMap<(usize, usize), u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct GraphBox {
    name: String,
    jobs: u64,
    nodes: u32,
    statuses: BTreeMap<JobStatus, u64>,
}

/// What a box looks like, in the order in which one wins over the others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Failed,
    Running,
    Canceled,
    Ready,
    Waiting,
    Completed,
    Disabled,
}

impl Look {
    const ALL: [Self; 7] = [
        Self::Failed,
        Self::Running,
        Self::Canceled,
        Self::Ready,
        Self::Waiting,
        Self::Completed,
        Self::Disabled,
    ];

    fn of(status: JobStatus) -> Self {
        match status {
            JobStatus::Failed | JobStatus::Terminated | JobStatus::PendingFailed => Self::Failed,
            JobStatus::Running | JobStatus::Pending => Self::Running,
            JobStatus::Canceled => Self::Canceled,
            JobStatus::Ready => Self::Ready,
            JobStatus::Uninitialized | JobStatus::Blocked => Self::Waiting,
            JobStatus::Completed => Self::Completed,
            JobStatus::Disabled => Self::Disabled,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Running => "running",
            Self::Canceled => "canceled",
            Self::Ready => "ready",
            Self::Waiting => "waiting",
            Self::Completed => "completed",
            Self::Disabled => "disabled",
        }
    }

    /// The colour of the box, light enough for black letters.
    fn colour(self) -> &'static str {
        match self {
            Self::Failed => "#f4a6a0",
            Self::Running => "#a9cdf0",
            Self::Canceled => "#f6cf95",
            Self::Ready => "#f5ee9e",
            Self::Waiting => "#ffffff",
            Self::Completed => "#b2dfb0",
            Self::Disabled => "#dddddd",
        }
    }
}

impl Graph {
    /// The graph of jobs in their order. Jobs of one family share a box, unless each is to have its own.
    pub fn new<'a>(jobs: impl Iterator<Item = GraphJob<'a>>, folds: bool) -> Self {
        let mut graph = Self::default();
        let mut of_families: HashMap<&str, usize> = HashMap::new();
        let mut dependencies = Vec::new();
        let mut box_of_job = Vec::new();
        for job in jobs {
            let new = graph.boxes.len();
            let at = match job.family.filter(|_| folds) {
                Some(family) => *of_families.entry(family).or_insert(new),
                None => new,
            };
            if at == new {
                let name = job.family.filter(|_| folds).unwrap_or(job.name).to_owned();
                graph.boxes.push(GraphBox { name, jobs: 0, nodes: 1, statuses: BTreeMap::new() });
            }
            let found = &mut graph.boxes[at];
            found.jobs += 1;
            found.nodes = found.nodes.max(job.nodes);
            if let Some(status) = job.status {
                *found.statuses.entry(status).or_default() += 1;
            }
            box_of_job.push(at);
            dependencies.push(job.depends_on);
        }
        for (at, depends_on) in box_of_job.iter().zip(dependencies) {
            for job in depends_on {
                if let Some(from) = box_of_job.get(job.index()) {
                    *graph.arrows.entry((*from, *at)).or_default() += 1;
                }
            }
        }
        graph
    }

    /// The graph of a workflow that has not run.
    pub fn of_workflow(workflow: &Workflow, folds: bool) -> Self {
        let header = &workflow.header;
        let jobs = workflow.jobs.iter().enumerate().map(|(index, job)| GraphJob {
            name: &job.name,
            family: header.family_of(JobId::from_index(index)).map(|family| &*family.name),
            nodes: header.requirements[job.requirements as usize].nodes,
            status: None,
            depends_on: &job.depends_on,
        });
        Self::new(jobs, folds)
    }

    /// In the language of Graphviz (graphviz.org/doc/info/lang.html).
    pub fn dot(&self, title: &str) -> String {
        let mut text = format!(
            "digraph {{\n  label=\"{}\"\n  rankdir=LR\n  node [shape=box, style=\"rounded,filled\", fillcolor=\"#ffffff\"]\n",
            for_dot(title)
        );
        for (number, found) in self.boxes.iter().enumerate() {
            let lines: Vec<String> = found.lines().iter().map(|line| for_dot(line)).collect();
            let colour = found
                .look()
                .map_or_else(String::new, |look| format!(", fillcolor=\"{}\"", look.colour()));
            // To a string it cannot fail.
            let _ = writeln!(text, "  b{number} [label=\"{}\"{colour}]", lines.join("\\n"));
        }
        for (from, to) in self.arrows.keys() {
            let _ = writeln!(text, "  b{from} -> b{to}");
        }
        text + "}\n"
    }

    /// As a flowchart of Mermaid (mermaid.js.org/syntax/flowchart.html).
    pub fn mermaid(&self, title: &str) -> String {
        let mut text = format!("---\ntitle: \"{}\"\n---\nflowchart LR\n", for_yaml(title));
        for (number, found) in self.boxes.iter().enumerate() {
            let lines: Vec<String> = found.lines().iter().map(|line| for_mermaid(line)).collect();
            let class = found.look().map_or_else(String::new, |look| format!(":::{}", look.word()));
            let _ = writeln!(text, "  b{number}(\"{}\"){class}", lines.join("<br>"));
        }
        for (from, to) in self.arrows.keys() {
            let _ = writeln!(text, "  b{from} --> b{to}");
        }
        let looks: Vec<Look> = self.boxes.iter().filter_map(GraphBox::look).collect();
        for look in Look::ALL.into_iter().filter(|look| looks.contains(look)) {
            let _ = writeln!(text, "  classDef {} fill:{},color:#000", look.word(), look.colour());
        }
        text
    }
}

impl GraphBox {
    /// That of the most urgent of its jobs.
    fn look(&self) -> Option<Look> {
        let looks: Vec<Look> = self.statuses.keys().map(|status| Look::of(*status)).collect();
        Look::ALL.into_iter().find(|look| looks.contains(look))
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.name.clone()];
        match (self.jobs, self.nodes) {
            (1, 1) => {}
            (1, nodes) => lines.push(format!("{nodes} nodes")),
            (jobs, 1) => lines.push(format!("{jobs} jobs")),
            (jobs, nodes) => lines.push(format!("{jobs} jobs, {nodes} nodes each")),
        }
        let count = |(status, count): (&JobStatus, &u64)| match self.jobs {
            1 => status.word().to_owned(),
            _ => format!("{count} {}", status.word()),
        };
        let counts: Vec<String> = self.statuses.iter().map(count).collect();
        if !counts.is_empty() {
            lines.push(counts.join(", "));
        }
        lines
    }
}

/// Text inside the quotes of Graphviz, in which a backslash begins an escape.
fn for_dot(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// Text inside the quotes of Mermaid, which shows it as HTML.
fn for_mermaid(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            // `#35;` is how Mermaid writes a character by its number.
            '#' | '"' | '<' | '>' | '&' | '`' | '\\' => {
                let _ = write!(out, "#{};", u32::from(letter));
            }
            _ => out.push(letter),
        }
    }
    out
}

/// Text inside double quotes of YAML.
fn for_yaml(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn workflow() -> Workflow {
        let text = r#"
name: 'the "w"'
resource_requirements: [{name: wide, num_nodes: 4}]
jobs:
- {name: "prepare_{i}", command: x, parameters: {i: "1:3"}}
- {name: "solve_{i}", command: x, parameters: {i: "1:3"}, depends_on: ["prepare_{i}"], resource_requirements: wide}
- {name: 'a <"b"> #1', command: x, depends_on_regexes: [^solve]}
- {name: "step_1", command: x}
- {name: "alone_{i}", command: x, parameters: {i: [5]}, depends_on: [step_1, 'a <"b"> #1']}
"#;
        struct NoFiles;
        impl crate::spec::Sources for NoFiles {
            fn read(&self, _: &str) -> Result<Vec<u8>, String> {
                Err("there are none".to_owned())
            }
        }
        let context = crate::spec::Context { user: None, sources: &NoFiles };
        crate::spec::load(text.as_bytes(), None, &context).unwrap().workflow
    }

    #[test]
    fn jobs_of_one_entry_share_a_box() {
        let workflow = workflow();
        let graph = Graph::of_workflow(&workflow, true);
        assert_snapshot!(graph.dot(&workflow.header.name));
        assert_snapshot!(graph.mermaid(&workflow.header.name));
    }

    #[test]
    fn each_job_has_a_box_where_it_is_asked_for() {
        let graph = Graph::of_workflow(&workflow(), false);
        assert_eq!(graph.boxes.len(), 9);
        assert_eq!(graph.arrows.len(), 8);
        assert!(graph.dot("w").contains("[label=\"solve_2\\n4 nodes\"]"));
    }

    #[test]
    fn a_box_shows_what_is_most_urgent() {
        use JobStatus::*;
        let check = |statuses: &[JobStatus], look: &str, line: &str| {
            let jobs = statuses.iter().map(|status| GraphJob {
                name: "a_1",
                family: Some("a_{i}"),
                nodes: 1,
                status: Some(*status),
                depends_on: &[],
            });
            let graph = Graph::new(jobs, true);
            let found = &graph.boxes[0];
            assert_eq!(found.look().map(Look::word), Some(look), "{statuses:?}");
            assert_eq!(found.lines().last().map(String::as_str), Some(line), "{statuses:?}");
        };
        check(&[Completed, Completed], "completed", "2 completed");
        check(&[Completed], "completed", "completed");
        check(&[Completed, Running, Blocked], "running", "1 blocked, 1 running, 1 completed");
        check(&[Completed, Running, Failed], "failed", "1 running, 1 completed, 1 failed");
        check(&[Canceled, Ready], "canceled", "1 ready, 1 canceled");
        check(&[Blocked, Completed], "waiting", "1 blocked, 1 completed");
        check(&[Disabled, Completed], "completed", "1 completed, 1 disabled");
        check(&[PendingFailed, Pending], "failed", "1 pending, 1 pending_failed");
        check(&[Terminated, Uninitialized], "failed", "1 uninitialized, 1 terminated");
    }
}
