//! One item of the spec and its combinations of parameters.

use std::collections::HashSet;

use std::borrow::Cow;
use std::cell::Cell;

use super::nothing;
use crate::diagnostics::{Problem, Span};
use crate::spec::Sources;
use crate::spec::model::ParameterUse;
use crate::spec::parameters::{self, Combinations, MOST_ITEMS, Parameter, too_many};
use crate::spec::problems::Problems;
use crate::spec::table;
use crate::spec::template::{Target, Template};
use crate::spec::tree::Text;

/// What items are expanded with.
pub(crate) struct Expansion<'e, 'a> {
    /// The workflow's parameters.
    pub(crate) shared: &'e [Parameter],
    /// The workflow's table.
    pub(crate) shared_table: SharedTable<'e>,
    pub(crate) sources: &'e dyn Sources,
    pub(crate) problems: &'e Problems<'a>,
}

/// The workflow's table.
#[derive(Clone, Copy)]
pub(crate) enum SharedTable<'e> {
    /// It has these columns.
    Columns(&'e [Parameter]),
    /// It could not be read, which was reported.
    Wrong,
    /// The workflow has none.
    Absent,
}

/// Parameters in the order written: each group with its place.
type Groups = Vec<(usize, Vec<Parameter>)>;

impl Expansion<'_, '_> {
    /// The combinations of an item; none when its parameters are wrong.
    pub(crate) fn combinations(&self, uses: Option<Box<ParameterUse>>) -> Combinations {
        let Some(uses) = uses else {
            return Combinations::none();
        };
        let mode = uses.mode;
        let groups = self.groups(*uses).map(|mut groups| {
            groups.sort_by_key(|(place, _)| *place);
            groups.into_iter().map(|(_, group)| group).collect()
        });
        let Some(groups) = groups else {
            return nothing();
        };
        Combinations::new(groups, mode).unwrap_or_else(|problem| {
            self.problems.push(problem);
            nothing()
        })
    }

    /// The parameters of an item; `None` when some are wrong.
    fn groups(&self, uses: ParameterUse) -> Option<Groups> {
        let ParameterUse { own, uses, own_table, shared_table, .. } = uses;
        let written = own.len();
        let own = parameters::read_all(own, self.sources, self.problems);
        let mut complete = own.len() == written;
        let mut groups: Groups = Vec::new();
        if let Some(path) = own_table {
            let columns = table::read(&path, self.sources, self.problems);
            complete &= columns.is_some();
            groups.push((path.span.start, columns.unwrap_or_default()));
        }
        if let Some(span) = shared_table {
            match self.shared_table {
                SharedTable::Columns(columns) => groups.push((span.start, columns.to_vec())),
                SharedTable::Wrong => complete = false,
                SharedTable::Absent => {
                    self.problems.push(no_table(span));
                    complete = false;
                }
            }
        }
        for name in uses {
            match self.shared.iter().find(|shared| shared.name.value == name.value) {
                // The item's own parameter of the same name wins.
                Some(_) if own.iter().any(|own| own.name.value == name.value) => {}
                Some(found) => groups.push((name.span.start, vec![found.clone()])),
                None => {
                    self.unknown_parameter(&name);
                    complete = false;
                }
            }
        }
        groups.extend(own.into_iter().map(|own| (own.name.span.start, vec![own])));
        complete &= self.are_distinct(&groups);
        complete.then_some(groups)
    }

    /// Reports a parameter that the item would get from two sides.
    fn are_distinct(&self, groups: &Groups) -> bool {
        let mut known = HashSet::new();
        let mut all = groups.iter().flat_map(|(_, group)| group);
        let twice = all.find(|parameter| !known.insert(&*parameter.name.value));
        if let Some(parameter) = twice {
            let message = format!("the item has two parameters `{}`", parameter.name.value);
            self.problems.push(
                Problem::error("spec::bad-parameter", message)
                    .at(parameter.name.span, "for the second time")
                    .help("rename one, or use only one of table and parameters"),
            );
        }
        twice.is_none()
    }

    fn unknown_parameter(&self, name: &Text) {
        let known = self.shared.iter().map(|parameter| &*parameter.name.value);
        let help = self
            .problems
            .did_you_mean(&name.value, known)
            .unwrap_or_else(|| "define it in the workflow's `parameters`".into());
        let message = format!("the workflow has no parameter `{}`", name.value);
        self.problems.push(
            Problem::error("spec::unknown-parameter", message)
                .at(name.span, "unknown parameter")
                .help(help),
        );
    }

    /// Adds to a count of items, unless that makes too many.
    pub(crate) fn count(&self, so_far: u64, more: &Combinations, at: Span) -> Option<u64> {
        let count = so_far.checked_add(more.count()).filter(|count| *count <= MOST_ITEMS);
        if count.is_none() {
            self.problems.push(too_many(at));
        }
        count
    }
}

/// A string of an item, its tokens found.
pub(crate) struct Pattern<'t> {
    template: Template<'t>,
    span: Span,
    failed: Cell<bool>,
}

impl<'t> Pattern<'t> {
    /// Finds the tokens of a string; a wrong format is reported.
    pub(crate) fn new(
        text: &'t Text,
        combinations: &Combinations,
        problems: &Problems<'_>,
    ) -> Self {
        Self::of(&text.value, text.span, combinations, problems)
    }

    /// The same for a string that stands somewhere inside a value.
    pub(crate) fn of(
        text: &'t str,
        span: Span,
        combinations: &Combinations,
        problems: &Problems<'_>,
    ) -> Self {
        let failed = Cell::new(false);
        let template = if combinations.is_single() {
            Template::constant(text)
        } else {
            Template::compile(text, |name| combinations.position(name)).unwrap_or_else(|why| {
                problems.push(bad_token(why, span));
                failed.set(true);
                Template::constant(text)
            })
        };
        Self { template, span, failed }
    }

    pub(crate) fn span(&self) -> Span {
        self.span
    }

    /// Whether the text could not be made, which has been reported.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.get()
    }

    /// Whether all combinations give the same text.
    pub(crate) fn is_constant(&self) -> bool {
        self.template.as_constant().is_some()
    }

    /// The text for one combination; a value that does not fit its format is reported.
    pub(crate) fn fill(&self, one: &Combination<'_, '_>, target: Target) -> Cow<'_, str> {
        let value = |axis| one.all.value(one.number, axis);
        self.template.render(value, target).unwrap_or_else(|why| {
            one.problems.push(bad_token(why, self.span));
            self.failed.set(true);
            Cow::Borrowed("")
        })
    }
}

fn bad_token(why: String, span: Span) -> Problem {
    Problem::error("spec::bad-parameter", why)
        .at(span, "in this text")
        .help("write `{name}`, `{name:03d}` or `{name:.2f}`")
}

/// One combination of an item's parameters.
pub(crate) struct Combination<'c, 'a> {
    pub(crate) all: &'c Combinations,
    pub(crate) number: u64,
    pub(crate) problems: &'c Problems<'a>,
}

fn no_table(span: Span) -> Problem {
    Problem::error("spec::unknown-parameter", "the workflow has no `parameters_file`")
        .at(span, "no table to use")
        .help("give the workflow a `parameters_file`, or the item one of its own")
}
