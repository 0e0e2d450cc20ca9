//! Parameters: what values they have, and in which combinations.
//!
//! Knows how values are written (ranges, lists, files of values, scalars), not what they are put
//! into. The order of the combinations is the order written, the last parameter fastest.

use std::rc::Rc;

use super::Sources;
use super::problems::{Problems, excerpt};
use super::template::{Value as Filled, is_identifier, right_name};
use super::tree::{Key, Node, Text, Value};
use crate::diagnostics::{Problem, Span};

/// More items than this are refused: the workflow would not fit into memory.
pub(crate) const MOST_ITEMS: u64 = 10_000_000;

/// The values of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values {
    /// Counted, not stored: a range can be long.
    Range {
        start: i64,
        step: i64,
        count: u64,
    },
    List(Vec<Box<str>>),
}

impl Values {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Range { count, .. } => *count,
            Self::List(values) => values.len() as u64,
        }
    }

    fn get(&self, index: u64) -> Filled<'_> {
        match self {
            Self::Range { start, step, .. } => {
                let offset = step.wrapping_mul(i64::try_from(index).unwrap_or(i64::MAX));
                Filled::Int(start.wrapping_add(offset))
            }
            Self::List(values) => {
                let index = usize::try_from(index).unwrap_or(usize::MAX);
                Filled::Text(values.get(index).map_or("", |text| text))
            }
        }
    }
}

/// How several parameters combine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Each with each.
    #[default]
    Product,
    /// The first with the first, the second with the second.
    Zip,
}

/// A parameter of an item, with its values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parameter {
    pub(crate) name: Key,
    pub(crate) values: Rc<Values>,
}

/// All the combinations of an item's parameters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Combinations {
    /// Each with the axis that it moves along.
    parameters: Vec<(Parameter, usize)>,
    /// The length of each axis; the last moves fastest.
    axes: Vec<u64>,
    count: u64,
}

impl Combinations {
    /// The one combination of no parameters.
    pub(crate) fn none() -> Self {
        Self { parameters: Vec::new(), axes: Vec::new(), count: 1 }
    }

    /// Combines groups of parameters. Those of one group have equally many values and move together:
    /// the columns of a table are such a group, and any other parameter is one by itself.
    ///
    /// # Errors
    /// The problem of lists that cannot be zipped, or of too many combinations.
    pub(crate) fn new(groups: Vec<Vec<Parameter>>, mode: Mode) -> Result<Self, Problem> {
        let lengths: Vec<u64> =
            groups.iter().map(|group| group.first().map_or(1, |p| p.values.len())).collect();
        let Some(first) = groups.iter().flatten().next() else {
            return Ok(Self::none());
        };
        let at = first.name.span;
        let axes = match mode {
            Mode::Product => lengths,
            Mode::Zip => {
                if lengths.iter().any(|length| *length != lengths[0]) {
                    return Err(cannot_zip(&groups));
                }
                vec![lengths[0]]
            }
        };
        let axis_of = |group: usize| if mode == Mode::Zip { 0 } else { group };
        let parameters = groups
            .into_iter()
            .enumerate()
            .flat_map(|(group, members)| members.into_iter().map(move |p| (p, axis_of(group))))
            .collect();
        let count = axes.iter().try_fold(1_u64, |count, length| count.checked_mul(*length));
        match count.filter(|count| *count <= MOST_ITEMS) {
            Some(count) => Ok(Self { parameters, axes, count }),
            None => Err(too_many(at)),
        }
    }

    pub(crate) fn is_single(&self) -> bool {
        self.parameters.is_empty()
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The place of a parameter among those of the item.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.parameters.iter().position(|(parameter, _)| &*parameter.name.value == name)
    }

    /// The value of a parameter in a combination.
    pub(crate) fn value(&self, combination: u64, position: usize) -> Filled<'_> {
        let (parameter, axis) = &self.parameters[position];
        let faster: u64 = self.axes[axis + 1..].iter().product();
        parameter.values.get(combination / faster.max(1) % self.axes[*axis].max(1))
    }
}

fn cannot_zip(groups: &[Vec<Parameter>]) -> Problem {
    let all = || groups.iter().flatten();
    let length = all().next().map_or(0, |first| first.values.len());
    let odd = all().find(|p| p.values.len() != length).or_else(|| all().next());
    let (at, count) = odd.map_or_else(Default::default, |p| (p.name.span, p.values.len()));
    let lengths: Vec<_> =
        all().map(|p| format!("`{}` has {}", p.name.value, p.values.len())).collect();
    let message = "parameters can only be zipped when they have equally many values";
    Problem::error("spec::bad-parameter", message)
        .at(at, format!("{count} values"))
        .help(format!("{}; make them equal", lengths.join(", ")))
}

/// The problem of a workflow that has no end.
pub(crate) fn too_many(at: Span) -> Problem {
    Problem::error("spec::too-many", format!("the parameters make more than {MOST_ITEMS} items"))
        .at(at, "with these parameters")
        .help("use fewer values, or split the workflow")
}

/// Reads the values of parameters; wrong ones are reported and left out.
pub(crate) fn read_all(
    entries: Vec<(Key, Node)>,
    sources: &dyn Sources,
    problems: &Problems<'_>,
) -> Vec<Parameter> {
    entries
        .into_iter()
        .filter_map(|(name, node)| {
            let problem = if is_identifier(&name.value) {
                match read(&node, sources, problems) {
                    Ok(values) => return Some(Parameter { name, values: Rc::new(values) }),
                    Err(problem) => problem,
                }
            } else {
                bad(name.span, "a parameter's name has only letters, digits and `_`", "this name")
                    .help(right_name(&name.value))
            };
            problems.push(problem);
            None
        })
        .collect()
}

fn bad(span: Span, message: impl Into<String>, label: &str) -> Problem {
    Problem::error("spec::bad-parameter", message).at(span, label)
}

fn read(node: &Node, sources: &dyn Sources, problems: &Problems<'_>) -> Result<Values, Problem> {
    let values = match &node.value {
        Value::Seq(items) => {
            let items: Result<_, _> = items.iter().map(|item| scalar(item, problems)).collect();
            Values::List(items?)
        }
        Value::Str(text) => from_text(&Text::new(text.clone(), node.span), sources)?,
        _ => Values::List(vec![scalar(node, problems)?]),
    };
    if values.len() == 0 {
        return Err(bad(node.span, "a parameter needs at least one value", "no value")
            .help("write for example `1:10` or `[a, b]`"));
    }
    if values.len() > MOST_ITEMS {
        return Err(too_many(node.span));
    }
    Ok(values)
}

/// A single value as it is written, so that `0.10` stays `0.10`.
pub(crate) fn scalar(node: &Node, problems: &Problems<'_>) -> Result<Box<str>, Problem> {
    match &node.value {
        Value::Str(text) => Ok(text.clone()),
        Value::Int(_) | Value::Float(_) => Ok(problems.written(node.span).into()),
        Value::Bool(flag) => Ok(flag.to_string().into()),
        _ => Err(Problem::error("spec::wrong-type", "a value must be text, a number or a boolean")
            .at(node.span, format!("this is {}", node.kind()))
            .help("write for example `1:10`, `[a, b]` or `[0.1, 0.2]`")),
    }
}

fn from_text(text: &Text, sources: &dyn Sources) -> Result<Values, Problem> {
    let (span, written) = (text.span, text.value.trim());
    if let Some(path) = written.strip_prefix('@') {
        return from_file(path.trim(), span, sources);
    }
    if let Some(inner) = written.strip_prefix('[') {
        let Some(inner) = inner.strip_suffix(']') else {
            return Err(bad(span, "the list is not closed", "a `]` is missing")
                .help("write a list as `[a, b, c]`"));
        };
        return Ok(Values::List(split_list(inner)));
    }
    match range(written) {
        Some(Ok(values)) => Ok(values),
        Some(Err(why)) => Err(bad(span, why, "this range")
            .help("a range is `first:last` or `first:last:step`, such as `1:10` or `10:1:-1`")),
        None => Ok(Values::List(vec![text.value.clone()])),
    }
}

fn from_file(path: &str, span: Span, sources: &dyn Sources) -> Result<Values, Problem> {
    let fail = |why: String| {
        Problem::error("spec::bad-source", format!("`{}` cannot be read: {why}", excerpt(path)))
            .at(span, "this file of values")
            .help("the path is relative to the spec's folder, else to the current one")
    };
    let bytes = sources.read(path).map_err(fail)?;
    let text = String::from_utf8(bytes).map_err(|_| fail("it is not UTF-8 text".to_owned()))?;
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    Ok(Values::List(lines.filter(|line| !line.is_empty()).map(Into::into).collect()))
}

/// Splits at commas outside quotes, and removes the quotes.
fn split_list(text: &str) -> Vec<Box<str>> {
    let (mut items, mut start, mut quote) = (Vec::new(), 0, None);
    for (at, letter) in text.char_indices() {
        match (letter, quote) {
            ('"' | '\'', None) if text[start..at].trim().is_empty() => quote = Some(letter),
            (_, Some(open)) if open == letter => quote = None,
            (',', None) => {
                items.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    let last = &text[start..];
    if !(last.trim().is_empty()) {
        items.push(last);
    }
    items.into_iter().map(|item| unquoted(item.trim()).into()).collect()
}

fn unquoted(text: &str) -> &str {
    ['"', '\'']
        .iter()
        .find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))
        .unwrap_or(text)
}

/// A range, when the text is one; why it is wrong, when it is a wrong one.
fn range(text: &str) -> Option<Result<Values, String>> {
    let parts: Vec<_> = text.split(':').map(str::trim).collect();
    let (first, last, step) = match parts[..] {
        [first, last] => (first, last, "1"),
        [first, last, step] => (first, last, step),
        _ => return None,
    };
    let int = |part: &str| part.parse::<i64>().ok();
    if let (Some(first), Some(last), Some(step)) = (int(first), int(last), int(step)) {
        return Some(int_range(first, last, step));
    }
    float_range(first, last, step)
}

fn int_range(start: i64, end: i64, step: i64) -> Result<Values, String> {
    if step == 0 {
        return Err("a range cannot have the step 0".to_owned());
    }
    let distance = (i128::from(end) - i128::from(start)) * i128::from(step.signum());
    if distance < 0 {
        return Err(format!("the range from {start} to {end} by {step} is empty"));
    }
    let count = distance / i128::from(step).abs() + 1;
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    Ok(Values::Range { start, step, count })
}

fn float_range(first: &str, last: &str, step: &str) -> Option<Result<Values, String>> {
    // Nearly the last value counts as the last: 0.1 * 3 is a little more than 0.3.
    const SLACK: f64 = 1e-9;
    let float = |part: &str| {
        let starts = part.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
        part.parse::<f64>().ok().filter(|number| starts && number.is_finite())
    };
    let (start, end, by) = (float(first)?, float(last)?, float(step)?);
    if by == 0.0 {
        return Some(Err("a range cannot have the step 0".to_owned()));
    }
    let steps = ((end - start) / by + SLACK).floor();
    if steps < 0.0 {
        return Some(Err(format!("the range from {first} to {last} by {step} is empty")));
    }
    let most = 10_000_000.0;
    if steps > most {
        return Some(Ok(Values::Range { start: 0, step: 1, count: u64::MAX }));
    }
    let decimals = decimals(first).max(decimals(step));
    let mut values = Vec::new();
    let mut index = 0.0;
    while index <= steps {
        values.push(written_float(start + index * by, decimals));
        index += 1.0;
    }
    Some(Ok(Values::List(values)))
}

/// Digits after the point that a value of the range can need.
fn decimals(text: &str) -> usize {
    // The smallest float has 324 decimals, and no number has more than 17 digits beside.
    const MOST: usize = 341;
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let digits = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let shift: i64 = exponent.parse().unwrap_or(0);
    let needed = i64::try_from(digits).unwrap_or(0).saturating_sub(shift).max(0);
    usize::try_from(needed).unwrap_or(MOST).min(MOST)
}

fn written_float(number: f64, decimals: usize) -> Box<str> {
    let text = format!("{number:.decimals$}");
    let short =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if short == "-0" { "0".into() } else { short.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::spec::tests::Files;

    fn values(text: &str) -> String {
        let text = Text::new(text.into(), Span::default());
        let files = Files(vec![("v.txt", "a\r\n\n b c \n")]);
        match from_text(&text, &files) {
            Ok(values) => (0..values.len().min(20))
                .map(|index| match values.get(index) {
                    Filled::Int(number) => number.to_string(),
                    Filled::Text(text) => text.to_owned(),
                })
                .collect::<Vec<_>>()
                .join("|"),
            Err(problem) => format!("! {}", problem.message),
        }
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(values(text), expected, "{text}");
    }

    #[test]
    fn ranges_are_inclusive() {
        check("1:4", "1|2|3|4");
        check("0:10:5", "0|5|10");
        check("0:9:5", "0|5");
        check("3:1:-1", "3|2|1");
        check("-2:2:2", "-2|0|2");
        check("7:7", "7");
        check("0:0.3:0.1", "0|0.1|0.2|0.3");
        check("1:0:-0.5", "1|0.5|0");
        check("1e-3:3e-3:1e-3", "0.001|0.002|0.003");
        check("0.5:2.5", "0.5|1.5|2.5");
        check("9223372036854775806:9223372036854775807", "9223372036854775806|9223372036854775807");
    }

    #[test]
    fn lists_files_and_scalars() {
        check("[a, b c, 'd, e', \"f\", 0.10]", "a|b c|d, e|f|0.10");
        check("@v.txt", "a|b c");
        check("hello", "hello");
        check("localhost:80", "localhost:80");
        check("1:2:3:4", "1:2:3:4");
    }

    #[test]
    fn wrong_values_are_explained() {
        check("4:1", "! the range from 4 to 1 by 1 is empty");
        check("1:4:0", "! a range cannot have the step 0");
        check("0:1:0.0", "! a range cannot have the step 0");
        check("[a, b", "! the list is not closed");
        check("@no.txt", "! `no.txt` cannot be read: no such file");
    }

    fn parameter(name: &str, values: &[&str]) -> Parameter {
        let values = Values::List(values.iter().map(|value| (*value).into()).collect());
        Parameter { name: Key::new(name.into(), Span::default()), values: Rc::new(values) }
    }

    fn combined(mode: Mode, parameters: Vec<Parameter>) -> String {
        let count = parameters.len();
        let groups = parameters.into_iter().map(|parameter| vec![parameter]).collect();
        match Combinations::new(groups, mode) {
            Err(problem) => problem.help.unwrap_or(problem.message),
            Ok(all) => (0..all.count())
                .map(|k| {
                    (0..count)
                        .map(|p| match all.value(k, p) {
                            Filled::Text(text) => text.to_owned(),
                            Filled::Int(number) => number.to_string(),
                        })
                        .collect::<String>()
                })
                .collect::<Vec<_>>()
                .join(" "),
        }
    }

    #[test]
    fn combinations_run_the_last_fastest() {
        let both = || vec![parameter("a", &["1", "2"]), parameter("b", &["x", "y"])];
        assert_eq!(combined(Mode::Product, both()), "1x 1y 2x 2y");
        assert_eq!(combined(Mode::Zip, both()), "1x 2y");
        let odd = vec![parameter("a", &["1", "2"]), parameter("b", &["x"])];
        assert_eq!(combined(Mode::Zip, odd), "`a` has 2, `b` has 1; make them equal");
        let huge = Values::Range { start: 0, step: 1, count: 4_000_000 };
        let name = Key::new("a".into(), Span::default());
        let huge = Parameter { name, values: Rc::new(huge) };
        assert!(combined(Mode::Product, vec![huge.clone(), huge]).contains("split"));
    }

    proptest! {
        #[test]
        fn a_range_is_what_counting_gives(
            start in -1000_i64..1000, end in -1000_i64..1000, step in -50_i64..50,
        ) {
            let mut expected = Vec::new();
            let mut next = start;
            while step != 0 && (if step > 0 { next <= end } else { next >= end }) {
                expected.push(Filled::Int(next));
                next += step;
            }
            match range(&format!("{start}:{end}:{step}")) {
                Some(Ok(values)) => {
                    let found: Vec<_> = (0..values.len()).map(|index| values.get(index)).collect();
                    prop_assert_eq!(found, expected);
                }
                _ => prop_assert!(expected.is_empty()),
            }
        }

        #[test]
        fn a_range_of_tenths_is_exact(start in -100_i32..100, count in 0_i32..50) {
            let tenth = |n: i32| f64::from(n) / 10.0;
            let text = format!("{}:{}:0.1", tenth(start), tenth(start + count));
            let Some(Ok(Values::List(found))) = range(&text) else {
                panic!("{text}");
            };
            let expected: Vec<Box<str>> =
                (start..=start + count).map(|n| tenth(n).to_string().into()).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn no_text_breaks_the_reader(text in ".{0,40}", numbers in "[-+0-9.e:]{0,30}") {
            values(&text);
            values(&numbers);
        }
    }
}
