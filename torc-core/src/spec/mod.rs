//! The spec: from the bytes of a file to a [`Workflow`], or to everything that is wrong with them.
//!
//! Bytes become a tree with places ([`Format`] by format), variables are replaced, the tree is read
//! strictly into the spec as written, and that is expanded, resolved and checked. Each step reports
//! all it finds. Nothing here reads a file: a [`Sources`] is asked. A format only makes the tree;
//! nothing after it knows which one it was, but for the
//! examples in messages.

mod completion;
mod decode;
mod fields;
mod fragment;
mod json;
mod json_mistake;
mod kdl;
mod launchers;
mod lower;
mod meant;
mod model;
mod parameters;
mod plugin_uses;
mod problems;
mod schema;
mod slurm_cpus;
mod slurm_settings;
mod table;
mod template;
#[cfg(test)]
mod tests;
mod tree;
mod tree_checks;
pub(crate) mod units;
mod variables;
mod write;
mod yaml;
mod yaml_mistake;

pub use completion::{Completed, CompletionError, complete};
pub use fragment::{Fragment, add, check_fragment};
use json::Dialect;
use lower::Lowered;
pub use lower::addition::Ground;
pub use plugin_uses::{PathStep, PluginRole, PluginUse};
use problems::Problems;
pub use schema::schema;
use serde_json::{Map, Value as Json};
pub use slurm_cpus::SHARING;
pub(crate) use slurm_cpus::SharedCpus;
pub(crate) use slurm_settings::SlurmSettings;
use tree::{Node, Value};
pub(crate) use units::slurm_signal;

use crate::diagnostics::{Problem, Span};
use crate::workflow::Workflow;

/// How a spec is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// YAML 1.2, core schema.
    Yaml,
    /// JSON, RFC 8259.
    Json,
    /// JSON5 1.0.0 (json5.org).
    Json5,
    /// KDL 2 (kdl.dev).
    Kdl,
}

impl Format {
    /// All of them, in the order in which they are tried.
    pub const ALL: [Self; 4] = [Self::Yaml, Self::Json, Self::Json5, Self::Kdl];

    /// The format that a file's name tells, if it tells one.
    pub fn from_extension(path: &str) -> Option<Self> {
        let name = path.rsplit('/').next().unwrap_or(path);
        match name.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
            "yaml" | "yml" => Some(Self::Yaml),
            "json" => Some(Self::Json),
            "json5" => Some(Self::Json5),
            "kdl" => Some(Self::Kdl),
            _ => None,
        }
    }
}

/// How the core asks for files that a spec names: lists of parameter values.
pub trait Sources {
    /// The content of a file, looked for relative to the spec's folder, else to the current one.
    ///
    /// # Errors
    /// Why it cannot be read, in a few words that can follow a colon.
    fn read(&self, path: &str) -> Result<Vec<u8>, String>;
}

/// What a spec is read with besides itself.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Whose the workflow is when the spec does not say.
    pub user: Option<&'a str>,
    /// Asked for the files that the spec names.
    pub sources: &'a dyn Sources,
}

/// A spec that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The workflow.
    pub workflow: Workflow,
    /// The spec's `slurm_defaults`, as long options of sbatch. The workflow has them in its Slurm
    /// schedulers; planned ones need them, too.
    pub slurm_defaults: Map<String, Json>,
    /// Where they were written.
    pub slurm_defaults_place: Option<Span>,
    /// Where the names of the resource requirements were written, in the workflow's order. The first ones,
    /// the reserved `default`, are written nowhere: their place is empty.
    pub requirement_places: Vec<Span>,
    /// Where the names of the schedulers were written, in the workflow's order.
    pub scheduler_places: Vec<Span>,
    /// The plugins that it names, and what it sets for them.
    pub plugin_uses: Vec<PluginUse>,
    /// What is legal, but probably not meant or not done, in the order of the source.
    pub warnings: Vec<Problem>,
}

/// A spec that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the spec has {} problems", problems.len())]
pub struct Rejected {
    /// All errors and warnings, in the order of the source. Beyond a thousand they are only counted.
    pub problems: Vec<Problem>,
}

/// Reads a spec. Without a format each is tried.
///
/// Spans are bytes of `source_bytes`.
///
/// # Errors
/// All the problems, when one of them is an error.
pub fn load(
    source_bytes: &[u8],
    format: Option<Format>,
    context: &Context<'_>,
) -> Result<Loaded, Rejected> {
    let source = as_text(source_bytes)?;
    let ReadTree { root, problems, .. } = read_tree(source, format);
    let loaded = root.and_then(|root| lowered(root, context, &problems));
    let problems = problems.finish();
    match loaded {
        Some((lowered, (slurm_defaults, slurm_defaults_place))) => {
            let Lowered { workflow, requirement_places, scheduler_places, plugin_uses, .. } =
                lowered;
            Ok(Loaded {
                workflow,
                slurm_defaults,
                slurm_defaults_place,
                requirement_places,
                scheduler_places,
                plugin_uses,
                warnings: problems,
            })
        }
        None => Err(Rejected { problems }),
    }
}

/// The same spec in another format. Comments, and how things were written beside their values, do not come along.
///
/// Parameters and variables stay as they are, and no file that the spec names is read.
///
/// # Errors
/// The problems of a spec that is not even read as far as that, when one of them is an error.
pub fn convert(
    source_bytes: &[u8],
    format: Option<Format>,
    into: Format,
) -> Result<String, Rejected> {
    let source = as_text(source_bytes)?;
    let ReadTree { root, problems, .. } = read_tree(source, format);
    if let Some(root) = &root {
        let mut replaced = root.clone();
        variables::apply(&mut replaced, &problems);
        model::read(replaced, None, &problems);
    }
    match root {
        Some(root) if !problems.failed() => Ok(write::write(&root, source, into)),
        _ => Err(Rejected { problems: problems.finish() }),
    }
}

fn as_text(source: &[u8]) -> Result<&str, Rejected> {
    std::str::from_utf8(source).map_err(|error| not_utf8(error.valid_up_to()))
}

const BOM: char = '\u{feff}';

/// A source, read as far as its format goes.
struct ReadTree<'a> {
    format: Format,
    root: Option<Node>,
    problems: Problems<'a>,
}

/// The tree of a source in this format, or in the first that it is in.
fn read_tree(source: &str, format: Option<Format>) -> ReadTree<'_> {
    let read = |format| {
        let problems = Problems::of_format(source, format);
        let root = tree(source, format, &problems);
        ReadTree { format, root, problems }
    };
    if let Some(format) = format {
        return read(format);
    }
    let looks = looks_like(source);
    let mut order = Format::ALL;
    if looks == Format::Json5 {
        // Most of JSON is YAML, too, but is meant as JSON.
        order.rotate_left(1);
    }
    let is_map =
        |found: &ReadTree<'_>| matches!(found.root, Some(Node { value: Value::Map(_), .. }));
    order.into_iter().map(read).find(is_map).unwrap_or_else(|| read(looks))
}

/// What a text that is in no format was meant to be, by its first line: of a key, of a brace, or of a node.
fn looks_like(source: &str) -> Format {
    let lines = source.trim_start_matches(BOM).lines().map(str::trim);
    let first = lines.into_iter().find(|line| !line.is_empty() && !line.starts_with(['#', '/']));
    match first {
        Some(line) if line.starts_with(['{', '[']) => Format::Json5,
        Some(line) if !line.contains(": ") && !line.ends_with(':') => Format::Kdl,
        _ => Format::Yaml,
    }
}

/// The tree of a text, as it is written.
fn tree(source: &str, format: Format, problems: &Problems<'_>) -> Option<Node> {
    if let Some(at) = source.find('\0') {
        problems.push(nul_byte(at));
        return None;
    }
    let text = source.strip_prefix(BOM).unwrap_or(source);
    let offset = source.len() - text.len();
    let root = match format {
        Format::Yaml => yaml::parse(text, offset, problems),
        Format::Json => json::parse(text, offset, Dialect::Json, problems),
        Format::Json5 => json::parse(text, offset, Dialect::Json5, problems),
        Format::Kdl => kdl::parse(text, offset, problems),
    };
    match root {
        Some(Node { value: Value::Null, .. }) | None if !problems.failed() => {
            problems.push(empty());
            None
        }
        root => root,
    }
}

/// The options of `slurm_defaults`, and where they were written.
type SlurmDefaults = (Map<String, Json>, Option<Span>);

/// The workflow of a tree, with its `slurm_defaults`.
fn lowered(
    mut root: Node,
    context: &Context<'_>,
    problems: &Problems<'_>,
) -> Option<(Lowered, SlurmDefaults)> {
    variables::apply(&mut root, problems);
    let mut document = model::read(root, context.user, problems)?;
    let slurm_defaults = std::mem::take(&mut document.slurm_defaults);
    let defaults = (slurm_defaults, document.slurm_defaults_place);
    Some((lower::lower(document, context.sources, problems)?, defaults))
}

fn empty() -> Problem {
    Problem::error("spec::empty", "the spec is empty")
        .help("write at least `name: hello` and `jobs: [{name: hello, command: echo hello}]`")
}

/// Some parsers take a NUL for the end of the text, and would drop what follows in silence.
fn nul_byte(at: usize) -> Problem {
    Problem::error("spec::nul-byte", "the spec has a NUL byte, which no text has")
        .at(Span { start: at, end: at + 1 }, "a NUL byte")
        .help("remove it; if the whole file is like that, save it as UTF-8")
}

fn not_utf8(at: usize) -> Rejected {
    let message = format!("the spec is not UTF-8 text: byte {at} does not belong there");
    let problem = Problem::error("spec::not-utf8", message)
        .at(Span { start: at, end: at + 1 }, "not UTF-8")
        .help("save the file as UTF-8");
    Rejected { problems: vec![problem] }
}
