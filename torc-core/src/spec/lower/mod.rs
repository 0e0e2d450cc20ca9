//! From a spec as written to a workflow that can run: parameters expanded, names resolved, the
//! graph checked.
//!
//! Reports everything it finds; a workflow comes out only when nothing is wrong.

mod action;
pub(crate) mod addition;
mod advice;
mod cycle;
mod data;
mod graph;
mod item;
mod job;
mod names;
mod pattern;
mod substitute;

use super::Sources;
use super::model::Document;
use super::parameters::{self, Combinations};
use super::plugin_uses::{self, PluginUse};
use super::problems::{Problems, excerpt};
use super::table;
use super::tree::Spanned;
use crate::addition::Growth;
use crate::diagnostics::{Problem, Span};
use crate::references::LONGEST_NAME;
use crate::workflow::{FailureHandler, Header, Requirements, SchedulerSettings, Workflow};
use item::{Expansion, SharedTable};
use names::Names;

/// A workflow, and where its jobs come from.
pub(crate) struct Lowered {
    pub(crate) workflow: Workflow,
    /// How many jobs each entry of `jobs` stands for, in their order.
    pub(crate) jobs_of_items: Vec<u32>,
    /// Where the names of the resource requirements were written, in their order.
    pub(crate) requirement_places: Vec<Span>,
    /// Where the names of the schedulers were written, in their order.
    pub(crate) scheduler_places: Vec<Span>,
    /// The plugins that the spec names.
    pub(crate) plugin_uses: Vec<PluginUse>,
}

/// What jobs refer to by name.
struct Named {
    requirements: Vec<Spanned<Requirements>>,
    failure_handlers: Vec<Spanned<FailureHandler>>,
    schedulers: Vec<Spanned<SchedulerSettings>>,
}

impl Named {
    /// The names of requirements, failure handlers and schedulers, at their place in the header.
    fn put_into(self, header: &mut Header, problems: &Problems<'_>) -> (Names, Names, Names) {
        let mut requirement_names =
            Names::new("resource requirement", "spec::unknown-requirements");
        header.requirements.push(Requirements::reserved_default());
        requirement_names.add("default".into(), Span::default(), problems);
        for found in self.requirements {
            // The reserved name has been reported where it was read.
            if &*found.value.name != "default" {
                requirement_names.add(found.value.name.clone(), found.span, problems);
                header.requirements.push(found.value);
            }
        }
        let mut handler_names = Names::new("failure handler", "spec::unknown-handler");
        for found in self.failure_handlers {
            handler_names.add(found.value.name.clone(), found.span, problems);
            header.failure_handlers.push(found.value);
        }
        let mut scheduler_names = Names::new("scheduler", "spec::unknown-scheduler");
        for found in self.schedulers {
            scheduler_names.add(found.value.name.clone(), found.span, problems);
            header.schedulers.push(found.value);
        }
        (requirement_names, handler_names, scheduler_names)
    }
}

/// Makes a workflow of a spec. `None` when a problem went to `problems`.
pub(crate) fn lower(
    document: Document,
    sources: &dyn Sources,
    problems: &Problems<'_>,
) -> Option<Lowered> {
    let plugin_uses = plugin_uses::uses(&document);
    let Document { mut header, requirements, failure_handlers, schedulers, .. } = document;
    let named = Named { requirements, failure_handlers, schedulers };
    let (requirement_names, handler_names, scheduler_names) = named.put_into(&mut header, problems);
    let shared = parameters::read_all(document.parameters, sources, problems);
    let table = document.parameters_file.map(|path| table::read(&path, sources, problems));
    let shared_table = match &table {
        Some(Some(columns)) => SharedTable::Columns(columns),
        Some(None) => SharedTable::Wrong,
        None => SharedTable::Absent,
    };
    let expansion = Expansion { shared: &shared, shared_table, sources, problems };
    let files = data::files(document.files, &expansion);
    let user_data = data::user_data(document.user_data, &expansion);
    header.files = files.items;
    header.user_data = user_data.items;
    let scope = job::Scope {
        requirements: &requirement_names,
        handlers: &handler_names,
        schedulers: &scheduler_names,
        files: (&files.names, &header.files),
        user_data: (&user_data.names, &header.user_data),
        problems,
    };
    if document.is_slurm_mode {
        advice::check_commands(&document.jobs, problems);
    }
    advice::check_ranks(&header.requirements, &requirement_names, problems);
    let is_growing = header.max_dynamic_iterations.is_some();
    let names = Names::new("job", "spec::unknown-job");
    let lowered = job::lower(document.jobs, names, is_growing, &expansion, &scope);
    if lowered.are_given_up() {
        return None;
    }
    let job::Jobs { expanded: mut jobs, counts: jobs_of_items, families, written, .. } = lowered;
    graph::add_implied(&mut jobs.items, &scope, &jobs.names);
    for (name, stdio) in document.stdio_overrides {
        if let Some(index) = jobs.names.resolve(&name.value, name.span, problems) {
            jobs.items[index as usize].stdio = Some(stdio.into());
        }
    }
    let targets = action::Targets {
        jobs: &jobs.names,
        scheduler_names: &scheduler_names,
        schedulers: &header.schedulers,
        is_slurm_mode: document.is_slurm_mode,
    };
    let growth = Growth {
        written: addition::numbered(written, 0),
        action_regexes: addition::action_regexes(&document.actions, is_growing),
        added: Vec::new(),
    };
    let actions: Vec<Span> = document.actions.iter().map(advice::place_of).collect();
    header.actions = action::lower(document.actions, &targets, problems);
    header.families = families;
    header.growth = growth;
    cycle::check(&jobs, problems);
    if problems.failed() {
        return None;
    }
    let places =
        advice::Places { jobs: &jobs.names, schedulers: &scheduler_names, actions: &actions };
    advice::check(&header, &jobs.items, &places, problems);
    plugin_uses::check_unused(&document.plugin_items, &plugin_uses, problems);
    let workflow = Workflow { header, jobs: jobs.items };
    let requirement_places = requirement_names.places().to_vec();
    let scheduler_places = scheduler_names.places().to_vec();
    Some(Lowered { workflow, jobs_of_items, requirement_places, scheduler_places, plugin_uses })
}

/// Expanded items with their names.
pub(crate) struct Expanded<T> {
    pub(crate) items: Vec<T>,
    pub(crate) names: Names,
}

/// The problem with a name, if it cannot be used.
pub(crate) fn bad_name(what: &str, name: &str, span: Span) -> Option<Problem> {
    let why = if name.trim().is_empty() {
        "is empty".to_owned()
    } else if name.contains(|c: char| c.is_control() || reorders_text(c)) {
        format!("has a line break or another control character: `{}`", excerpt(name))
    } else if name.len() > LONGEST_NAME {
        format!("is longer than {LONGEST_NAME} bytes")
    } else {
        return None;
    };
    Some(
        Problem::error("spec::bad-name", format!("the name of {what} {why}"))
            .at(span, "this name")
            .help("write a short name of printable characters"),
    )
}

/// Characters that change the order in which a terminal shows others (Unicode Standard Annex 9).
fn reorders_text(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The problem of a command that no process could be given.
pub(crate) fn nul_byte(span: Span) -> Problem {
    Problem::error("spec::bad-command", "a command cannot hold a NUL byte")
        .at(span, "a NUL byte")
        .help("remove it, or let the command make it with printf '\\0'")
}

/// The combinations of an item that failed to expand: none, so that it adds no more problems.
fn nothing() -> Combinations {
    Combinations::default()
}
