//! Reads KDL 2 into a tree.
//!
//! KDL has nodes with arguments, properties and children, but neither lists nor maps: what a node is follows from the
//! field that it names. So this is the one format that asks the list of fields. What that does not know is read by
//! its looks, and left to the strict reader. Depth and size are checked before the parser sees the text, since it
//! recurses, and takes more than a hundred times the memory of its text.
//!
//! A field of a list is written once for each item, by the field's name or its singular: `job "a" { … }`,
//! `depends_on "a" "b"`. The name of an item is its argument; other fields are properties or children.

use kdl::{KdlDocument, KdlEntry, KdlError, KdlNode, KdlValue};

use super::fields::{self, Field, Object, Takes};
use super::problems::{Problems, excerpt};
use super::tree::{Key, MAX_DEPTH, Node, Spanned, Value};
use super::tree_checks::{reject_duplicates, too_deep};
use crate::diagnostics::{Problem, Span};

/// Longer than this, in bytes, a text is refused: the parser would take a gigabyte and more.
const LONGEST: usize = 8 * 1024 * 1024;

/// The names of children that are items of a list.
const ITEM: &str = "-";

/// What a node says it is, where nothing else does.
const LIST: &str = "list";
const MAP: &str = "map";

/// The tree of a KDL text. `offset` is where the text starts in the source.
///
/// Problems go to `problems`; `None` when there is no tree at all.
pub(crate) fn parse(text: &str, offset: usize, problems: &Problems<'_>) -> Option<Node> {
    let reader = Reader { offset, problems };
    if text.len() > LONGEST {
        problems.push(reader.too_long(text.len()));
        return None;
    }
    if let Some(at) = Lexer::new(text).too_deep() {
        problems.push(too_deep(reader.span(at, 1)));
        return None;
    }
    let document = match KdlDocument::parse_v2(text) {
        Ok(document) => document,
        Err(error) => {
            reader.syntax_errors(&error);
            return None;
        }
    };
    if document.nodes().is_empty() {
        return None;
    }
    let entries = reader.children(&fields::SPEC, &document);
    Some(Node::new(Value::Map(entries), reader.span(0, text.len())))
}

struct Reader<'p, 'a> {
    offset: usize,
    problems: &'p Problems<'a>,
}

impl Reader<'_, '_> {
    fn span(&self, start: usize, length: usize) -> Span {
        Span { start: start + self.offset, end: start + length + self.offset }
    }

    fn too_long(&self, length: usize) -> Problem {
        let message = format!("a spec in KDL has at most {LONGEST} bytes, and this one {length}");
        Problem::error("spec::too-large", message)
            .at(self.span(LONGEST, 1), "the limit is reached here")
            .help("let parameters make the jobs, or write it in YAML or JSON, which have no such limit")
    }

    fn syntax_errors(&self, error: &KdlError) {
        for found in &error.diagnostics {
            let message = found.message.as_deref().unwrap_or("it cannot be read");
            let message = format!("this is not valid KDL: {}", message.trim_end_matches('.'));
            let span = self.span(found.span.offset(), found.span.len());
            let help =
                found.help.as_deref().unwrap_or("look at the quotes and braces around this place");
            self.problems.push(
                Problem::error("spec::kdl-syntax", message)
                    .at(span, found.label.as_deref().unwrap_or("here"))
                    .help(help),
            );
        }
    }

    fn key(&self, node: &KdlNode) -> Key {
        let name = node.name();
        let span = self.span(name.span().offset(), name.span().len());
        Spanned::new(name.value().into(), span)
    }

    fn whole(&self, node: &KdlNode) -> Span {
        self.span(node.span().offset(), node.span().len())
    }

    /// The fields of an object that stand as children.
    fn children(&self, object: &'static Object, document: &KdlDocument) -> Vec<(Key, Node)> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        // Lists grow with each node that names them.
        let mut lists: Vec<(&str, usize)> = Vec::new();
        for node in document.nodes() {
            let key = self.key(node);
            let Some(field) = named(object, &key.value) else {
                // The reader reports it: what it would have been does not matter.
                let nothing = || Node::new(Value::Null, self.whole(node));
                let value = if object.is_open { self.by_looks(node) } else { nothing() };
                entries.push((key, value));
                continue;
            };
            let name = Spanned::new(field.name.into(), key.span);
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
                    entries.push((name, Node::new(Value::Seq(items), value.span)));
                }
                (other, _) => entries.push((name, Node::new(other, value.span))),
            }
        }
        reject_duplicates(&mut entries, self.problems);
        entries
    }

    /// What a node says of a field.
    fn field(&self, field: &'static Field, node: &KdlNode) -> Node {
        match &field.takes {
            Takes::Texts | Takes::Wholes(..) => {
                let span = self.whole(node);
                Node::new(Value::Seq(self.items(node)), span)
            }
            Takes::Many(_) if is_bare(node) && node.name().value() == field.name => {
                Node::new(Value::Seq(Vec::new()), self.whole(node))
            }
            Takes::Many(object) => {
                let item = self.object(object, node);
                Node::new(Value::Seq(vec![item]), self.whole(node))
            }
            Takes::One(object) => self.object(object, node),
            Takes::TextOr(object) if arguments(node).count() == 0 => self.object(object, node),
            Takes::ByName(object) => self.map(node, &|node| self.object(object, node)),
            Takes::TextByName | Takes::LiteralByName => self.map(node, &|node| self.scalar(node)),
            Takes::ParameterByName => self.map(node, &|node| self.by_looks(node)),
            Takes::TextOrMap | Takes::Anything => self.by_looks(node),
            _ => self.scalar(node),
        }
    }

    /// An object, whose name is the argument of its node.
    fn object(&self, object: &'static Object, node: &KdlNode) -> Node {
        let mut entries = Vec::new();
        let mut arguments = arguments(node);
        if object.field("name").is_some()
            && let Some(name) = arguments.next()
        {
            entries.push((Spanned::new("name".into(), self.key(node).span), self.value(name)));
        }
        for extra in arguments {
            let message = format!("`{}` takes no value here", excerpt(node.name().value()));
            self.shape(message, self.entry_span(extra), "write `field value` in its braces");
        }
        for (key, entry) in properties(node) {
            let field = named(object, &key.value);
            let name = field.map_or(key.value, |field| field.name.into());
            let value = self.value(entry);
            let value = match field.map(|field| &field.takes) {
                Some(Takes::Texts | Takes::Wholes(..)) => {
                    let span = value.span;
                    Node::new(Value::Seq(vec![value]), span)
                }
                _ => value,
            };
            let span =
                Span { start: key.span.start + self.offset, end: key.span.end + self.offset };
            entries.push((Spanned::new(name, span), value));
        }
        if let Some(children) = node.children() {
            entries.append(&mut self.children(object, children));
        }
        reject_duplicates(&mut entries, self.problems);
        Node::new(Value::Map(entries), self.whole(node))
    }

    /// A map whose entries are properties and children, by their names.
    fn map(&self, node: &KdlNode, child: &dyn Fn(&KdlNode) -> Node) -> Node {
        if let Some(argument) = arguments(node).next() {
            let message = format!("`{}` takes values by name", excerpt(node.name().value()));
            self.shape(message, self.entry_span(argument), "write `name value` in its braces");
        }
        let mut entries: Vec<(Key, Node)> = properties(node)
            .map(|(key, entry)| {
                let span =
                    Span { start: key.span.start + self.offset, end: key.span.end + self.offset };
                (Spanned::new(key.value, span), self.value(entry))
            })
            .collect();
        let children = node.children().into_iter().flat_map(|children| children.nodes());
        entries.extend(children.map(|node| (self.key(node), child(node))));
        reject_duplicates(&mut entries, self.problems);
        Node::new(Value::Map(entries), self.whole(node))
    }

    /// The items of a list: arguments, and children called `-`.
    fn items(&self, node: &KdlNode) -> Vec<Node> {
        for (key, entry) in properties(node) {
            let message =
                format!("`{}` is a list, which has no `{}`", node.name().value(), key.value);
            self.shape(message, self.entry_span(entry), "write its items one after the other");
        }
        let mut items: Vec<Node> = arguments(node).map(|entry| self.value(entry)).collect();
        for child in node.children().into_iter().flat_map(|children| children.nodes()) {
            if child.name().value() == ITEM {
                items.push(self.by_looks(child));
            } else {
                let message = format!("an item of a list is called `{ITEM}`");
                self.shape(message, self.key(child).span, "write `- value`");
            }
        }
        items
    }

    /// The one argument of a node.
    fn scalar(&self, node: &KdlNode) -> Node {
        let mut found = arguments(node);
        if let (Some(entry), None, None, None) =
            (found.next(), found.next(), properties(node).next(), node.children())
        {
            return self.value(entry);
        }
        let name = excerpt(node.name().value());
        let help = format!("write for example `{name} \"value\"`");
        self.shape(format!("`{name}` takes one value"), self.key(node).span, &help);
        Node::new(Value::Null, self.whole(node))
    }

    /// A node that can be anything: what it is, it says itself, or it shows.
    fn by_looks(&self, node: &KdlNode) -> Node {
        let says = node.ty().map(|says| says.value());
        let has_properties = properties(node).next().is_some();
        let children = node.children().map(KdlDocument::nodes);
        let are_items = children.is_some_and(|children| {
            !children.is_empty() && children.iter().all(|child| child.name().value() == ITEM)
        });
        let is_map = has_properties || children.is_some() && !are_items;
        match (says, arguments(node).count()) {
            (Some(LIST), _) => Node::new(Value::Seq(self.items(node)), self.whole(node)),
            (Some(MAP), _) => self.map(node, &|node| self.by_looks(node)),
            (Some(_), _) => {
                let help = format!("remove it, or write ({LIST}) or ({MAP})");
                let span = self.key(node).span;
                self.shape("torc does not know this type".to_owned(), span, &help);
                Node::new(Value::Null, span)
            }
            (None, 0) if is_map => self.map(node, &|node| self.by_looks(node)),
            (None, 1) if !is_map && !are_items => self.scalar(node),
            (None, 0) if !are_items => {
                let name = excerpt(node.name().value());
                let help = format!("write `{name} \"value\"`, `({LIST}){name}` or `({MAP}){name}`");
                self.shape(format!("`{name}` has no value"), self.key(node).span, &help);
                Node::new(Value::Null, self.whole(node))
            }
            _ if is_map => self.map(node, &|node| self.by_looks(node)),
            _ => Node::new(Value::Seq(self.items(node)), self.whole(node)),
        }
    }

    fn entry_span(&self, entry: &KdlEntry) -> Span {
        self.span(entry.span().offset(), entry.span().len())
    }

    /// The value of an argument or a property.
    fn value(&self, entry: &KdlEntry) -> Node {
        let mut span = self.entry_span(entry);
        // The place of a property has its name, too.
        if let Some(written) = entry.format().map(|format| format.value_repr.len()) {
            span.start = span.end.saturating_sub(written).max(span.start);
        }
        if entry.ty().is_some() {
            let help = "remove what stands in parentheses before it";
            self.shape("torc knows no types of values".to_owned(), span, help);
        }
        let value = match entry.value() {
            KdlValue::Null => Value::Null,
            KdlValue::Bool(flag) => Value::Bool(*flag),
            KdlValue::String(text) => Value::Str(text.as_str().into()),
            KdlValue::Float(number) => Value::Float(*number),
            KdlValue::Integer(number) => match i64::try_from(*number) {
                Ok(number) => Value::Int(number),
                Err(_) => Value::Float(*number as f64),
            },
        };
        Node::new(value, span)
    }

    fn shape(&self, message: String, span: Span, help: &str) {
        self.problems.push(Problem::error("spec::kdl-shape", message).at(span, "here").help(help));
    }
}

/// The field that a node names: by its own name, for a list also by the singular.
fn named(object: &'static Object, name: &str) -> Option<&'static Field> {
    // A name of the first release, which specs in use have.
    const OLD_NAME: (&str, &str) = ("depends_on_job", "depends_on");
    let name = if name == OLD_NAME.0 { OLD_NAME.1 } else { name };
    object.field(name).or_else(|| {
        object.fields.iter().find(|field| {
            let is_list = matches!(field.takes, Takes::Texts | Takes::Wholes(..) | Takes::Many(_));
            is_list && field.name.strip_prefix(name).is_some_and(|rest| matches!(rest, "s" | "es"))
        })
    })
}

fn is_bare(node: &KdlNode) -> bool {
    node.entries().is_empty() && node.children().is_none()
}

fn arguments(node: &KdlNode) -> impl Iterator<Item = &KdlEntry> {
    node.entries().iter().filter(|entry| entry.name().is_none())
}

/// The properties with their names, whose places are in the text.
fn properties(node: &KdlNode) -> impl Iterator<Item = (Key, &KdlEntry)> {
    node.entries().iter().filter_map(|entry| {
        let name = entry.name()?;
        let (start, length) = (name.span().offset(), name.span().len());
        Some((Spanned::new(name.value().into(), Span { start, end: start + length }), entry))
    })
}

/// Just enough of KDL's grammar to find the braces and comments that nest.
struct Lexer<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Lexer<'t> {
    fn new(text: &'t str) -> Self {
        Self { text: text.as_bytes(), at: 0 }
    }

    fn is_at(&self, word: &[u8]) -> bool {
        self.text[self.at..].starts_with(word)
    }

    /// Goes on behind the next `end`, or to the end of the text.
    fn skip_past(&mut self, end: &[u8]) {
        while self.at < self.text.len() && !self.is_at(end) {
            self.at += 1;
        }
        self.at = (self.at + end.len()).min(self.text.len());
    }

    /// The first place that nests too deeply.
    fn too_deep(mut self) -> Option<usize> {
        let mut depth = 0_usize;
        while let Some(byte) = self.text.get(self.at).copied() {
            match byte {
                b'{' => depth += 1,
                b'}' => depth = depth.saturating_sub(1),
                b'"' => {
                    self.string();
                    continue;
                }
                b'#' => {
                    self.raw_string();
                    continue;
                }
                b'/' if self.is_at(b"//") => {
                    self.skip_past(b"\n");
                    continue;
                }
                b'/' if self.is_at(b"/*") => {
                    if let Some(place) = self.comment() {
                        return Some(place);
                    }
                    continue;
                }
                _ => {}
            }
            if depth > MAX_DEPTH {
                return Some(self.at);
            }
            self.at += 1;
        }
        None
    }

    /// A comment and those in it; the place where they nest too deeply.
    fn comment(&mut self) -> Option<usize> {
        let mut depth = 0_usize;
        while self.at < self.text.len() {
            if self.is_at(b"/*") {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Some(self.at);
                }
                self.at += 2;
            } else if self.is_at(b"*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    break;
                }
            } else {
                self.at += 1;
            }
        }
        None
    }

    fn string(&mut self) {
        let quotes: &[u8] = if self.is_at(br#"""""#) { br#"""""# } else { br#"""# };
        self.at += quotes.len();
        while self.at < self.text.len() && !self.is_at(quotes) {
            self.at += if self.text[self.at] == b'\\' { 2 } else { 1 };
        }
        self.at = (self.at + quotes.len()).min(self.text.len());
    }

    /// A string between hashes and quotes, if it is that and not a keyword.
    fn raw_string(&mut self) {
        let hashes = self.text[self.at..].iter().take_while(|byte| **byte == b'#').count();
        self.at += hashes;
        if !self.is_at(b"\"") {
            return;
        }
        let quotes = if self.is_at(br#"""""#) { 3 } else { 1 };
        self.at += quotes;
        let end: Vec<u8> = [vec![b'"'; quotes], vec![b'#'; hashes]].concat();
        self.skip_past(&end);
    }
}
