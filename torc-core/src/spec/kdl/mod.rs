//! Reads KDL 2 into a tree.
//!
//! KDL has nodes with arguments, properties and children, but neither lists nor maps: what a node is follows from the
//! field that it names. So this is the one format that asks the list of fields. What that does not know is left to
//! the strict reader.
//!
//! A field of a list is written once for each item, by the field's name or its singular: `job "a" { … }`,
//! `depends_on "a" "b"`. The name of an item is its argument; other fields are properties or children.

pub(crate) mod syntax;

use self::syntax::{Entry, Node as Written};
use super::fields::{self, Field, Object, Takes};
use super::problems::{Problems, excerpt, verbatim};
use super::tree::{Key, Node, Spanned, Value};
use super::tree_checks::reject_duplicates;
use crate::diagnostics::{Problem, Span};

/// The names of children that are items of a list.
const ITEM: &str = "-";

/// What a node says it is, where nothing else does.
const LIST: &str = "list";
const MAP: &str = "map";

/// The tree of a KDL text. `offset` is where the text starts in the source.
///
/// Problems go to `problems`; `None` when there is no tree at all.
pub(crate) fn parse(text: &str, offset: usize, problems: &Problems<'_>) -> Option<Node> {
    match syntax::parse(text, offset) {
        Ok(nodes) if nodes.is_empty() => None,
        Ok(nodes) => {
            let entries = Reader { problems }.children(&fields::SPEC, nodes);
            Some(Node::new(Value::Map(entries), Span { start: offset, end: offset + text.len() }))
        }
        Err(problem) => {
            problems.push(problem);
            None
        }
    }
}

struct Reader<'p, 'a> {
    problems: &'p Problems<'a>,
}

impl Reader<'_, '_> {
    /// The fields of an object that stand as children.
    fn children(&self, object: &'static Object, nodes: Vec<Written>) -> Vec<(Key, Node)> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        // Lists grow with each node that names them.
        let mut lists: Vec<(&str, usize)> = Vec::new();
        for node in nodes {
            let Some(field) = named(object, &node.name.value) else {
                // The reader reports it: what it would have been does not matter.
                let nothing = Node::new(Value::Null, node.span);
                let key = node.name.clone();
                let value = if object.is_open { self.by_looks(node) } else { nothing };
                entries.push((key, value));
                continue;
            };
            let key = Spanned::new(field.name.into(), node.name.span);
            let value = self.field(field, node);
            let known = lists.iter().find(|(list, _)| *list == field.name);
            match (value.value, known) {
                (Value::Seq(mut items), Some((_, at))) => {
                    if let Value::Seq(all) = &mut entries[*at].1.value {
                        all.append(&mut items);
                    }
                }
                (Value::Seq(items), None) => {
                    lists.push((field.name, entries.len()));
                    entries.push((key, Node::new(Value::Seq(items), value.span)));
                }
                (other, _) => entries.push((key, Node::new(other, value.span))),
            }
        }
        reject_duplicates(&mut entries, self.problems);
        entries
    }

    /// What a node says of a field.
    fn field(&self, field: &'static Field, node: Written) -> Node {
        let span = node.span;
        match &field.takes {
            Takes::Texts | Takes::Wholes(..) => Node::new(Value::Seq(self.items(node)), span),
            Takes::Many(_) if is_bare(&node) && &*node.name.value == field.name => {
                Node::new(Value::Seq(Vec::new()), span)
            }
            Takes::Many(object) => Node::new(Value::Seq(vec![self.object(object, node)]), span),
            Takes::One(object) => self.object(object, node),
            Takes::TextOr(object) if count_arguments(&node) == 0 => self.object(object, node),
            Takes::ByName(object) => self.map(node, &|node| self.object(object, node)),
            Takes::TextByName | Takes::LiteralByName => self.map(node, &|node| self.scalar(node)),
            Takes::ParameterByName => self.map(node, &|node| self.by_looks(node)),
            Takes::TextOrMap | Takes::Anything => self.by_looks(node),
            _ => self.scalar(node),
        }
    }

    /// An object, whose name is the argument of its node.
    fn object(&self, object: &'static Object, node: Written) -> Node {
        self.says_at_most(&node, None);
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut takes_name = object.field("name").is_some();
        for entry in node.entries {
            let value = self.value(&entry);
            let Some(name) = entry.name else {
                if takes_name {
                    entries.push((Spanned::new("name".into(), value.span), value));
                } else {
                    let message = format!("`{}` takes no value here", excerpt(&node.name.value));
                    self.shape(message, value.span, "write `field value` in its braces");
                }
                takes_name = false;
                continue;
            };
            let field = named(object, &name.value);
            let key = field.map_or(name.value, |field| field.name.into());
            let value = match field.map(|field| &field.takes) {
                Some(Takes::Texts | Takes::Wholes(..)) => {
                    let span = value.span;
                    Node::new(Value::Seq(vec![value]), span)
                }
                _ => value,
            };
            entries.push((Spanned::new(key, name.span), value));
        }
        entries.append(&mut self.children(object, node.children.unwrap_or_default()));
        reject_duplicates(&mut entries, self.problems);
        Node::new(Value::Map(entries), node.span)
    }

    /// A map whose entries are properties and children, by their names.
    fn map(&self, node: Written, child: &dyn Fn(Written) -> Node) -> Node {
        self.says_at_most(&node, Some(MAP));
        let mut entries = Vec::new();
        for entry in node.entries {
            let value = self.value(&entry);
            if let Some(name) = entry.name {
                entries.push((name, value));
            } else {
                let message = format!("`{}` takes values by name", excerpt(&node.name.value));
                self.shape(message, value.span, "write `name value` in its braces");
            }
        }
        let children = node.children.into_iter().flatten();
        entries.extend(children.map(|node| (node.name.clone(), child(node))));
        reject_duplicates(&mut entries, self.problems);
        Node::new(Value::Map(entries), node.span)
    }

    /// The items of a list: arguments, and children called `-`.
    fn items(&self, node: Written) -> Vec<Node> {
        self.says_at_most(&node, Some(LIST));
        let mut items = Vec::new();
        for entry in node.entries {
            let value = self.value(&entry);
            if let Some(name) = entry.name {
                let (list, name_shown) = (excerpt(&node.name.value), excerpt(&name.value));
                let message = format!("`{list}` is a list, which has no `{name_shown}`");
                self.shape(message, name.span, "write its items one after the other");
            } else {
                items.push(value);
            }
        }
        for child in node.children.into_iter().flatten() {
            if &*child.name.value == ITEM {
                items.push(self.by_looks(child));
            } else {
                let message = format!("an item of a list is called `{ITEM}`");
                self.shape(message, child.name.span, "write `- value`");
            }
        }
        items
    }

    /// The one argument of a node.
    fn scalar(&self, node: Written) -> Node {
        self.says_at_most(&node, None);
        if let ([entry], None) = (&node.entries[..], &node.children)
            && entry.name.is_none()
        {
            return self.value(entry);
        }
        let name = excerpt(&node.name.value);
        let is_plain = |entry: &Entry| entry.name.is_none();
        let words = (node.entries.len() > 1 && node.children.is_none())
            .then(|| node.entries.iter().map(plain_text).collect::<Option<Vec<_>>>())
            .flatten();
        let help = match words {
            Some(words) => {
                format!("if it is one text, write `{name} \"{}\"`", verbatim(&words.join(" ")))
            }
            None => format!("write for example `{name} \"value\"`"),
        };
        self.shape(format!("`{name}` takes one value"), node.name.span, &help);
        // The first stands for it, so that it is not called missing besides.
        let first = node.entries.iter().find(|entry| is_plain(entry));
        first.map_or_else(|| Node::new(Value::Null, node.span), |entry| entry.value.clone())
    }

    /// A node that can be anything: what it is, it says itself, or it shows.
    fn by_looks(&self, node: Written) -> Node {
        let span = node.span;
        let says = node.says.as_ref().map(|says| &*says.value);
        let arguments = count_arguments(&node);
        let are_items = node.children.as_ref().is_some_and(|children| {
            !children.is_empty() && children.iter().all(|child| &*child.name.value == ITEM)
        });
        let is_map = arguments < node.entries.len() || node.children.is_some() && !are_items;
        match (says, arguments) {
            (Some(LIST), _) => Node::new(Value::Seq(self.items(node)), span),
            (Some(MAP), _) => self.map(node, &|node| self.by_looks(node)),
            _ if is_map => self.map(node, &|node| self.by_looks(node)),
            (_, 0) if !are_items => {
                let name = excerpt(&node.name.value);
                let help = format!("write `{name} \"value\"`, `({LIST}){name}` or `({MAP}){name}`");
                self.shape(format!("`{name}` has no value"), node.name.span, &help);
                Node::new(Value::Null, span)
            }
            (_, 1) if !are_items => self.scalar(node),
            _ => Node::new(Value::Seq(self.items(node)), span),
        }
    }

    /// The value of an argument or a property.
    fn value(&self, entry: &Entry) -> Node {
        if let Some(says) = &entry.says {
            let help = "remove it, parentheses and all";
            self.shape("torc knows no types of values".to_owned(), says.span, help);
        }
        entry.value.clone()
    }

    /// Reports a type that a node says it has, other than what it may say.
    fn says_at_most(&self, node: &Written, fits: Option<&str>) {
        if let Some(says) = &node.says
            && fits.is_none_or(|fits| &*says.value != fits)
        {
            let help = format!("remove it; ({LIST}) and ({MAP}) are for what may be anything");
            self.shape("this type does not fit here".to_owned(), says.span, &help);
        }
    }

    fn shape(&self, message: String, span: Span, help: &str) {
        self.problems.push(Problem::error("spec::kdl-shape", message).at(span, "here").help(help));
    }
}

/// The field that a node names: by its own name, for a list also by the singular.
fn named(object: &'static Object, name: &str) -> Option<&'static Field> {
    // A name that specs in use have.
    const OLD_NAME: (&str, &str) = ("depends_on_job", "depends_on");
    let name = if name == OLD_NAME.0 { OLD_NAME.1 } else { name };
    object.field(name).or_else(|| {
        object.fields.iter().find(|field| {
            let is_list = matches!(field.takes, Takes::Texts | Takes::Wholes(..) | Takes::Many(_));
            is_list && field.name.strip_prefix(name).is_some_and(|rest| matches!(rest, "s" | "es"))
        })
    })
}

/// The text of an argument.
fn plain_text(entry: &Entry) -> Option<&str> {
    match &entry.value.value {
        Value::Str(text) if entry.name.is_none() => Some(text),
        _ => None,
    }
}

fn is_bare(node: &Written) -> bool {
    node.entries.is_empty() && node.children.is_none()
}

fn count_arguments(node: &Written) -> usize {
    node.entries.iter().filter(|entry| entry.name.is_none()).count()
}
