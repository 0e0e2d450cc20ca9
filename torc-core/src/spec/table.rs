//! Parameter tables: .csv, .json (an array of objects) and .jsonl (an object a line).
//!
//! Knows nothing of items; a row is a combination. Values are kept as written.

use std::collections::HashSet;

use std::rc::Rc;

use super::Sources;
use super::json::{self, Dialect};
use super::parameters::{MOST_ITEMS, Parameter, Values, scalar};
use super::problems::{Problems, excerpt};
use super::template::is_identifier;
use super::tree::{Key, Node, Text, Value};
use crate::diagnostics::Problem;

/// Column names, and rows of as many values.
#[derive(Debug, Default, PartialEq)]
struct Table {
    columns: Vec<Box<str>>,
    rows: Vec<Vec<Box<str>>>,
}

/// The columns of a table as parameters that move together; `None` when a problem was reported.
pub(crate) fn read(
    path: &Text,
    sources: &dyn Sources,
    problems: &Problems<'_>,
) -> Option<Vec<Parameter>> {
    let text = sources.read(&path.value).map_err(|why| {
        (why, "the path is relative to the spec's folder, else to the current one".to_owned())
    });
    let table = text.and_then(|text| {
        content(&path.value, text).map_err(|why| (why, right_form(&path.value).to_owned()))
    });
    match table {
        Ok(table) => Some(columns(table, path)),
        Err((why, help)) => {
            let message = format!("the table `{}` cannot be used: {why}", excerpt(&path.value));
            let problem = Problem::error("spec::bad-table", message);
            problems.push(problem.at(path.span, "this table").help(help));
            None
        }
    }
}

fn extension(path: &str) -> String {
    path.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default()
}

/// What a table of this name has to be like.
fn right_form(path: &str) -> &'static str {
    match extension(path).as_str() {
        "csv" => {
            "its first line names the columns, and each other line has as many values; one with a comma \
             stands in double quotes"
        }
        "json" => {
            "write an array of objects with the same keys, such as `[{\"a\": 1}, {\"a\": 2}]`"
        }
        "jsonl" => "write an object a line, each with the same keys, such as `{\"a\": 1}`",
        _ => "name it by what it is, such as `runs.csv`",
    }
}

fn columns(table: Table, path: &Text) -> Vec<Parameter> {
    let mut values: Vec<Vec<Box<str>>> = vec![Vec::new(); table.columns.len()];
    for row in table.rows {
        for (column, value) in values.iter_mut().zip(row) {
            column.push(value);
        }
    }
    let parameter = |(name, values)| Parameter {
        name: Key::new(name, path.span),
        values: Rc::new(Values::List(values)),
    };
    table.columns.into_iter().zip(values).map(parameter).collect()
}

fn content(path: &str, bytes: Vec<u8>) -> Result<Table, String> {
    let read: fn(&str) -> Result<Table, String> = match extension(path).as_str() {
        "csv" => from_csv,
        "json" => from_json,
        "jsonl" => from_jsonl,
        _ => return Err("its name must end in .csv, .json or .jsonl".to_owned()),
    };
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text")?;
    let table = read(text.strip_prefix('\u{feff}').unwrap_or(&text))?;
    let mut known = HashSet::new();
    for name in &table.columns {
        if !is_identifier(name) {
            let name = excerpt(name);
            return Err(format!("the column `{name}` must have only letters, digits and `_`"));
        }
        if !known.insert(name) {
            return Err(format!("it has two columns `{name}`"));
        }
    }
    match table.rows.len() as u64 {
        0 => Err("it has no rows".to_owned()),
        rows if rows > MOST_ITEMS => Err(format!("it has more than {MOST_ITEMS} rows")),
        _ => Ok(table),
    }
}

/// Comma-separated values as in RFC 4180; the first line names the columns.
fn from_csv(text: &str) -> Result<Table, String> {
    let mut table = Table::default();
    let mut rest = text;
    let mut line = 1;
    while !rest.is_empty() {
        let (record, length) = csv_record(rest).ok_or(format!("line {line} has an open quote"))?;
        let newlines = rest[..length].matches('\n').count();
        rest = &rest[length..];
        let is_blank = record.len() == 1 && record[0].trim().is_empty();
        if !is_blank && table.columns.is_empty() {
            table.columns = record.iter().map(|name| name.trim().into()).collect();
        } else if !is_blank {
            let (found, expected) = (record.len(), table.columns.len());
            if found != expected {
                return Err(format!("line {line} has {found} values, but the header {expected}"));
            }
            table.rows.push(record);
        }
        line += newlines;
    }
    Ok(table)
}

/// The fields of the first record, and how many bytes it takes with its line end.
fn csv_record(text: &str) -> Option<(Vec<Box<str>>, usize)> {
    let (mut fields, mut at) = (Vec::new(), 0);
    loop {
        let rest = &text[at..];
        let mut field = String::new();
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut inner = quoted;
            loop {
                let end = inner.find('"')?;
                field.push_str(&inner[..end]);
                inner = &inner[end + 1..];
                let Some(more) = inner.strip_prefix('"') else { break };
                field.push('"');
                inner = more;
            }
            at = text.len() - inner.len();
        }
        let rest = &text[at..];
        let end = rest.find([',', '\n']).unwrap_or(rest.len());
        let is_last = !rest[end..].starts_with(',');
        let plain = &rest[..end];
        field.push_str(if is_last { plain.trim_end_matches('\r') } else { plain });
        fields.push(field.into());
        at += end + usize::from(end < rest.len());
        if is_last {
            return Some((fields, at));
        }
    }
}

fn from_json(text: &str) -> Result<Table, String> {
    let problems = Problems::new(text);
    let tree = json::parse(text, 0, Dialect::Json, &problems);
    let Some(Node { value: Value::Seq(rows), .. }) = tree.filter(|_| !problems.failed()) else {
        return Err(first_message(problems, "it must be an array of objects"));
    };
    let mut table = Table::default();
    for (index, row) in rows.iter().enumerate() {
        add_row(&mut table, row, &problems).map_err(|why| format!("row {} {why}", index + 1))?;
    }
    Ok(table)
}

fn from_jsonl(text: &str) -> Result<Table, String> {
    let mut table = Table::default();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let problems = Problems::new(line);
        let row = json::parse(line, 0, Dialect::Json, &problems).filter(|_| !problems.failed());
        let added = match &row {
            Some(row) => add_row(&mut table, row, &problems),
            None => Err(first_message(problems, "is not an object")),
        };
        added.map_err(|why| format!("line {} {why}", index + 1))?;
    }
    Ok(table)
}

fn first_message(problems: Problems<'_>, otherwise: &str) -> String {
    let first = problems.finish().into_iter().next();
    first.map_or(otherwise.to_owned(), |problem| format!("has a mistake: {}", problem.message))
}

/// Adds an object as a row; the first one names the columns.
fn add_row(table: &mut Table, row: &Node, problems: &Problems<'_>) -> Result<(), String> {
    let Value::Map(entries) = &row.value else {
        return Err("is not an object".to_owned());
    };
    if table.columns.is_empty() {
        table.columns = entries.iter().map(|(key, _)| key.value.clone()).collect();
    }
    if entries.len() != table.columns.len() {
        return Err("does not have the same keys as the first".to_owned());
    }
    let values: Result<Vec<_>, String> = table
        .columns
        .iter()
        .map(|column| {
            let value = row.get(column).ok_or(format!("has no `{column}`"))?;
            scalar(value, problems)
                .map_err(|problem| format!("has a bad `{column}`: {}", problem.message))
        })
        .collect();
    table.rows.push(values?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(name: &'static str, text: &'static str) -> String {
        match content(name, text.as_bytes().to_vec()) {
            Ok(table) => {
                let rows: Vec<String> = table.rows.iter().map(|row| row.join("|")).collect();
                format!("{}: {}", table.columns.join("|"), rows.join(" / "))
            }
            Err(why) => format!("! {why}"),
        }
    }

    #[test]
    fn csv_is_that_of_the_rfc() {
        let check = |text, expected: &str| assert_eq!(shown("t.csv", text), expected);
        check("a,b\r\n1,0.10\r\n\r\n2,x\r\n", "a|b: 1|0.10 / 2|x");
        check("a , b\n\"x, \"\"y\"\"\nz\",\n", "a|b: x, \"y\"\nz|");
        check("a\n1", "a: 1");
        check("a,b\n1\n", "! line 2 has 1 values, but the header 2");
        check("a\n\"1\n", "! line 2 has an open quote");
        check("a,a\n1,2\n", "! it has two columns `a`");
        check("a b\n1\n", "! the column `a b` must have only letters, digits and `_`");
        check("a\n", "! it has no rows");
        check("", "! it has no rows");
    }

    #[test]
    fn json_tables_have_equal_rows() {
        let check = |text, expected: &str| assert_eq!(shown("t.json", text), expected);
        check(r#"[{"a": 1, "b": "x"}, {"b": 0.10, "a": true}]"#, "a|b: 1|x / true|0.10");
        check(r#"[{"a": 1}, {"b": 2}]"#, "! row 2 has no `a`");
        check(
            r#"[{"a": 1}, {"a": 2, "b": 2}]"#,
            "! row 2 does not have the same keys as the first",
        );
        check(
            r#"[{"a": [1]}]"#,
            "! row 1 has a bad `a`: a value must be text, a number or a boolean",
        );
        check("{}", "! it must be an array of objects");
        assert!(shown("t.json", "[").starts_with("! has a mistake: this is not valid JSON"));
        let lines = shown("t.jsonl", "{\"a\": 1}\n\n{\"a\": 2}\n");
        assert_eq!(lines, "a: 1 / 2");
        assert_eq!(shown("t.jsonl", "{\"a\": 1}\n3\n"), "! line 2 is not an object");
        assert_eq!(shown("t.txt", ""), "! its name must end in .csv, .json or .jsonl");
    }

    proptest! {
        #[test]
        fn no_text_breaks_a_table(text in r#"[a,"\n\r{}:1 é\[\]]{0,40}"#) {
            for read in [from_csv, from_json, from_jsonl] {
                if let Ok(table) = read(&text) {
                    prop_assert!(table.rows.iter().all(|row| row.len() == table.columns.len()));
                }
            }
        }
    }
}
