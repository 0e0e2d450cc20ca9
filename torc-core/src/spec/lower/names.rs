//! Names of one kind, and the index of each.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::diagnostics::{Problem, Span};
use crate::spec::problems::{Problems, excerpt};

/// The names of the jobs, files, … of a workflow, in their order.
pub(crate) struct Names {
    what: &'static str,
    unknown: &'static str,
    index: HashMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
    places: Vec<Span>,
    /// Some names could not be made; that has been reported.
    incomplete: bool,
}

impl Names {
    /// No names yet of `what`; a reference to none of them has the code `unknown`.
    pub(crate) fn new(what: &'static str, unknown: &'static str) -> Self {
        Self {
            what,
            unknown,
            index: HashMap::new(),
            names: Vec::new(),
            places: Vec::new(),
            incomplete: false,
        }
    }

    pub(crate) fn reserve(&mut self, more: usize) {
        self.index.reserve(more);
        self.names.reserve(more);
        self.places.reserve(more);
    }

    /// The name of the next thing. A repeated one is reported, but has its index.
    pub(crate) fn add(&mut self, name: Arc<str>, span: Span, problems: &Problems<'_>) {
        let index = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        match self.index.entry(name.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(index);
            }
            Entry::Occupied(first) => {
                let first = self.places[*first.get() as usize];
                problems.push(self.duplicate(&name, first, span, problems));
            }
        }
        self.names.push(name);
        self.places.push(span);
    }

    /// A thing whose name could not be made: references to unknown names may mean it.
    pub(crate) fn add_unnamed(&mut self, span: Span) {
        self.names.push(Arc::from(""));
        self.places.push(span);
        self.incomplete = true;
    }

    /// Things that could not be made: references to unknown names may mean one of them.
    pub(crate) fn mark_incomplete(&mut self) {
        self.incomplete = true;
    }

    fn duplicate(&self, name: &str, first: Span, span: Span, problems: &Problems<'_>) -> Problem {
        let what = self.what;
        let help = if first == span {
            "put every parameter into the name, such as `name: run_{i}`".to_owned()
        } else if first == Span::default() {
            "the first is there already; rename one".to_owned()
        } else {
            format!("the first is on line {}; rename one", problems.line(first))
        };
        let message = format!("there are two {what}s named `{}`", excerpt(name));
        Problem::error("spec::duplicate-name", message).at(span, "for the second time").help(help)
    }

    /// All names in order.
    pub(crate) fn all(&self) -> &[Arc<str>] {
        &self.names
    }

    /// Where each of them was written.
    pub(crate) fn places(&self) -> &[Span] {
        &self.places
    }

    /// Where the thing with this index was written.
    pub(crate) fn place(&self, index: u32) -> Span {
        self.places.get(index as usize).copied().unwrap_or_default()
    }

    /// The index of a name.
    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        self.index.get(name).copied()
    }

    /// The index of a name; an unknown one is reported.
    pub(crate) fn resolve(&self, name: &str, span: Span, problems: &Problems<'_>) -> Option<u32> {
        let found = self.find(name);
        if found.is_none() && !self.incomplete {
            let known = self.names.iter().map(|known| &**known);
            let help =
                problems.did_you_mean(name, known).unwrap_or_else(|| self.known_names_or_advice());
            // In a command only the reference is wrong, `${files.input.NAME}`.
            let span = match problems.within(span, &format!(".{name}}}"), 1) {
                found if found == span => span,
                found => Span { end: found.end - 1, ..found },
            };
            let message = format!("there is no {} named `{}`", self.what, excerpt(name));
            problems
                .push(Problem::error(self.unknown, message).at(span, "unknown name").help(help));
        }
        found
    }

    /// A few of the names, as a part of a sentence; `None` when there are none.
    pub(crate) fn some(&self) -> Option<String> {
        const FEW: usize = 3;
        let shown: Vec<_> =
            self.names.iter().take(FEW).map(|name| format!("`{}`", excerpt(name))).collect();
        let more = if self.names.len() > FEW { ", …" } else { "" };
        (!shown.is_empty()).then(|| format!("{}{more}", shown.join(", ")))
    }

    fn known_names_or_advice(&self) -> String {
        const FEW: usize = 8;
        let shown: Vec<_> = self.names.iter().take(FEW).map(|name| excerpt(name)).collect();
        match self.names.len() {
            0 => format!("the workflow has no {}; define one, or remove this", self.what),
            count if count <= FEW => format!("there is: {}", shown.join(", ")),
            _ => format!("define a {} of this name, or correct it", self.what),
        }
    }
}
