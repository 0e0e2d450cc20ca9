//! `variables`: names that stand for literals everywhere in a spec, replaced once, before anything
//! else is read.
//!
//! Knows which strings belong to an item with parameters of its own, since their tokens stay for
//! the expansion. Once a spec has variables, a token that nothing defines is an error.

use super::parameters::scalar;
use super::problems::{Problems, excerpt};
use super::template::{
    Target, Template, Value as Filled, is_identifier, right_name, written_tokens,
};
use super::tree::{Node, Value};
use crate::diagnostics::{Problem, Span};

/// Replaces the variables of a spec, and removes their definitions.
pub(crate) fn apply(root: &mut Node, problems: &Problems<'_>) {
    let Value::Map(entries) = &mut root.value else {
        return;
    };
    let Some(index) = entries.iter().position(|(key, _)| &*key.value == "variables") else {
        return;
    };
    let (_, definitions) = entries.remove(index);
    let shared = parameter_names(root);
    let Some(known) = read(&definitions, &shared, problems) else {
        return;
    };
    let walk = Walk { known: known.iter().collect(), problems };
    let Value::Map(entries) = &mut root.value else {
        return;
    };
    for (key, node) in entries {
        match (&*key.value, &mut node.value) {
            ("jobs" | "files" | "user_data", Value::Seq(items)) => {
                for item in items {
                    walk.item(item, &shared);
                }
            }
            ("execution_config", Value::Map(settings)) => {
                for (key, node) in settings {
                    // A launcher's tokens are the launcher's.
                    if &*key.value != "launcher" {
                        walk.node(node, Some(&[]));
                    }
                }
            }
            _ => walk.node(node, Some(&[])),
        }
    }
}

struct Variable {
    name: Box<str>,
    value: Box<str>,
}

/// The definitions; `None` when there are none.
fn read(definitions: &Node, shared: &[Box<str>], problems: &Problems<'_>) -> Option<Vec<Variable>> {
    let entries = match &definitions.value {
        Value::Null => return None,
        Value::Map(entries) => entries,
        _ => {
            let message = "`variables` must be a map";
            super::decode::wrong_type(problems, definitions, message, "variables: {name: value}");
            return None;
        }
    };
    let mut known = Vec::new();
    for (key, node) in entries {
        let name = &key.value;
        if matches!(node.value, Value::Null) {
            continue;
        }
        if !is_identifier(name) {
            let message = format!("`{}` cannot be a variable's name", excerpt(name));
            problems.push(
                Problem::error("spec::bad-variable", message)
                    .at(key.span, "not an identifier")
                    .help(right_name(name)),
            );
        } else if shared.contains(name) {
            problems.push(clash(name, key.span));
        } else {
            match scalar(node, problems) {
                Ok(value) => known.push(Variable { name: name.clone(), value }),
                Err(problem) => problems.push(problem.help("a variable is one text or number")),
            }
        }
    }
    Some(known)
}

fn clash(name: &str, span: Span) -> Problem {
    Problem::error("spec::variable-clash", format!("`{name}` is a variable and a parameter"))
        .at(span, "defined here too")
        .help("rename one of the two")
}

/// The names of an item's own parameters, or of the workflow's.
fn parameter_names(node: &Node) -> Vec<Box<str>> {
    match node.get("parameters").map(|parameters| &parameters.value) {
        Some(Value::Map(entries)) => entries.iter().map(|(key, _)| key.value.clone()).collect(),
        _ => Vec::new(),
    }
}

/// The parameters that tokens may name; `None` when they are not known.
type Known<'k> = Option<&'k [Box<str>]>;

struct Walk<'w, 'a> {
    known: Vec<&'w Variable>,
    problems: &'w Problems<'a>,
}

impl Walk<'_, '_> {
    fn item(&self, item: &mut Node, shared: &[Box<str>]) {
        let mut parameters = parameter_names(item);
        if let Some(Value::Map(entries)) = item.get("parameters").map(|own| &own.value) {
            let is_own = |name: &str| entries.iter().any(|(key, _)| &*key.value == name);
            let (clashing, known): (Vec<_>, Vec<_>) =
                self.known.iter().copied().partition(|variable| is_own(&variable.name));
            let is_clash = |name: &str| clashing.iter().any(|variable| &*variable.name == name);
            for (key, _) in entries.iter().filter(|(key, _)| is_clash(&key.value)) {
                self.problems.push(clash(&key.value, key.span));
            }
            if !clashing.is_empty() {
                // Which of the two a token means is not known: it stays.
                return Walk { known, problems: self.problems }.item(item, shared);
            }
        }
        if let Some(Value::Seq(uses)) = item.get("use_parameters").map(|uses| &uses.value) {
            for node in uses {
                if let Value::Str(name) = &node.value
                    && shared.contains(name)
                {
                    parameters.push(name.clone());
                }
            }
        }
        // The columns of a table are not known yet; the expansion leaves what they lack.
        let value = |name| item.get(name).map(|node| &node.value);
        let has_table = !matches!(value("parameters_file"), None | Some(Value::Null))
            || matches!(value("use_parameters_file"), Some(Value::Bool(true)));
        self.node(item, (!has_table).then_some(&parameters));
    }

    /// Replaces variables in every string below; tokens of parameters stay.
    fn node(&self, node: &mut Node, parameters: Known<'_>) {
        match &mut node.value {
            Value::Str(text) => {
                if let Some(replaced) = self.text(text, node.span, parameters) {
                    *text = replaced.into();
                }
            }
            Value::Seq(items) => items.iter_mut().for_each(|item| self.node(item, parameters)),
            Value::Map(entries) => {
                entries.iter_mut().for_each(|(_, node)| self.node(node, parameters));
            }
            _ => {}
        }
    }

    fn text(&self, text: &str, span: Span, parameters: Known<'_>) -> Option<String> {
        let position = |name: &str| self.known.iter().position(|variable| &*variable.name == name);
        for (_, name, _) in written_tokens(text) {
            if let Some(parameters) = parameters
                && position(name).is_none()
                && parameters.iter().all(|known| &**known != name)
            {
                self.undefined(name, span, parameters);
            }
        }
        let bad = |why: String| {
            self.problems.push(
                Problem::error("spec::bad-variable", why)
                    .at(span, "in this text")
                    .help("write `{name}`, `{name:03d}` or `{name:.2f}`"),
            );
        };
        let template = Template::compile(text, position).map_err(&bad).ok()?;
        template.as_constant().is_none().then(|| {
            template
                .render(|index| Filled::Text(&self.known[index].value), Target::Text)
                .map_err(bad)
                .map(std::borrow::Cow::into_owned)
                .ok()
        })?
    }

    fn undefined(&self, name: &str, span: Span, parameters: &[Box<str>]) {
        let names = self.known.iter().map(|variable| &*variable.name);
        let help = self
            .problems
            .did_you_mean(name, names.chain(parameters.iter().map(|name| &**name)))
            .unwrap_or_else(|| "define it, or write `${...}` for a variable of the shell".into());
        self.problems.push(
            Problem::error("spec::undefined-variable", format!("`{{{name}}}` is not defined"))
                .at(self.problems.within(span, &format!("{{{name}"), 1), "not defined")
                .help(help),
        );
    }
}
