//! One item of the spec and its combinations of parameters.

use std::borrow::Cow;
use std::cell::Cell;

use super::nothing;
use crate::diagnostics::{Problem, Span};
use crate::spec::Sources;
use crate::spec::model::ParameterUse;
use crate::spec::parameters::{self, Combinations, MOST_ITEMS, Parameter, too_many};
use crate::spec::problems::Problems;
use crate::spec::template::{Target, Template};
use crate::spec::tree::Text;

/// What items are expanded with.
pub(crate) struct Expansion<'e, 'a> {
    pub(crate) shared: &'e [Parameter],
    pub(crate) sources: &'e dyn Sources,
    pub(crate) problems: &'e Problems<'a>,
}

impl Expansion<'_, '_> {
    /// The combinations of an item; none when its parameters are wrong.
    pub(crate) fn combinations(&self, uses: Option<Box<ParameterUse>>) -> Combinations {
        let Some(uses) = uses else {
            return Combinations::none();
        };
        let ParameterUse { own, uses, uses_come_first, mode } = *uses;
        let written = own.len();
        let own = parameters::read_all(own, self.sources, self.problems);
        let mut complete = own.len() == written;
        let mut parameters = Vec::new();
        for name in uses {
            match self.shared.iter().find(|shared| shared.name.value == name.value) {
                // The item's own parameter of the same name wins.
                Some(found) if own.iter().all(|own| own.name.value != name.value) => {
                    let twice = |known: &Parameter| known.name.value == name.value;
                    if !parameters.iter().any(twice) {
                        parameters.push(found.clone());
                    }
                }
                Some(_) => {}
                None => {
                    self.unknown_parameter(&name);
                    complete = false;
                }
            }
        }
        let place = if uses_come_first { parameters.len() } else { 0 };
        parameters.splice(place..place, own);
        if !complete {
            return nothing();
        }
        Combinations::new(parameters, mode).unwrap_or_else(|problem| {
            self.problems.push(problem);
            nothing()
        })
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
