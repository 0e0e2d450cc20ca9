//! What was probably meant by JSON that cannot be read: where to point, and what to write instead.
//!
//! Knows what the parser said and the text at that place; never decides whether a text is JSON.

use std::ops::Range;

use jsonc_parser::errors::{ParseError, ParseErrorKind as Kind};

use super::problems::verbatim;

/// The place of a mistake in bytes of the text, a few words beside it, and what to do.
#[derive(Debug)]
pub(crate) struct Advice {
    pub(crate) place: Range<usize>,
    pub(crate) label: &'static str,
    pub(crate) help: String,
}

/// What to say of the parser's error beside its own words.
pub(crate) fn advice(text: &str, error: &ParseError) -> Advice {
    let range = error.range();
    let place = range.start.min(text.len())..range.end.clamp(range.start, text.len());
    let written = text.get(place.clone()).unwrap_or_default();
    // Of what goes on over lines, its beginning is enough.
    let first = place.start..place.start + written.chars().next().map_or(0, char::len_utf8);
    let of = |place: Range<usize>, label, help: String| Advice { place, label, help };
    const NEEDS_JSON5: &str = "or name the file `.json5`, where this is allowed";
    match error.kind() {
        Kind::ExpectedComma if number_with_zero(text, place.start) => {
            of(place, "goes on", "write the number without the zero that it begins with".into())
        }
        Kind::ExpectedComma => {
            of(place, "a comma is missing", "write `,` before the next entry".into())
        }
        Kind::TrailingCommasNotAllowed => {
            of(place, "nothing follows", format!("remove this comma, {NEEDS_JSON5}"))
        }
        Kind::CommentsNotAllowed => of(place, "a comment", format!("remove it, {NEEDS_JSON5}")),
        Kind::SingleQuotedStringsNotAllowed => {
            of(place, "single quotes", format!("write double quotes, {NEEDS_JSON5}"))
        }
        Kind::ExpectedStringObjectProperty if is_word(written) => {
            of(place, "needs quotes", format!("write `\"{written}\"`, {NEEDS_JSON5}"))
        }
        Kind::UnexpectedToken | Kind::UnexpectedWord if is_word(written) => {
            of(place, "not a value", format!("write `{}`", value_meant(written)))
        }
        Kind::ExpectedColonAfterObjectKey => {
            of(place, "a colon is missing", "write `:` between a name and its value".into())
        }
        Kind::UnexpectedComma | Kind::ExpectedObjectValue => of(
            place,
            "a value is missing",
            "write the value before this, or remove the name".into(),
        ),
        Kind::UnterminatedObject => {
            of(first, "opened here, never closed", "write `}` where it ends".into())
        }
        Kind::UnterminatedArray => {
            of(first, "opened here, never closed", "write `]` where it ends".into())
        }
        Kind::UnterminatedCommentBlock => {
            of(first, "opened here, never closed", "write `*/` where it ends".into())
        }
        Kind::UnexpectedCloseBrace | Kind::UnexpectedCloseBracket => {
            of(place, "closes nothing", "remove it, or write the one that it closes".into())
        }
        Kind::MultipleRootJsonValues if matches!(written, "}" | "]") => {
            of(place, "closes nothing", "remove it: what it would close is closed already".into())
        }
        Kind::MultipleRootJsonValues => of(
            first,
            "behind the end of the spec",
            "a file has one spec: remove what follows it".into(),
        ),
        Kind::String(_) if written.starts_with('\\') => {
            let help = format!("write `\\{written}` for a backslash");
            of(place, "an unknown escape", help)
        }
        Kind::String(_) => of(first, "opened here, never closed", close_quote(written)),
        Kind::HexadecimalNumbersNotAllowed
        | Kind::NonFiniteNumbersNotAllowed
        | Kind::UnaryPlusNumbersNotAllowed
        | Kind::BareDecimalPointNumbersNotAllowed => {
            of(place, "this number", "write it as `16`, `-1` or `0.5`".into())
        }
        _ => of(place, "here", "look at the commas, quotes and brackets around this place".into()),
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|letter| letter.is_alphanumeric() || "_-.".contains(letter))
}

/// The value of JSON that a word is in another language, else the word in quotes.
fn value_meant(word: &str) -> String {
    match word.to_ascii_lowercase().as_str() {
        known @ ("true" | "false" | "null") => known.to_owned(),
        "none" | "nil" => "null".to_owned(),
        _ => format!("\"{word}\""),
    }
}

/// Whether a number goes on here whose first digit is a zero.
fn number_with_zero(text: &str, at: usize) -> bool {
    text[..at].ends_with('0') && text[at..].starts_with(|next: char| next.is_ascii_digit())
}

fn close_quote(written: &str) -> String {
    let quote = written.chars().next().filter(|first| matches!(first, '"' | '\'')).unwrap_or('"');
    let first_line = written.lines().next().unwrap_or_default();
    let inner = first_line.trim_end_matches([',', '}', ']', ' ']);
    if inner.len() <= 1 {
        return format!("write `{quote}` where it ends");
    }
    format!("write `{quote}` where it ends, such as `{}{quote}`", verbatim(inner))
}

#[cfg(test)]
mod tests {
    use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

    use super::*;

    #[track_caller]
    fn check(text: &str, place: &str, expected: &str) {
        let strict = ParseOptions {
            allow_comments: false,
            allow_loose_object_property_names: false,
            allow_trailing_commas: false,
            allow_missing_commas: false,
            allow_single_quoted_strings: false,
            allow_hexadecimal_numbers: false,
            allow_unary_plus_numbers: false,
            allow_bare_decimal_point_numbers: false,
            allow_non_finite_numbers: false,
            allow_extended_string_escapes: false,
        };
        let error = parse_to_ast(text, &CollectOptions::default(), &strict).err().expect("wrong");
        let advice = advice(text, &error);
        assert_eq!(&text[advice.place.clone()], place, "{text}");
        assert!(advice.help.starts_with(expected), "{text}: {}", advice.help);
    }

    #[test]
    fn each_mistake_has_its_own_advice() {
        check("{\"a\": 1 \"b\": 2}", "", "write `,` before");
        check("{\"a\": 1,}", ",", "remove this comma, or name the file `.json5`");
        check("{\"a\": 1} // x", "// x", "remove it, or name the file");
        check("{'a': 1}", "'", "write double quotes");
        check("{a: 1}", "a", "write `\"a\"`");
        check("{\"a\": True}", "True", "write `true`");
        check("{\"a\": None}", "None", "write `null`");
        check("{\"a\": x}", "x", "write `\"x\"`");
        check("{\"a\" 1}", "1", "write `:`");
        check("{\"a\": ,}", ",", "write the value before this");
        check("{\"a\": [1]", "{", "write `}`");
        check("{\"a\": [1", "[", "write `]`");
        check("{\"a\": 1}}", "}", "remove it");
        check("{\"a\": 1} {}", "{", "a file has one spec");
        check("{\"a\": \"\\d\"}", "\\d", "write `\\\\d` for a backslash");
        check("{\"a\": \"x}", "\"", "write `\"` where it ends, such as `\"x\"`");
        check("{\"a\": 01}", "", "write the number without the zero");
        check("{\"a\": +1}", "+", "write it as");
    }
}
