//! Commands that start ranks although torc does, in mode slurm.
//!
//! Looks at items as written, before their parameters are expanded: an item that stands for a
//! hundred thousand jobs is one text.

use crate::diagnostics::{Problem, Span};
use crate::spec::launchers::launcher_in;
use crate::spec::model::JobItem;
use crate::spec::problems::{Problems, excerpt};
use crate::spec::tree::Text;

/// Warns of them; only for a workflow in mode slurm.
pub(crate) fn check_commands(items: &[JobItem], problems: &Problems<'_>) {
    for item in items {
        let name = excerpt(&item.name.value);
        check(&format!("the command of `{name}`"), &item.command, problems);
        if let Some(script) = item.invocation_script.as_deref() {
            check(&format!("the invocation_script of `{name}`"), script, problems);
        }
    }
}

fn check(what: &str, text: &Text, problems: &Problems<'_>) {
    let Some(place) = launcher_in(&text.value) else { return };
    let launcher = excerpt(&text.value[place]);
    let message =
        format!("{what} calls `{launcher}`, but in mode slurm torc itself starts the ranks");
    problems.push(
        Problem::warning("spec::nested-launcher", message)
            .at(place_in_source(text.span, problems), "starts ranks inside a step")
            .help(
                "write only the program: torc runs it with srun on every node of the job, \
                 `ntasks_per_node` ranks on each; with `execution_config: {mode: direct}` \
                 jobs start their ranks themselves",
            ),
    );
}

/// The launcher in the text as written; the first line where escapes hide it.
fn place_in_source(span: Span, problems: &Problems<'_>) -> Span {
    const QUOTES: [char; 2] = ['"', '\''];
    let written = problems.written(span);
    let inner = written.trim_start_matches(QUOTES);
    let offset = span.start + written.len() - inner.len();
    match launcher_in(inner.trim_end_matches(QUOTES)) {
        Some(place) => Span { start: offset + place.start, end: offset + place.end },
        None => {
            let first_line = written.find('\n').unwrap_or(written.len());
            Span { start: span.start, end: span.start + first_line }
        }
    }
}
