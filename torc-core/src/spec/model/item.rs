//! Jobs, files and user data before their parameters are expanded.

use super::env;
use crate::diagnostics::{Problem, Span};
use crate::spec::decode::Fields;
use crate::spec::fields;
use crate::spec::parameters::Mode;
use crate::spec::problems::Problems;
use crate::spec::tree::{Key, Node, Text};
use crate::workflow::Stdio;

/// Where an item's parameters come from.
#[derive(Debug)]
pub(crate) struct ParameterUse {
    /// Its own, as written.
    pub(crate) own: Vec<(Key, Node)>,
    /// The names of the workflow's that it opts in to.
    pub(crate) uses: Vec<Text>,
    /// The path of a table of its own.
    pub(crate) own_table: Option<Text>,
    /// Where it opts in to the workflow's table.
    pub(crate) shared_table: Option<Span>,
    /// How they combine.
    pub(crate) mode: Mode,
}

/// How a job relates to files and user data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    InputFiles,
    OutputFiles,
    InputUserData,
    OutputUserData,
}

impl Relation {
    pub(crate) const ALL: [Self; 4] =
        [Self::InputFiles, Self::OutputFiles, Self::InputUserData, Self::OutputUserData];

    fn fields(self) -> (&'static str, &'static str) {
        match self {
            Self::InputFiles => ("input_files", "input_files_regexes"),
            Self::OutputFiles => ("output_files", "output_files_regexes"),
            Self::InputUserData => ("input_user_data", "input_user_data_regexes"),
            Self::OutputUserData => ("output_user_data", "output_user_data_regexes"),
        }
    }

    /// Whether it is about files rather than user data.
    pub(crate) fn is_about_files(self) -> bool {
        matches!(self, Self::InputFiles | Self::OutputFiles)
    }
}

/// What a job depends on, reads and writes. Most jobs of a large workflow have none of it.
#[derive(Debug, Default)]
pub(crate) struct Links {
    pub(crate) depends_on: Vec<Text>,
    pub(crate) depends_on_regexes: Vec<Text>,
    /// By [`Relation`]: names and regexes.
    pub(crate) data: [(Vec<Text>, Vec<Text>); 4],
}

impl Links {
    fn is_empty(&self) -> bool {
        self.depends_on.is_empty()
            && self.depends_on_regexes.is_empty()
            && self.data.iter().all(|(names, regexes)| names.is_empty() && regexes.is_empty())
    }
}

/// A job as written.
#[derive(Debug)]
pub(crate) struct JobItem {
    pub(crate) name: Text,
    pub(crate) command: Text,
    pub(crate) invocation_script: Option<Box<Text>>,
    pub(crate) env: Vec<(Key, Text)>,
    pub(crate) priority: i32,
    pub(crate) labels: Vec<Text>,
    pub(crate) requirements: Option<Text>,
    pub(crate) failure_handler: Option<Box<Text>>,
    pub(crate) scheduler: Option<Box<Text>>,
    pub(crate) cancel_on_blocking_job_failure: bool,
    pub(crate) links: Option<Box<Links>>,
    pub(crate) parameters: Option<Box<ParameterUse>>,
    pub(crate) stdio: Option<Stdio>,
}

/// A file as written.
#[derive(Debug)]
pub(crate) struct FileItem {
    pub(crate) name: Text,
    pub(crate) path: Text,
    pub(crate) parameters: Option<Box<ParameterUse>>,
}

/// User data as written.
#[derive(Debug)]
pub(crate) struct DataItem {
    pub(crate) name: Text,
    pub(crate) data: Option<Node>,
    pub(crate) is_ephemeral: bool,
    pub(crate) parameters: Option<Box<ParameterUse>>,
}

/// Reads one entry of `jobs`.
pub(super) fn job(node: Node, problems: &Problems<'_>) -> Option<JobItem> {
    let mut fields = Fields::open(node, &fields::JOB, problems)?;
    let name = fields.required_text("name", "prepare");
    let command = fields.required_text("command", "python3 prepare.py");
    if let Some(command) = command.as_ref().filter(|command| command.value.trim().is_empty()) {
        problems.push(
            Problem::error("spec::bad-command", "a command is empty")
                .at(command.span, "nothing to run")
                .help("write what the job does, or `command: \"true\"` for one that only orders others"),
        );
    }
    let links = links(&mut fields);
    if let Some((key, _)) = fields.take("supports_termination") {
        problems.not_run("`supports_termination`", "is ignored: every job can be ended", key.span);
    }
    let item = JobItem {
        name: Text::new(Box::default(), fields.head()),
        command: Text::new(Box::default(), fields.head()),
        invocation_script: fields.text("invocation_script", "source env.sh").map(Box::new),
        env: env(&mut fields),
        priority: fields
            .whole("priority")
            .and_then(|number| i32::try_from(number.value).ok())
            .unwrap_or(0),
        labels: fields.texts("labels"),
        requirements: fields.text("resource_requirements", "small"),
        failure_handler: fields.text("failure_handler", "retry").map(Box::new),
        scheduler: fields.text("scheduler", "cpu_nodes").map(Box::new),
        cancel_on_blocking_job_failure: fields
            .flag("cancel_on_blocking_job_failure")
            .is_none_or(|flag| flag.value),
        links: (!links.is_empty()).then(|| Box::new(links)),
        parameters: parameter_use(&mut fields),
        stdio: fields.node("stdio").and_then(|node| super::execution::stdio(node, problems)),
    };
    fields.misplaced(
        &["num_cpus", "num_gpus", "num_nodes", "memory", "runtime", "ntasks_per_node"],
        "define a `resource_requirements` entry with it, and name that in the job",
    );
    fields.finish();
    // Without a command it is still known by its name.
    let command = command.unwrap_or_else(|| Text::new(Box::default(), item.command.span));
    Some(JobItem { name: name?, command, ..item })
}

fn links(fields: &mut Fields<'_, '_>) -> Links {
    let mut links = Links {
        depends_on: fields.texts("depends_on"),
        depends_on_regexes: fields.texts("depends_on_regexes"),
        data: Default::default(),
    };
    for relation in Relation::ALL {
        let (names, regexes) = relation.fields();
        links.data[relation as usize] = (fields.texts(names), fields.texts(regexes));
    }
    // Both forms of the name are in use for files.
    for (relation, name) in [
        (Relation::InputFiles, "input_file_regexes"),
        (Relation::OutputFiles, "output_file_regexes"),
    ] {
        links.data[relation as usize].1.append(&mut fields.texts(name));
    }
    links
}

fn parameter_use(fields: &mut Fields<'_, '_>) -> Option<Box<ParameterUse>> {
    let modes = [("product", Mode::Product), ("zip", Mode::Zip)];
    let mode = fields.choice("parameter_mode", &modes).map_or(Mode::Product, |mode| mode.value);
    let own = fields.map("parameters");
    let uses = fields.texts("use_parameters");
    let own_table = fields.text("parameters_file", "runs.csv");
    let shared_table = fields.flag("use_parameters_file").filter(|flag| flag.value);
    if own.is_empty() && uses.is_empty() && own_table.is_none() && shared_table.is_none() {
        return None;
    }
    let shared_table = shared_table.map(|flag| flag.span);
    Some(Box::new(ParameterUse { own, uses, own_table, shared_table, mode }))
}

/// Reads one entry of `files`.
pub(super) fn file(node: Node, problems: &Problems<'_>) -> Option<FileItem> {
    let mut fields = Fields::open(node, &fields::FILE, problems)?;
    let name = fields.required_text("name", "table");
    let path = fields.required_text("path", "data/table.csv");
    let parameters = parameter_use(&mut fields);
    // Both are accepted; neither changes what is run.
    fields.text("identifier", "table-v1");
    if let Some(time) = fields.node("st_mtime")
        && !matches!(time.value, super::Value::Int(_) | super::Value::Float(_))
    {
        let message = "`st_mtime` must be a number of seconds";
        crate::spec::decode::wrong_type(problems, &time, message, "st_mtime: 1700000000");
    }
    let head = fields.head();
    fields.finish();
    // Without a path it is still known by its name.
    let path = path.unwrap_or_else(|| Text::new("-".into(), head));
    Some(FileItem { name: name?, path, parameters })
}

/// Reads one entry of `user_data`.
pub(super) fn user_data(node: Node, problems: &Problems<'_>) -> Option<DataItem> {
    let mut fields = Fields::open(node, &fields::USER_DATA, problems)?;
    let name = fields.required_text("name", "settings");
    let item = DataItem {
        name: Text::new(Box::default(), fields.head()),
        data: fields.node("data"),
        is_ephemeral: fields.flag("is_ephemeral").is_some_and(|flag| flag.value),
        parameters: parameter_use(&mut fields),
    };
    fields.finish();
    Some(DataItem { name: name?, ..item })
}
