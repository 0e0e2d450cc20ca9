//! Problems of a spec as people and programs see them.

use crate::out::errln;
use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;
use torc_core::diagnostics::{Problem, Severity, SourceText, Span};

/// A problem with its position resolved, for programs.
#[derive(Serialize)]
pub(crate) struct ProblemReport {
    code: &'static str,
    severity: Severity,
    message: String,
    file: String,
    line: Option<usize>,
    column: Option<usize>,
    label: String,
    help: Option<String>,
}

/// All the problems of a spec, for programs.
#[derive(Serialize)]
pub(crate) struct Listing {
    problems: Vec<ProblemReport>,
}

pub(crate) fn listing(source: &SourceText, problems: &[Problem]) -> Listing {
    Listing { problems: reports(source, problems) }
}

pub(crate) fn reports(source: &SourceText, problems: &[Problem]) -> Vec<ProblemReport> {
    let report = |problem: &Problem| {
        let position = problem.span.map(|span| source.position(span.start));
        ProblemReport {
            code: problem.code,
            severity: problem.severity,
            message: problem.message.clone(),
            file: source.name.to_string(),
            line: position.map(|(line, _)| line),
            column: position.map(|(_, column)| column),
            label: problem.label.clone(),
            help: problem.help.clone(),
        }
    };
    problems.iter().map(report).collect()
}

/// Prints problems on standard error, each with its place in the text.
pub(crate) fn print(source: &SourceText, problems: &[Problem]) {
    let renderer = Renderer::styled().decor_style(DecorStyle::Ascii);
    for problem in problems {
        errln!("{}\n", render(&renderer, source, problem));
    }
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    if errors > 1 {
        errln!("{errors} errors in {}", source.name);
    }
}

fn render(renderer: &Renderer, source: &SourceText, problem: &Problem) -> String {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(&*problem.message).id(problem.code);
    let mut group = Group::with_title(title);
    let excerpt = problem.span.map(|span| Excerpt::around(source, span));
    if let Some(excerpt) = &excerpt {
        let mut snippet =
            Snippet::source(&*excerpt.text).line_start(excerpt.first_line).annotation(
                AnnotationKind::Primary
                    .span(excerpt.span.start..excerpt.span.end)
                    .label(&*problem.label),
            );
        if excerpt.is_cut {
            // The renderer would count columns in the excerpt.
            let (line, column) = excerpt.position;
            let origin = annotate_snippets::Origin::path(&*source.name);
            group = group.element(origin.line(line).char_column(column));
        } else {
            snippet = snippet.path(&*source.name);
        }
        group = group.element(snippet);
    } else {
        group = group.element(annotate_snippets::Origin::path(&*source.name));
    }
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(&**help));
    }
    renderer.render(&[group])
}

/// The lines that a span touches, cut to what fits a screen: a spec can be one line of ten megabytes.
struct Excerpt {
    text: String,
    first_line: usize,
    span: Span,
    /// Line and column of the span in the whole text.
    position: (usize, usize),
    /// The line begins before the excerpt does.
    is_cut: bool,
}

impl Excerpt {
    const WIDEST: usize = 160;

    fn around(source: &SourceText, span: Span) -> Self {
        let text = &*source.text;
        let start = floor(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let from = floor(text, start.saturating_sub(Self::WIDEST)).max(line_start);
        let to = floor(text, start + Self::WIDEST).min(line_end);
        let end = floor(text, span.end).clamp(start, to);
        let position = source.position(start);
        Self {
            text: text[from..to].trim_end_matches('\r').to_owned(),
            first_line: position.0,
            position,
            is_cut: from > line_start,
            span: (start - from..end.max(start) - from).into(),
        }
    }
}

/// The character boundary at or before a byte.
fn floor(text: &str, byte: usize) -> usize {
    text.floor_char_boundary(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str, span: Span) -> String {
        let source = SourceText { name: "spec.yaml".into(), text: text.into() };
        let problem = Problem::error("spec::unknown-job", "there is no job `b`")
            .at(span, "not a job")
            .help("did you mean `a`?");
        render(&Renderer::plain(), &source, &problem)
    }

    #[test]
    fn the_place_is_shown_with_its_line() {
        let text = "name: x\njobs:\n  - depends_on: [b]\n";
        let start = text.find("b]").unwrap();
        let shown = rendered(text, (start..start + 1).into());
        for part in [
            "error[spec::unknown-job]",
            "spec.yaml:3:18",
            "depends_on: [b]",
            "^ not a job",
            "help: did you mean `a`?",
        ] {
            assert!(shown.contains(part), "{part} in\n{shown}");
        }
    }

    #[test]
    fn the_column_is_that_of_the_file_however_long_the_line() {
        let text = format!("ä{}b", " ".repeat(500));
        let shown = rendered(&text, (text.len() - 1..text.len()).into());
        assert!(shown.contains("spec.yaml:1:502"), "{shown}");
    }

    #[test]
    fn a_line_of_ten_megabytes_and_odd_spans_are_cut() {
        let text = "é".repeat(5_000_000);
        let shown = rendered(&text, (5_000_001..5_000_400).into());
        assert!(shown.len() < 4_000, "{}", shown.len());
        rendered("", (7..9).into());
    }
}
