//! The syntax of KDL 2.0.0 (kdl.dev/spec): from a text to nodes with places.
//!
//! Knows nothing of specs. Goes over the text once, without going back, and ends at the first error, so its time and
//! memory are bounded by the text's, whatever that is. Depth and the number of values have bounds of their own.

use crate::diagnostics::{Problem, Span};
use crate::spec::json::read_number;
use crate::spec::tree::{Key, MAX_DEPTH, MOST_NODES, Node as Scalar, Spanned, Value};
use crate::spec::tree_checks::{too_deep, too_large};

/// A node: a name with arguments, properties and children.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: Key,
    /// What stands in parentheses before the name.
    pub(super) says: Option<Key>,
    /// Arguments and properties as written.
    pub(super) entries: Vec<Entry>,
    pub(super) children: Option<Vec<Node>>,
    pub(super) span: Span,
}

/// An argument, or a property if it has a name.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: Option<Key>,
    pub(super) says: Option<Key>,
    pub(super) value: Scalar,
}

/// The nodes of a text. `offset` is where it starts in the source.
pub(super) fn parse(text: &str, offset: usize) -> Result<Vec<Node>, Problem> {
    let mut parser = Parser { text, at: 0, offset, depth: 0, values: 0 };
    let nodes = parser.nodes()?;
    match parser.peek() {
        None => Ok(nodes),
        Some(_) => Err(parser.error("a `}` closes nothing", "this brace", "remove it")),
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    offset: usize,
    depth: usize,
    values: usize,
}

/// Words that are values only with a hash before them.
const KEYWORDS: [&str; 6] = ["true", "false", "null", "inf", "-inf", "nan"];

/// Line breaks, of which CR LF counts as one.
fn is_newline(letter: char) -> bool {
    matches!(letter, '\n' | '\r' | '\u{85}' | '\u{b}' | '\u{c}' | '\u{2028}' | '\u{2029}')
}

fn is_space(letter: char) -> bool {
    letter.is_whitespace() && !is_newline(letter)
}

/// What may not be written as it is anywhere.
pub(crate) fn is_forbidden(letter: char) -> bool {
    matches!(
        letter,
        '\0'..='\u{8}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' | '\u{feff}'
    )
}

/// What a name without quotes may have.
fn is_of_word(letter: char) -> bool {
    !letter.is_whitespace() && !is_forbidden(letter) && !"\\/(){};[]\"#=".contains(letter)
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn is_at(&self, word: &str) -> bool {
        self.rest().starts_with(word)
    }

    /// Goes on behind a word, if it is next.
    fn take(&mut self, word: &str) -> bool {
        let is_next = self.is_at(word);
        if is_next {
            self.at += word.len();
        }
        is_next
    }

    fn take_while(&mut self, is_wanted: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let length = rest.find(|letter| !is_wanted(letter)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// From a place to here.
    fn span(&self, start: usize) -> Span {
        Span { start: start + self.offset, end: self.at + self.offset }
    }

    /// The next letter's place.
    fn here(&self) -> Span {
        let length = self.peek().map_or(0, char::len_utf8);
        Span { start: self.at + self.offset, end: self.at + length + self.offset }
    }

    fn error(&self, why: &str, label: &str, help: &str) -> Problem {
        self.error_at(self.here(), why, label, help)
    }

    fn error_at(&self, span: Span, why: &str, label: &str, help: &str) -> Problem {
        let message = format!("this is not valid KDL: {why}");
        Problem::error("spec::kdl-syntax", message).at(span, label).help(help)
    }

    /// Nodes up to the brace that closes them, or the end.
    fn nodes(&mut self) -> Result<Vec<Node>, Problem> {
        let mut nodes = Vec::new();
        loop {
            self.line_space()?;
            if self.take(";") {
                continue;
            }
            if matches!(self.peek(), None | Some('}')) {
                return Ok(nodes);
            }
            let is_left_out = self.slashdash()?;
            let node = self.node()?;
            if !is_left_out {
                nodes.push(node);
            }
        }
    }

    fn node(&mut self) -> Result<Node, Problem> {
        let start = self.at;
        let says = self.says()?;
        let name = self.string()?.ok_or_else(|| {
            let help = "a node begins with its name; a name with other signs than letters and digits has quotes";
            self.error("a node has no name", "not a name", help)
        })?;
        self.count()?;
        let (mut entries, mut children, mut has_braces) = (Vec::new(), None, false);
        let end = loop {
            let end = self.at;
            let has_space = self.node_space()?;
            if self.ends_node()? {
                break end;
            }
            let is_left_out = self.slashdash()?;
            if self.is_at("{") {
                has_braces = true;
                let found = self.children()?;
                if !is_left_out && children.replace(found).is_some() {
                    let help = "put them into one pair of braces";
                    let why = "a node has children twice";
                    return Err(self.error_at(self.span(start), why, "this node", help));
                }
                continue;
            }
            if !has_space || has_braces {
                let why = "this does not go on with the node before it";
                let help = "separate values by blanks, and end a node with a line break or `;`";
                return Err(self.error(why, "here", help));
            }
            let entry = self.entry()?;
            if !is_left_out {
                entries.push(entry);
            }
        };
        let span = Span { start: start + self.offset, end: end + self.offset };
        Ok(Node { name, says, entries, children, span })
    }

    /// Whether the node ends here. Its line break goes with it; a closing brace stays.
    fn ends_node(&mut self) -> Result<bool, Problem> {
        match self.peek() {
            None | Some('}') => Ok(true),
            Some(';') => {
                self.at += 1;
                Ok(true)
            }
            Some(letter) if is_newline(letter) => {
                self.at += letter.len_utf8();
                Ok(true)
            }
            _ if self.is_at("//") => {
                self.line_comment();
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn children(&mut self) -> Result<Vec<Node>, Problem> {
        let brace = self.here();
        if self.depth >= MAX_DEPTH {
            return Err(too_deep(brace));
        }
        self.depth += 1;
        self.at += 1;
        let nodes = self.nodes()?;
        self.depth -= 1;
        if self.take("}") {
            return Ok(nodes);
        }
        Err(self.error_at(brace, "a brace is not closed", "it opens here", "add a `}`"))
    }

    fn entry(&mut self) -> Result<Entry, Problem> {
        self.count()?;
        let start = self.at;
        let says = self.says()?;
        let Some(name) = self.string()? else {
            let value = self.number_or_keyword()?;
            return Ok(Entry { name: None, says, value });
        };
        let after_name = self.at;
        self.node_space()?;
        if says.is_some() || !self.take("=") {
            self.at = after_name;
            let value = Scalar::new(Value::Str(name.value), name.span);
            return Ok(Entry { name: None, says, value });
        }
        self.node_space()?;
        let says = self.says()?;
        let value = match self.string()? {
            Some(text) => Scalar::new(Value::Str(text.value), text.span),
            None if matches!(self.peek(), Some(letter) if is_newline(letter) || ";}{".contains(letter))
                || self.peek().is_none() =>
            {
                let span = self.span(start);
                return Err(self.error_at(
                    span,
                    "a property has no value",
                    "nothing after `=`",
                    "write `name=value`",
                ));
            }
            None => self.number_or_keyword()?,
        };
        Ok(Entry { name: Some(name), says, value })
    }

    fn count(&mut self) -> Result<(), Problem> {
        self.values += 1;
        if self.values > MOST_NODES { Err(too_large(self.here())) } else { Ok(()) }
    }

    /// A type in parentheses.
    fn says(&mut self) -> Result<Option<Key>, Problem> {
        if !self.take("(") {
            return Ok(None);
        }
        self.node_space()?;
        let says = self.string()?;
        self.node_space()?;
        match says {
            Some(says) if self.take(")") => {
                self.node_space()?;
                Ok(Some(says))
            }
            _ => Err(self.error(
                "a type in parentheses is not a word",
                "here",
                "remove it, parentheses and all",
            )),
        }
    }

    /// A string of any kind, if one is next.
    fn string(&mut self) -> Result<Option<Key>, Problem> {
        let start = self.at;
        let hashes = self.rest().len() - self.rest().trim_start_matches('#').len();
        if self.rest()[hashes..].starts_with('"') {
            self.at += hashes;
            let text = if self.take("\"\"\"") {
                self.lines(start, hashes)?
            } else {
                self.at += 1;
                self.line(start, hashes)?
            };
            return Ok(Some(Spanned::new(text.into(), self.span(start))));
        }
        if hashes > 0 || self.is_number() {
            return Ok(None);
        }
        let word = self.take_while(is_of_word);
        if word.is_empty() {
            return Ok(None);
        }
        let span = self.span(start);
        if KEYWORDS.contains(&word) {
            let help = format!("write `#{word}`, or `\"{word}\"` for the text");
            return Err(self.error_at(span, "a word needs a hash or quotes", "this word", &help));
        }
        Ok(Some(Spanned::new(word.into(), span)))
    }

    /// Whether a number is next: what begins like one is no word.
    fn is_number(&self) -> bool {
        let unsigned = self.rest().strip_prefix(['+', '-']).unwrap_or(self.rest());
        let undotted = unsigned.strip_prefix('.').unwrap_or(unsigned);
        undotted.starts_with(|first: char| first.is_ascii_digit())
    }

    fn number_or_keyword(&mut self) -> Result<Scalar, Problem> {
        let start = self.at;
        if self.take("#") {
            let word = self.take_while(is_of_word);
            let value = match word {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                "null" => Value::Null,
                "inf" => Value::Float(f64::INFINITY),
                "-inf" => Value::Float(f64::NEG_INFINITY),
                "nan" => Value::Float(f64::NAN),
                _ => {
                    let span = self.span(start);
                    let help = "a hash is for #true, #false, #null, #inf, #-inf, #nan and raw strings; other texts with one have quotes";
                    return Err(self.error_at(
                        span,
                        "a hash is before no value",
                        "this word",
                        help,
                    ));
                }
            };
            return Ok(Scalar::new(value, self.span(start)));
        }
        let word = self.take_while(is_of_word);
        let span = self.span(start);
        if word.is_empty() {
            return Err(self.error(
                "this is no value",
                "here",
                "put text with signs like this into quotes",
            ));
        }
        number(word).map(|value| Scalar::new(value, span)).ok_or_else(|| {
            let help = "put it into quotes if it is text";
            self.error_at(span, "this begins like a number and is none", "not a number", help)
        })
    }

    /// The rest of a string on one line, up to the quote and hashes that close it.
    fn line(&mut self, start: usize, hashes: usize) -> Result<String, Problem> {
        let mut out = String::new();
        loop {
            let open = Span { start: start + self.offset, end: start + self.offset + hashes + 1 };
            match self.peek() {
                Some('"') if self.closes("\"", hashes) => return Ok(out),
                Some('\\') if hashes == 0 => self.escape(&mut out)?,
                None => return Err(self.never_closed(open)),
                Some(letter) if is_newline(letter) => {
                    let help = "close it on this line; a text of several lines is between \"\"\" and \"\"\"";
                    return Err(self.error_at(
                        open,
                        "a quote is not closed on its line",
                        "it opens here",
                        help,
                    ));
                }
                Some(letter) => self.letter(letter, &mut out)?,
            }
        }
    }

    /// The rest of a string of several lines. What they are indented by is what the closing quotes are.
    fn lines(&mut self, start: usize, hashes: usize) -> Result<String, Problem> {
        let open = Span { start: start + self.offset, end: self.at + self.offset };
        if !self.newline() {
            let help =
                "write a line break behind them; a text on one line has one quote on each side";
            return Err(self.error_at(
                open,
                "three quotes begin a text of several lines",
                "these quotes",
                help,
            ));
        }
        // Each line as it is written, with its place, so that escapes are read after the indentation is off.
        let mut lines = vec![Line { start: self.at, text: String::new() }];
        loop {
            let Some(last) = lines.last_mut() else { return Err(self.never_closed(open)) };
            match self.peek() {
                Some('"') if self.closes("\"\"\"", hashes) => break,
                None => return Err(self.never_closed(open)),
                Some('\\') if hashes == 0 => {
                    let escaped = self.rest().chars().nth(1);
                    if escaped.is_some_and(char::is_whitespace) {
                        self.at += 1;
                        self.take_while(char::is_whitespace);
                    } else {
                        last.text.push('\\');
                        self.at += 1;
                        if let Some(letter) = escaped {
                            self.letter(letter, &mut last.text)?;
                        }
                    }
                }
                Some(letter) if is_newline(letter) => {
                    self.newline();
                    lines.push(Line { start: self.at, text: String::new() });
                }
                Some(letter) => self.letter(letter, &mut last.text)?,
            }
        }
        self.dedented(lines, hashes)
    }

    fn dedented(&self, mut lines: Vec<Line>, hashes: usize) -> Result<String, Problem> {
        let Some(indent) = lines.pop() else { return Ok(String::new()) };
        let at = |line: &Line| {
            let rest = &self.text[line.start..];
            let end = line.start + rest.find(is_newline).unwrap_or(rest.len());
            Span { start: line.start + self.offset, end: end + self.offset }
        };
        if !indent.text.chars().all(is_space) {
            let help = "put the closing quotes on a line of their own";
            return Err(self.error_at(
                at(&indent),
                "text stands before the closing quotes",
                "this line",
                help,
            ));
        }
        let mut out = String::new();
        for (number, line) in lines.iter().enumerate() {
            if number > 0 {
                out.push('\n');
            }
            if line.text.chars().all(is_space) {
                continue;
            }
            let Some(text) = line.text.strip_prefix(&indent.text[..]) else {
                let help =
                    "indent each line at least as the closing quotes are, with the same blanks";
                return Err(self.error_at(
                    at(line),
                    "a line is indented less than the closing quotes",
                    "this line",
                    help,
                ));
            };
            if hashes > 0 {
                out.push_str(text);
                continue;
            }
            let place = line.start + self.offset;
            let mut inner = Parser { text, at: 0, offset: place, depth: 0, values: 0 };
            while let Some(letter) = inner.peek() {
                match letter {
                    '\\' => inner
                        .escape(&mut out)
                        .map_err(|problem| problem.at(at(line), "in this line"))?,
                    letter => inner.letter(letter, &mut out)?,
                }
            }
        }
        Ok(out)
    }

    fn never_closed(&self, open: Span) -> Problem {
        self.error_at(
            open,
            "a quote is never closed",
            "it opens here",
            "close it, with as many quotes and hashes as open it",
        )
    }

    /// Goes on behind the quotes and hashes that close a string, if they are next.
    fn closes(&mut self, quotes: &str, hashes: usize) -> bool {
        let rest = self.rest();
        let is_end = rest.strip_prefix(quotes).is_some_and(|rest| {
            rest.len() >= hashes && rest.as_bytes()[..hashes].iter().all(|byte| *byte == b'#')
        });
        if is_end {
            self.at += quotes.len() + hashes;
        }
        is_end
    }

    /// A letter of a string, as it is.
    fn letter(&mut self, letter: char, out: &mut String) -> Result<(), Problem> {
        if is_forbidden(letter) {
            let help = format!("write it as `\\u{{{:x}}}`", u32::from(letter));
            return Err(self.error("a character cannot stand as it is", "this character", &help));
        }
        out.push(letter);
        self.at += letter.len_utf8();
        Ok(())
    }

    /// A backslash and what it stands for.
    fn escape(&mut self, out: &mut String) -> Result<(), Problem> {
        let start = self.at;
        self.at += 1;
        let escaped = self.peek();
        self.at += escaped.map_or(0, char::len_utf8);
        let letter = match escaped {
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('s') => ' ',
            Some(letter @ ('"' | '\\')) => letter,
            Some('u') => {
                let digits =
                    self.take("{").then(|| self.take_while(|digit| digit.is_ascii_hexdigit()));
                let number = digits.filter(|digits| digits.len() <= 6 && self.take("}"));
                let letter = number.and_then(|digits| u32::from_str_radix(digits, 16).ok());
                letter.and_then(char::from_u32).ok_or_else(|| {
                    let help = "write one to six hexadecimal digits in braces: `\\u{e9}`";
                    self.error_at(self.span(start), "this is no character", "here", help)
                })?
            }
            Some(letter) if letter.is_whitespace() => {
                self.take_while(char::is_whitespace);
                return Ok(());
            }
            _ => {
                let help = "write a backslash as `\\\\`, or the text as #\"…\"#";
                return Err(self.error_at(
                    self.span(start),
                    "a backslash is before nothing that it escapes",
                    "here",
                    help,
                ));
            }
        };
        out.push(letter);
        Ok(())
    }

    /// One line break.
    fn newline(&mut self) -> bool {
        if self.take("\r\n") {
            return true;
        }
        match self.peek() {
            Some(letter) if is_newline(letter) => {
                self.at += letter.len_utf8();
                true
            }
            _ => false,
        }
    }

    /// What leaves out the next node, value or children.
    fn slashdash(&mut self) -> Result<bool, Problem> {
        let is_left_out = self.take("/-");
        if is_left_out {
            self.line_space()?;
        }
        Ok(is_left_out)
    }

    /// Blanks, comments and line breaks.
    fn line_space(&mut self) -> Result<(), Problem> {
        loop {
            let before = self.at;
            self.node_space()?;
            self.take_while(is_newline);
            if self.is_at("//") {
                self.line_comment();
            }
            if self.at == before {
                return Ok(());
            }
        }
    }

    /// Blanks, comments in a line, and line breaks after a backslash. Whether there were any.
    fn node_space(&mut self) -> Result<bool, Problem> {
        let start = self.at;
        loop {
            let before = self.at;
            self.take_while(is_space);
            if self.is_at("/*") {
                self.comment()?;
            }
            if self.is_at("\\") {
                self.escaped_line()?;
            }
            if self.at == before {
                return Ok(self.at > start);
            }
        }
    }

    fn escaped_line(&mut self) -> Result<(), Problem> {
        let backslash = self.here();
        self.at += 1;
        loop {
            let before = self.at;
            self.take_while(is_space);
            if self.is_at("/*") {
                self.comment()?;
            }
            if self.at == before {
                break;
            }
        }
        if self.is_at("//") {
            self.line_comment();
        } else if !self.newline() && self.peek().is_some() {
            let help = "end the line after it, or put the text into quotes";
            return Err(self.error_at(
                backslash,
                "a backslash is not the end of its line",
                "this backslash",
                help,
            ));
        }
        Ok(())
    }

    fn line_comment(&mut self) {
        self.take_while(|letter| !is_newline(letter));
        self.newline();
    }

    /// A comment, and those inside it.
    fn comment(&mut self) -> Result<(), Problem> {
        let open = Span { start: self.at + self.offset, end: self.at + self.offset + 2 };
        let mut depth = 0_usize;
        loop {
            if self.take("/*") {
                depth += 1;
            } else if self.take("*/") {
                depth -= 1;
                if depth == 0 {
                    return Ok(());
                }
            } else if let Some(letter) = self.peek() {
                self.at += letter.len_utf8();
                self.take_while(|letter| letter != '/' && letter != '*');
            } else {
                return Err(self.error_at(
                    open,
                    "a comment is never closed",
                    "it opens here",
                    "add a `*/`",
                ));
            }
        }
    }
}

/// A line of a text of several, where it starts in the parsed text.
struct Line {
    start: usize,
    text: String,
}

/// The value of a number; `None`: it is none.
fn number(word: &str) -> Option<Value> {
    let (sign, unsigned) = match word.as_bytes().first()? {
        b'-' => ("-", &word[1..]),
        b'+' => ("", &word[1..]),
        _ => ("", word),
    };
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        let Some(digits) = unsigned.strip_prefix(prefix) else { continue };
        let is_good = digits.starts_with(|first: char| first.is_digit(radix))
            && digits.chars().all(|digit| digit == '_' || digit.is_digit(radix));
        let digits = digits.replace('_', "");
        return is_good.then(|| whole(sign, &digits, radix));
    }
    let is_good = {
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        [whole, fraction, exponent].iter().all(|digits| {
            digits.starts_with(|first: char| first.is_ascii_digit())
                && digits.chars().all(|digit| digit == '_' || digit.is_ascii_digit())
        })
    };
    is_good.then(|| read_number(&format!("{sign}{}", unsigned.replace('_', ""))))
}

/// A whole number, as large as it may be.
fn whole(sign: &str, digits: &str, radix: u32) -> Value {
    if let Ok(number) = i64::from_str_radix(&format!("{sign}{digits}"), radix) {
        return Value::Int(number);
    }
    let size = digits.chars().filter_map(|digit| digit.to_digit(radix));
    let size = size.fold(0.0, |so_far, digit| so_far * f64::from(radix) + f64::from(digit));
    Value::Float(if sign == "-" { -size } else { size })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node as a line of its own kind: `(says)name args props { children }`, texts in quotes.
    fn shown(nodes: &[Node]) -> String {
        let says = |says: &Option<Key>| {
            says.as_ref().map_or_else(String::new, |says| format!("({})", says.value))
        };
        let one = |node: &Node| {
            let mut out = format!("{}{}", says(&node.says), node.name.value);
            for entry in &node.entries {
                let name =
                    entry.name.as_ref().map_or_else(String::new, |name| format!("{}=", name.value));
                out += &format!(" {name}{}{}", says(&entry.says), entry.value.to_json());
            }
            if let Some(children) = &node.children {
                out += &format!(" {{{}}}", shown(children));
            }
            out
        };
        nodes.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    #[track_caller]
    fn good(text: &str, expected: &str) {
        match parse(text, 0) {
            Ok(nodes) => assert_eq!(shown(&nodes), expected, "{text}"),
            Err(problem) => panic!("{problem:?}\n{text}"),
        }
    }

    #[track_caller]
    fn bad(text: &str, place: &str, why: &str) {
        let problem = parse(text, 0).expect_err(text);
        let span = problem.span.expect("a place");
        assert_eq!(&text[span.start..span.end], place, "{text}: {}", problem.message);
        assert!(problem.message.contains(why), "{text}: {}", problem.message);
    }

    #[test]
    fn nodes_end_with_lines_semicolons_and_braces() {
        good("a; b\nc 1 x=2 { d; e }\r\nf\u{2028}g", "a; b; c 1 x=2 {d; e}; f; g");
        good("a {}", "a {}");
        good("a{b}", "a {b}");
        good("a { b; }; c", "a {b}; c");
        good("(t)a (u)1 x=(v)2 ( w )3", "(t)a (u)1 x=(v)2 (w)3");
        good("a x = 1", "a x=1");
        good("a \\\n  1 \\ // more\n 2", "a 1 2");
        good("\"a b\" #\"c\"# =1", "a b c=1");
    }

    #[test]
    fn comments_and_what_is_left_out() {
        good("// a\n/* b /* c */ */ d /* e */ 1 // f\n", "d 1");
        good("/- a 1 { b }\nc /- 1 2 /- x=1 /- { d } { e } /- { f }", "c 2 {e}");
        good("/-\n\na\nb", "b");
        bad("/* a /* b */", "/*", "a comment is never closed");
        bad("a } b", "}", "a `}` closes nothing");
        bad("a {\n b {\n}\n", "{", "a brace is not closed");
        bad("a /- {} 1", "1", "does not go on");
        bad("a {} {}", "a {} {}", "children twice");
    }

    #[test]
    fn strings_are_words_quoted_raw_or_of_several_lines() {
        good("a b-c +d .e -- é", r#"a "b-c" "+d" ".e" "--" "é""#);
        good(r#"a "x\n\t\s\"\\\u{e9}\u{1F600}" "\     b""#, r#"a "x\n\t \"\\é😀" "b""#);
        good(r###"a #"x\n"y"# ##"a"#b"##"###, r##"a "x\\n\"y" "a\"#b""##);
        good("a \"\"\"\n    b\n      c\n\n    \\\"d\\\"\n    \"\"\"", r#"a "b\n  c\n\n\"d\"""#);
        good("a #\"\"\"\n b\\n\r\n \"\"\"#", r#"a "b\\n""#);
        good("a \"\"\"\n\"\"\"", r#"a """#);
        good("a \"\"\"\n  b \\\n     c\n  \"\"\"", r#"a "b c""#);
        bad("a \"b\nc\"", "\"", "not closed on its line");
        bad("a #\"b\"", "#\"", "never closed");
        bad("a \"\"\"b\"\"\"", "\"\"\"", "three quotes begin");
        bad("a \"\"\"\n b\n  \"\"\"", " b", "indented less");
        bad("a \"\"\"\né\n \"\"\"", "é", "indented less");
        bad("a \"\"\"\n b\"\"\"", " b\"\"\"", "before the closing quotes");
        bad(r#"a "\x""#, "\\x", "nothing that it escapes");
        bad(r#"a "\u{d800}""#, "\\u{d800}", "no character");
        bad(r#"a "\u{1234567}""#, "\\u{1234567", "no character");
        bad("a \"\u{7f}\"", "\u{7f}", "cannot stand as it is");
        bad("a true", "true", "needs a hash or quotes");
        bad("a b=", "b=", "has no value");
        bad("a\"b\"", "\"", "does not go on");
    }

    #[test]
    fn numbers_and_keywords() {
        good("a 1 -2 +3 1_000 1.50 -2.5e-3 1e3 1E+3", "a 1 -2 3 1000 1.5 -0.0025 1000.0 1000.0");
        good("a 0x1F -0x10 0o17 0b1_01 0xFFFFFFFFFFFFFFFF", "a 31 -16 15 5 1.8446744073709552e+19");
        good("a #true #false #null #inf #-inf #nan", "a true false null null null null");
        for text in ["1a", "0x", "1.", "1.e3", "1__0e", ".5", "-.5", "0xg", "1e", "1_", "0x_1"] {
            if text == "1_" {
                good("a 1_", "a 1");
            } else {
                bad(&format!("a {text}"), text, "none");
            }
        }
        bad("a #yes", "#yes", "before no value");
        bad("1 a", "1", "no name");
        bad("a 1 = 2", "=", "no value");
    }

    /// Each would take a parser that goes back or recurses without bounds a very long time.
    #[test]
    fn time_and_depth_are_bounded() {
        let deep = |text: &str| match parse(&text.repeat(200_000), 0) {
            Ok(nodes) => panic!("{text}: {} nodes", nodes.len()),
            Err(problem) => problem.code,
        };
        assert_eq!(deep("a{"), "spec::too-deep");
        assert_eq!(deep("/-a{"), "spec::too-deep");
        assert_eq!(deep("/*"), "spec::kdl-syntax");
        assert_eq!(deep("{{"), "spec::kdl-syntax");
        assert_eq!(deep("a /- b /- {"), "spec::too-deep");
        assert_eq!(parse(&"\"\"\"\n".repeat(200_000), 0).unwrap().len(), 100_000);
        assert_eq!(deep("#"), "spec::kdl-syntax");
        assert_eq!(deep("a \\"), "spec::kdl-syntax");
        assert!(parse(&"/*/**/*/".repeat(200_000), 0).unwrap().is_empty());
        let unclosed = format!("x \"{}", "a".repeat(200_000));
        assert!(parse(&unclosed, 0).is_err());
    }
}
