//! Strings with `{tokens}`: found once, filled in many times.
//!
//! Knows nothing of where values come from. `${...}` is the shell's, and a brace that names nothing
//! known stays as it is.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

/// The widest a formatted value can be; more is a slip that would eat memory.
const WIDEST: usize = 255;

/// One value of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'v> {
    Int(i64),
    /// As written.
    Text(&'v str),
}

/// How a token writes its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Plain,
    Int { zeros: bool, width: usize },
    Fixed { zeros: bool, width: usize, precision: usize },
}

/// A token whose name is known.
#[derive(Clone, Debug, PartialEq)]
struct Token {
    place: Range<usize>,
    axis: usize,
    style: Style,
}

/// A string whose tokens have been found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template<'t> {
    text: Cow<'t, str>,
    tokens: Vec<Token>,
}

/// Whether values are inserted as they are or so that a regex takes them literally.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Text,
    Regex,
}

impl<'t> Template<'t> {
    /// Finds the tokens whose names `axis` knows.
    ///
    /// # Errors
    /// A message about a format that does not exist.
    pub(crate) fn compile(
        text: &'t str,
        axis: impl Fn(&str) -> Option<usize>,
    ) -> Result<Self, String> {
        let mut tokens = Vec::new();
        for (place, name, format) in written_tokens(text) {
            if let Some(axis) = axis(name) {
                let style = style(format).ok_or_else(|| {
                    format!("`{}` has a format that does not exist", &text[place.clone()])
                })?;
                tokens.push(Token { place, axis, style });
            }
        }
        Ok(Self { text: Cow::Borrowed(text), tokens })
    }

    /// A string that is taken as it is.
    pub(crate) fn constant(text: &'t str) -> Self {
        Self { text: Cow::Borrowed(text), tokens: Vec::new() }
    }

    /// The text, when there is nothing to fill in.
    pub(crate) fn as_constant(&self) -> Option<&str> {
        self.tokens.is_empty().then_some(&self.text)
    }

    /// The text with its tokens filled in.
    ///
    /// # Errors
    /// A message about a value that does not fit its format.
    pub(crate) fn render<'v>(
        &self,
        value: impl Fn(usize) -> Value<'v>,
        target: Target,
    ) -> Result<Cow<'_, str>, String> {
        if self.tokens.is_empty() {
            return Ok(Cow::Borrowed(&self.text));
        }
        let mut out = String::with_capacity(self.text.len() + 8);
        let mut done = 0;
        for token in &self.tokens {
            out.push_str(&self.text[done..token.place.start]);
            done = token.place.end;
            let value = value(token.axis);
            let start = out.len();
            if write_value(&mut out, value, token.style).is_none() {
                let token = &self.text[token.place.clone()];
                return Err(format!(
                    "`{token}` needs a number, but its value is `{}`",
                    show(value)
                ));
            }
            if target == Target::Regex {
                let escaped = regex::escape(&out[start..]);
                out.replace_range(start.., &escaped);
            }
        }
        out.push_str(&self.text[done..]);
        Ok(Cow::Owned(out))
    }
}

fn show(value: Value<'_>) -> String {
    match value {
        Value::Int(number) => number.to_string(),
        Value::Text(text) => super::problems::excerpt(text),
    }
}

/// All `{name}` and `{name:format}` of a text that the shell does not own.
pub(crate) fn written_tokens(
    text: &str,
) -> impl Iterator<Item = (Range<usize>, &str, Option<&str>)> {
    text.match_indices('{').filter_map(|(start, _)| {
        if text[..start].ends_with('$') {
            return None;
        }
        let rest = &text[start + 1..];
        let name_end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        let name = &rest[..name_end];
        if !is_identifier(name) {
            return None;
        }
        let after = &rest[name_end..];
        if after.starts_with('}') {
            return Some((start..start + name_end + 2, name, None));
        }
        let format = after.strip_prefix(':')?;
        let format_end =
            format.find(['{', '}', '\n']).filter(|end| format[*end..].starts_with('}'))?;
        let end = start + 1 + name_end + 1 + format_end + 1;
        Some((start..end, name, Some(&format[..format_end])))
    })
}

/// Whether a name can stand in a token.
pub(crate) fn is_identifier(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// What to write in place of a name that is no identifier.
pub(crate) fn right_name(name: &str) -> String {
    let is_fine = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let meant: String =
        name.chars().map(|letter| if is_fine(letter) { letter } else { '_' }).collect();
    if is_identifier(&meant) && meant.len() <= 60 && meant.chars().any(|letter| letter != '_') {
        format!("write `{meant}`: a name has letters, digits and `_`, and no digit first")
    } else {
        "use letters, digits and `_`, not beginning with a digit".to_owned()
    }
}

/// `d`, `3d`, `03d`, `.2f`, `8.2f`, `08.2f`, `f`, `s` or nothing.
fn style(format: Option<&str>) -> Option<Style> {
    let format = match format {
        None | Some("s") => return Some(Style::Plain),
        Some(format) => format,
    };
    let bounded = |digits: &str| match digits {
        "" => Some(None),
        _ if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            digits.parse().ok().filter(|width| *width <= WIDEST).map(Some)
        }
        _ => None,
    };
    if let Some(width) = format.strip_suffix('d') {
        return Some(Style::Int {
            zeros: width.starts_with('0'),
            width: bounded(width)?.unwrap_or(0),
        });
    }
    let size = format.strip_suffix('f')?;
    let (width, precision) = match size.split_once('.') {
        Some((width, precision)) => (width, bounded(precision)??),
        // As in C and Python.
        None => (size, 6),
    };
    let zeros = width.starts_with('0');
    Some(Style::Fixed { zeros, width: bounded(width)?.unwrap_or(0), precision })
}

fn write_value(out: &mut String, value: Value<'_>, style: Style) -> Option<()> {
    match (style, value) {
        (Style::Plain, Value::Int(number)) => write!(out, "{number}").ok(),
        (Style::Plain, Value::Text(text)) => {
            out.push_str(text);
            Some(())
        }
        (Style::Int { zeros, width }, value) => {
            let number: i64 = match value {
                Value::Int(number) => number,
                Value::Text(text) => whole(text)?,
            };
            if zeros { write!(out, "{number:0width$}") } else { write!(out, "{number:width$}") }
                .ok()
        }
        (Style::Fixed { zeros, width, precision }, value) => {
            let number: f64 = match value {
                Value::Int(number) => number.to_string().parse().ok()?,
                Value::Text(text) => text.parse().ok()?,
            };
            if zeros {
                write!(out, "{number:0width$.precision$}")
            } else {
                write!(out, "{number:width$.precision$}")
            }
            .ok()
        }
    }
}

/// A whole number, also when written as `3.0`.
fn whole(text: &str) -> Option<i64> {
    let digits = text.split_once('.').map_or(text, |(digits, zeros)| {
        if zeros.bytes().all(|zero| zero == b'0') { digits } else { text }
    });
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str, target: Target) -> String {
        let values = [Value::Int(7), Value::Text("0.5"), Value::Text("a.b")];
        let axis = |name: &str| ["i", "x", "s"].iter().position(|known| *known == name);
        match Template::compile(text, axis) {
            Ok(template) => template
                .render(|axis| values[axis], target)
                .map_or_else(|error| format!("! {error}"), Cow::into_owned),
            Err(error) => format!("! {error}"),
        }
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(filled(text, Target::Text), expected, "{text}");
    }

    #[test]
    fn tokens_are_filled_in() {
        check("run {i} {x}", "run 7 0.5");
        check("{i:03d}_{i:d}_{i:3d}", "007_7_  7");
        check("{x:.2f} {i:.1f} {x:06.2f} {x:f}", "0.50 7.0 000.50 0.500000");
        check("{{i}}", "{7}");
        check("out_${files.input.f_{i}}", "out_${files.input.f_7}");
    }

    #[test]
    fn other_braces_stay() {
        for text in [
            "${i}",
            "awk '{print $1}'",
            "{\"i\": 1}",
            "{}",
            "{other}",
            "{1..3}",
            "{i",
            "{ i }",
            "a{3}",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn formats_that_do_not_fit_are_errors() {
        check("{i:xyz}", "! `{i:xyz}` has a format that does not exist");
        check("{i:}", "! `{i:}` has a format that does not exist");
        check("{i:0999999999d}", "! `{i:0999999999d}` has a format that does not exist");
        check("{s:03d}", "! `{s:03d}` needs a number, but its value is `a.b`");
        check("{x:d}", "! `{x:d}` needs a number, but its value is `0.5`");
    }

    #[test]
    fn values_in_a_regex_are_literal() {
        assert_eq!(filled("^{s}_.*$", Target::Regex), r"^a\.b_.*$");
    }
}
