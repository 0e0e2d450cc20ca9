//! Launchers that need no code: an argument vector with places for what a step is given.
//!
//! Owns: which places there are, and what is put there. Does not know: where a template is written, who executes
//! what comes of it. Invariant: the words of the command arrive as they are, each a word of its own.

use serde::{Deserialize, Serialize};

use crate::diagnostics::nearest;
use crate::traits::{LaunchPlan, Launcher, LauncherError, Step};

/// The file with the names of a step's nodes, a line each, in the order of the nodes.
const HOSTFILE: &str = "hostfile";

/// A place in a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nodes,
    Ntasks,
    NtasksPerNode,
    CpusPerTask,
    Hostlist,
    Hostfile,
    Command,
}

/// The places by their names.
const PLACES: [(&str, Place); 7] = [
    ("nodes", Place::Nodes),
    ("ntasks", Place::Ntasks),
    ("ntasks_per_node", Place::NtasksPerNode),
    ("cpus_per_task", Place::CpusPerTask),
    ("hostlist", Place::Hostlist),
    (HOSTFILE, Place::Hostfile),
    ("command", Place::Command),
];

/// A part of a word.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(Place),
}

/// The words before and after the command of a job, with places for its nodes and ranks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct LaunchTemplate {
    written: Vec<String>,
    words: Vec<Vec<Part>>,
}

/// A template that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It says nowhere where the command goes.
    #[error("a launcher needs the word `{{command}}`, for which each job's command is put")]
    NoCommand,
    /// It begins with the command, or has no word before it.
    #[error("a launcher needs a program before `{{command}}`")]
    NoProgram,
    /// The command is a part of a word.
    #[error(
        "`{{command}}` has to be a word of its own: it stands for the program and its arguments"
    )]
    CommandInWord {
        /// The word's place, from 0.
        word: usize,
    },
    /// The command is there twice.
    #[error("`{{command}}` may be there only once")]
    CommandTwice {
        /// The place of the second word, from 0.
        word: usize,
    },
    /// There is no such place.
    #[error("a launcher knows no `{{{name}}}`")]
    UnknownPlace {
        /// The word's place, from 0.
        word: usize,
        /// What is written between the braces.
        name: String,
        /// What was meant, perhaps.
        nearest: Option<&'static str>,
    },
    /// A brace that belongs to no place.
    #[error("a brace without its other half; write `{{{{` or `}}}}` for a brace itself")]
    LoneBrace {
        /// The word's place, from 0.
        word: usize,
    },
}

impl TemplateError {
    /// The word that is wrong; `None`: it is the whole.
    pub fn word(&self) -> Option<usize> {
        match self {
            Self::NoCommand | Self::NoProgram => None,
            Self::CommandInWord { word }
            | Self::CommandTwice { word }
            | Self::UnknownPlace { word, .. }
            | Self::LoneBrace { word } => Some(*word),
        }
    }

    /// The names of the places that there are.
    pub fn places() -> impl Iterator<Item = &'static str> {
        PLACES.iter().map(|(name, _)| *name)
    }
}

impl TryFrom<Vec<String>> for LaunchTemplate {
    type Error = TemplateError;

    fn try_from(written: Vec<String>) -> Result<Self, TemplateError> {
        let words = written.iter().enumerate().map(|(at, word)| parts(at, word));
        let words: Vec<Vec<Part>> = words.collect::<Result<_, _>>()?;
        let mut commands = Vec::new();
        for (word, parts) in words.iter().enumerate() {
            if parts.contains(&Part::Place(Place::Command)) {
                if parts.len() > 1 {
                    return Err(TemplateError::CommandInWord { word });
                }
                commands.push(word);
            }
        }
        match commands[..] {
            [] => Err(TemplateError::NoCommand),
            [0, ..] => Err(TemplateError::NoProgram),
            [_] => Ok(Self { written, words }),
            [_, word, ..] => Err(TemplateError::CommandTwice { word }),
        }
    }
}

impl From<LaunchTemplate> for Vec<String> {
    fn from(template: LaunchTemplate) -> Self {
        template.written
    }
}

/// Takes a word apart.
fn parts(word: usize, text: &str) -> Result<Vec<Part>, TemplateError> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        plain += &rest[..at];
        let from_brace = &rest[at..];
        if let Some(after) = from_brace.strip_prefix("{{").or(from_brace.strip_prefix("}}")) {
            plain += &from_brace[..1];
            rest = after;
            continue;
        }
        let inside = from_brace.strip_prefix('{').and_then(|inside| inside.split_once('}'));
        let (name, after) = inside.ok_or(TemplateError::LoneBrace { word })?;
        let place = PLACES.iter().find(|(known, _)| *known == name).ok_or_else(|| {
            let nearest = nearest(name, TemplateError::places())
                .and_then(|near| PLACES.iter().find(|(known, _)| *known == near))
                .map(|(known, _)| *known);
            TemplateError::UnknownPlace { word, name: name.to_owned(), nearest }
        })?;
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain)));
        }
        parts.push(Part::Place(place.1));
        rest = after;
    }
    plain += rest;
    if !plain.is_empty() || parts.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(parts)
}

impl Launcher for LaunchTemplate {
    fn name(&self) -> &str {
        self.written.first().map_or("", String::as_str)
    }

    fn plan(&self, step: &Step, folder: &str) -> Result<LaunchPlan, LauncherError> {
        let has = |place| self.words.iter().flatten().any(|part| *part == Part::Place(place));
        let names = || step.nodes.iter().map(|node| &*node.name);
        let mut plan = LaunchPlan::default();
        if has(Place::Hostfile) {
            let lines = names().map(|name| format!("{name}\n")).collect();
            plan.files.push((HOSTFILE.to_owned(), lines));
        }
        let nodes = u64::try_from(step.nodes.len()).unwrap_or(u64::MAX);
        // A job on one node has one rank, whatever its layout says.
        let on_each = if nodes > 1 { step.layout.ntasks_per_node.max(1) } else { 1 };
        let value = |place: Place| match place {
            Place::Nodes => nodes.to_string(),
            Place::Ntasks => nodes.saturating_mul(on_each.into()).to_string(),
            Place::NtasksPerNode => on_each.to_string(),
            Place::CpusPerTask => (step.layout.cpus_per_node / on_each).max(1).to_string(),
            Place::Hostlist => names().collect::<Vec<_>>().join(","),
            Place::Hostfile => format!("{folder}/{HOSTFILE}"),
            Place::Command => String::new(),
        };
        for word in &self.words {
            if word[..] == [Part::Place(Place::Command)] {
                plan.argv.extend(step.argv.iter().cloned());
                continue;
            }
            let part = |part: &Part| match part {
                Part::Text(text) => text.clone(),
                Part::Place(place) => value(*place),
            };
            plan.argv.push(word.iter().map(part).collect());
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(words: &[&str]) -> Result<LaunchTemplate, TemplateError> {
        words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>().try_into()
    }

    fn step(nodes: &[&str], ntasks_per_node: u32) -> Step {
        let nodes: Vec<_> = nodes
            .iter()
            .map(|name| json!({"name": name, "cores": [0, 1, 2, 3], "gpus": [], "memory": 1}))
            .collect();
        serde_json::from_value(json!({
            "id": {"workflow": 1, "job": 1, "run": 1, "attempt": 1}, "job_name": "j",
            "argv": ["bash", "-c", "echo {nodes} \"$HOME\"", ""], "env": {}, "working_dir": "/",
            "stdio": {"stdout": null, "stderr": null, "delete_on_success": false}, "allocation": 1, "nodes": nodes,
            "layout": {"ntasks_per_node": ntasks_per_node, "cpus_per_node": 4, "mpi": null, "cpu_bind": null},
            "limits": {"memory": null, "runtime": null, "termination_signal": 15, "termination_lead": 1},
            "expected_files": []
        }))
        .expect("a step")
    }

    #[test]
    fn places_get_what_the_step_is_given() {
        let words = [
            "run",
            "-N{nodes}",
            "-n",
            "{ntasks}",
            "{ntasks_per_node}x{cpus_per_task}",
            "--hosts={hostlist}",
            "-f",
            "{hostfile}",
            "{{x}}",
            "",
            "{command}",
            "--end",
        ];
        let template = template(&words).expect("it means something");
        let plan = template.plan(&step(&["n1", "n3"], 2), "/f").expect("it can be launched");
        let command = ["bash", "-c", "echo {nodes} \"$HOME\"", ""];
        let before =
            ["run", "-N2", "-n", "4", "2x2", "--hosts=n1,n3", "-f", "/f/hostfile", "{x}", ""];
        assert_eq!(plan.argv, [&before[..], &command, &["--end"]].concat());
        assert_eq!(plan.files, [("hostfile".to_owned(), "n1\nn3\n".to_owned())]);
        let plan = template.plan(&step(&["n1"], 2), "/f").expect("it can be launched");
        assert_eq!(plan.argv[1..5], ["-N1", "-n", "1", "1x4"], "one rank with all CPUs");
        assert_eq!(template.name(), "run");
    }

    #[test]
    fn a_template_is_stored_as_it_was_written() {
        let template = template(&["run", "{command}"]).expect("it means something");
        let text = serde_json::to_string(&template).expect("it can be written");
        assert_eq!(text, r#"["run","{command}"]"#);
        assert_eq!(serde_json::from_str::<LaunchTemplate>(&text).expect("is read"), template);
        assert!(serde_json::from_str::<LaunchTemplate>(r#"["run"]"#).is_err());
    }

    #[test]
    fn what_means_nothing_is_told_with_its_word() {
        #[track_caller]
        fn check(words: &[&str], word: Option<usize>, expected: &str) {
            let error = template(words).expect_err("it means nothing");
            assert_eq!((error.word(), error.to_string()), (word, expected.to_owned()));
        }
        let needs = "a launcher needs the word `{command}`, for which each job's command is put";
        check(&["run"], None, needs);
        check(&[], None, needs);
        check(&["{command}", "x"], None, "a launcher needs a program before `{command}`");
        let whole =
            "`{command}` has to be a word of its own: it stands for the program and its arguments";
        check(&["run", "--{command}"], Some(1), whole);
        check(&["run", "{command}", "{command}"], Some(2), "`{command}` may be there only once");
        check(&["run", "{node}", "{command}"], Some(1), "a launcher knows no `{node}`");
        let brace = "a brace without its other half; write `{{` or `}}` for a brace itself";
        check(&["run", "{nodes", "{command}"], Some(1), brace);
        check(&["run}", "{command}"], Some(0), brace);
        let nearest = |error| match error {
            TemplateError::UnknownPlace { nearest, .. } => nearest,
            _ => None,
        };
        assert_eq!(
            template(&["run", "{node}", "{command}"]).err().and_then(nearest),
            Some("nodes")
        );
    }
}
