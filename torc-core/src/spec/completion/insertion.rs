//! Additions as insertions into the user's text, so that comments and style stay.
//!
//! Knows how YAML looks where people write it. Does not know whether the result reads as it should:
//! whoever asks checks that. Invariant: nothing of the text is removed or changed.

use super::additions::Additions;
use super::items;
use super::pins::Pin;
use crate::diagnostics::Span;
use crate::spec::Format;
use crate::spec::tree::{Node, Spanned, Value};
use crate::spec::write::{write, yaml_word};

/// The text with everything inserted; `None` where no place is found for something.
pub(super) fn insert(text: &str, root: &Node, additions: &Additions<'_>) -> Option<String> {
    let mut insertions = Insertions { text, all: Vec::new() };
    for (item, pin) in items(root.get("jobs")).iter().zip(&additions.pins) {
        if let Pin::To(scheduler) = pin {
            insertions.entry(item, "scheduler", scheduler)?;
        }
    }
    if additions.sets_direct_mode {
        insertions.entry(root.get("execution_config")?, "mode", "direct")?;
    }
    let mut is_commented = false;
    for (list, new) in
        [("slurm_schedulers", &additions.schedulers), ("actions", &additions.actions)]
    {
        if new.is_empty() {
            continue;
        }
        match root.get(list) {
            Some(node) => insertions.items(node, new)?,
            None => {
                let comment = if is_commented { String::new() } else { additions.comment() };
                is_commented = true;
                insertions.at_end(root, &comment, list, new)?;
            }
        }
    }
    insertions.done()
}

struct Insertions<'t> {
    text: &'t str,
    /// Each with its place in the text.
    all: Vec<(usize, String)>,
}

impl Insertions<'_> {
    /// A new entry of a map, before its second one.
    fn entry(&mut self, map: &Node, key: &str, value: &str) -> Option<()> {
        let Value::Map(entries) = &map.value else { return None };
        if entries.iter().any(|(known, _)| &*known.value == key) {
            return None;
        }
        let value = yaml_word(value);
        let is_in_braces = self.text.get(map.span.start..)?.starts_with('{');
        // Keys that came from elsewhere by a merge stand elsewhere.
        let own = entries.iter().map(|(key, _)| key.span.start);
        let mut own: Vec<usize> =
            own.filter(|start| (map.span.start..map.span.end).contains(start)).collect();
        own.sort_unstable();
        let first = own.first().copied()?;
        let place = own.get(1).copied().unwrap_or(first);
        let separator = if is_in_braces {
            ", ".to_owned()
        } else {
            format!("\n{}", " ".repeat(self.column(first)?))
        };
        self.all.push((place, format!("{key}: {value}{separator}")));
        Some(())
    }

    /// Characters before a place on its line; `None` if a tab is among them.
    fn column(&self, place: usize) -> Option<usize> {
        let before = self.text.get(..place)?;
        let line = before.rsplit('\n').next().unwrap_or(before);
        (!line.contains('\t')).then(|| line.chars().count())
    }

    /// New items behind the last one of a list in block style.
    fn items(&mut self, list: &Node, new: &[Node]) -> Option<()> {
        let last = items(Some(list)).last()?;
        let dash = self.text.get(list.span.start..)?.find('-').map(|at| at + list.span.start)?;
        if self.text.get(list.span.start..dash)?.contains('[') {
            return None;
        }
        let indent = self.column(dash)?;
        let is_in_braces = self.text.get(last.span.start..)?.starts_with(['{', '[']);
        let end = if is_in_braces { last.span.end } else { last_place(last) };
        let end = self.end_of_line(end);
        let lines = block(&Node::new(Value::Seq(new.to_vec()), Span::default()), indent);
        let lines = lines.strip_suffix('\n').unwrap_or(&lines);
        self.all.push((end, format!("\n{lines}")));
        Some(())
    }

    fn end_of_line(&self, place: usize) -> usize {
        let rest = self.text.get(place..).unwrap_or_default();
        rest.find('\n').map_or(self.text.len(), |newline| place + newline)
    }

    /// A new entry of the whole spec, at its end.
    fn at_end(&mut self, root: &Node, comment: &str, key: &str, list: &[Node]) -> Option<()> {
        let Value::Map(entries) = &root.value else { return None };
        let first = entries.iter().map(|(key, _)| key.span.start).min()?;
        let indent = self.column(first)?;
        let is_in_braces = self.text.get(root.span.start..)?.starts_with('{');
        if is_in_braces {
            return None;
        }
        let name = Spanned::new(key.into(), Span::default());
        let list = Node::new(Value::Seq(list.to_vec()), Span::default());
        let entry = Node::new(Value::Map(vec![(name, list)]), Span::default());
        let newline =
            if self.text.ends_with('\n') || !self.all_at_end().is_empty() { "" } else { "\n" };
        let lines = block(&entry, indent);
        self.all.push((self.text.len(), format!("{newline}{comment}{lines}")));
        Some(())
    }

    fn all_at_end(&self) -> &[(usize, String)] {
        let end = self.text.len();
        self.all.iter().position(|(place, _)| *place == end).map_or(&[], |first| &self.all[first..])
    }

    /// The text with everything inserted, unless two insertions in it have one place: then something
    /// stands for several things, as an alias does.
    fn done(mut self) -> Option<String> {
        let end = self.text.len();
        self.all.sort_by_key(|(place, _)| *place);
        let same = |pair: &[(usize, String)]| pair[0].0 == pair[1].0 && pair[0].0 != end;
        if self.all.windows(2).any(same) {
            return None;
        }
        let mut out = String::with_capacity(end + 256);
        let mut done = 0;
        for (place, inserted) in &self.all {
            out.push_str(self.text.get(done..*place)?);
            out.push_str(inserted);
            done = *place;
        }
        out.push_str(self.text.get(done..)?);
        Some(out)
    }
}

/// Where the last scalar of a tree ends.
fn last_place(node: &Node) -> usize {
    match &node.value {
        Value::Map(entries) => {
            entries.iter().map(|(_, node)| last_place(node)).max().unwrap_or(node.span.end)
        }
        Value::Seq(items) => items.iter().map(last_place).max().unwrap_or(node.span.end),
        _ => node.span.end,
    }
}

/// A tree as lines of block style, all indented by so much.
fn block(node: &Node, indent: usize) -> String {
    let pad = " ".repeat(indent);
    let text = write(node, "", Format::Yaml);
    text.split_inclusive('\n').map(|line| format!("{pad}{line}")).collect()
}
