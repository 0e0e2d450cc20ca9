//! Slurm's short forms for lists: host names (`node[1-4,07],a-[001-003]b[1,2]`) and counts of CPUs
//! (`8(x3),4`).
//!
//! Pure. What is expanded never has more entries than the caller allows, whatever the text says.

/// More nodes than any cluster has: what names more is no list of Slurm's.
pub(crate) const MOST_NODES: usize = 1 << 20;

/// A short form that cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostlistError {
    /// It is not written as Slurm writes it.
    #[error("`{text}` is no list that Slurm would write: {why}")]
    Malformed {
        /// The part that is wrong.
        text: String,
        /// Why.
        why: &'static str,
    },
    /// It stands for more than was allowed.
    #[error("a list of Slurm's stands for more than {limit} entries")]
    TooLong {
        /// What was allowed.
        limit: usize,
    },
}

fn malformed(text: &str, why: &'static str) -> HostlistError {
    HostlistError::Malformed { text: text.chars().take(80).collect(), why }
}

/// The host names that a hostlist expression stands for, in its order, repeats included.
///
/// # Errors
/// When it is malformed, or stands for more than `limit` names.
pub fn expand(list: &str, limit: usize) -> Result<Vec<String>, HostlistError> {
    let mut names = Vec::new();
    if list.trim().is_empty() {
        return Ok(names);
    }
    for item in split(list.trim())? {
        let room = limit - names.len();
        names.extend(expand_item(item, room).map_err(|error| match error {
            HostlistError::TooLong { .. } => HostlistError::TooLong { limit },
            HostlistError::Malformed { .. } => error,
        })?);
    }
    Ok(names)
}

/// At the commas that are not in brackets.
fn split(list: &str) -> Result<Vec<&str>, HostlistError> {
    let (mut items, mut start, mut is_inside) = (Vec::new(), 0, false);
    for (index, c) in list.char_indices() {
        match c {
            '[' if is_inside => return Err(malformed(list, "a bracket opens inside another")),
            ']' if !is_inside => return Err(malformed(list, "a bracket closes that never opened")),
            '[' => is_inside = true,
            ']' => is_inside = false,
            ',' if !is_inside => {
                items.push(&list[start..index]);
                start = index + 1;
            }
            c if c.is_whitespace() || c.is_control() => {
                return Err(malformed(list, "a host name has no blanks"));
            }
            _ => {}
        }
    }
    if is_inside {
        return Err(malformed(list, "a bracket never closes"));
    }
    items.push(&list[start..]);
    Ok(items)
}

/// One prefix, and brackets with what follows each.
fn expand_item(item: &str, limit: usize) -> Result<Vec<String>, HostlistError> {
    let mut parts = item.split('[');
    let mut names = vec![parts.next().unwrap_or_default().to_owned()];
    for part in parts {
        let Some((ranges, suffix)) = part.split_once(']') else {
            return Err(malformed(item, "a bracket never closes"));
        };
        // Checked before anything is made: three brackets can stand for very many.
        let numbers = expand_ranges(ranges, limit)?;
        if numbers.len().saturating_mul(names.len()) > limit {
            return Err(HostlistError::TooLong { limit });
        }
        let joined = names
            .iter()
            .flat_map(|name| numbers.iter().map(move |number| format!("{name}{number}{suffix}")));
        names = joined.collect();
    }
    if names.len() > limit {
        return Err(HostlistError::TooLong { limit });
    }
    if names.iter().any(String::is_empty) {
        return Err(malformed(item, "a host name is missing"));
    }
    Ok(names)
}

/// `1-4,07`: numbers keep the width of the first of their range.
fn expand_ranges(ranges: &str, limit: usize) -> Result<Vec<String>, HostlistError> {
    let mut found = Vec::new();
    for range in ranges.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Some(low), Some(high)) = (number(first), number(last)) else {
            return Err(malformed(range, "a range is two numbers with `-`"));
        };
        if high < low {
            return Err(malformed(range, "a range must not run backwards"));
        }
        let room = u64::try_from(limit - found.len()).unwrap_or(u64::MAX);
        if high - low >= room {
            return Err(HostlistError::TooLong { limit });
        }
        let width = first.len();
        found.extend((low..=high).map(|number| format!("{number:0width$}")));
    }
    Ok(found)
}

/// Longer ones are no numbers of hosts, and would not fit.
const LONGEST_NUMBER: usize = 18;

fn number(text: &str) -> Option<u64> {
    let is_number = (1..=LONGEST_NUMBER).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// A host name, cut at its last number.
#[derive(Clone, Copy)]
struct Numbered<'a> {
    prefix: &'a str,
    digits: &'a str,
    value: u64,
    suffix: &'a str,
}

fn cut(name: &str) -> Option<Numbered<'_>> {
    let end = name.rfind(|c: char| c.is_ascii_digit())? + 1;
    let start = name[..end]
        .rfind(|c: char| !c.is_ascii_digit())
        .map_or(0, |index| index + name[index..].chars().next().map_or(1, char::len_utf8));
    let start = start.max(end.saturating_sub(LONGEST_NUMBER));
    let digits = &name[start..end];
    Some(Numbered { prefix: &name[..start], digits, value: number(digits)?, suffix: &name[end..] })
}

/// A hostlist expression for these host names. It expands to exactly them, in their order: only
/// neighbours are drawn together.
pub fn compress<S: AsRef<str>>(names: &[S]) -> String {
    let mut items: Vec<String> = Vec::new();
    let mut rest = names;
    while let [first, ..] = rest {
        let first = first.as_ref();
        let group = match cut(first) {
            Some(start) => rest.iter().map_while(|name| alike(start, name.as_ref())).collect(),
            None => Vec::new(),
        };
        match group.as_slice() {
            [] | [_] => items.push(first.to_owned()),
            [start, ..] => {
                let ranges = ranges(&group);
                items.push(format!("{}[{ranges}]{}", start.prefix, start.suffix));
            }
        }
        rest = &rest[group.len().max(1)..];
    }
    items.join(",")
}

fn alike<'a>(start: Numbered<'_>, name: &'a str) -> Option<Numbered<'a>> {
    cut(name).filter(|found| found.prefix == start.prefix && found.suffix == start.suffix)
}

fn ranges(group: &[Numbered<'_>]) -> String {
    let mut found: Vec<String> = Vec::new();
    let mut rest = group;
    while let [first, ..] = rest {
        let width = first.digits.len();
        let run = rest.iter().zip(first.value..).take_while(|(host, expected)| {
            host.value == *expected && host.digits == format!("{expected:0width$}")
        });
        let length = run.count().max(1);
        let last = rest[length - 1];
        found.push(match length {
            1 => first.digits.to_owned(),
            _ => format!("{}-{}", first.digits, last.digits),
        });
        rest = &rest[length..];
    }
    found.join(",")
}

/// The CPUs of each node of an allocation, from SLURM_JOB_CPUS_PER_NODE (sbatch(1)): `8(x3),4`.
///
/// # Errors
/// When it is malformed, or stands for more than `limit` nodes.
pub fn cpus_per_node(text: &str, limit: usize) -> Result<Vec<u32>, HostlistError> {
    const WHY: &str = "counts of CPUs are numbers, each with `(xN)` where N nodes have it";
    let mut found = Vec::new();
    for item in text.trim().split(',') {
        let (cpus, repeat) = match item.split_once("(x") {
            Some((cpus, repeat)) => (cpus, repeat.strip_suffix(')').and_then(number)),
            None => (item, Some(1)),
        };
        let cpus = number(cpus).and_then(|cpus| u32::try_from(cpus).ok());
        let (Some(cpus), Some(repeat)) = (cpus, repeat.filter(|repeat| *repeat > 0)) else {
            return Err(malformed(item, WHY));
        };
        let repeat = usize::try_from(repeat).unwrap_or(usize::MAX);
        if repeat > limit - found.len() {
            return Err(HostlistError::TooLong { limit });
        }
        found.extend(std::iter::repeat_n(cpus, repeat));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1000;

    #[test]
    fn expressions_are_expanded() {
        let check = |list: &str, expected: &str| {
            assert_eq!(expand(list, LIMIT).unwrap().join(" "), expected, "{list}");
        };
        check("", "");
        check("node1", "node1");
        check("node[1-4,07]", "node1 node2 node3 node4 node07");
        check("a-[001-003]b[1,2],c", "a-001b1 a-001b2 a-002b1 a-002b2 a-003b1 a-003b2 c");
        check("n[8-11]", "n8 n9 n10 n11");
        check("n[08-11]", "n08 n09 n10 n11");
        check("r[1-2]n[1-2].site", "r1n1.site r1n2.site r2n1.site r2n2.site");
        check("b,a,b", "b a b");
        check("[1-3]", "1 2 3");
    }

    #[test]
    fn malformed_expressions_are_refused() {
        for list in [
            "node[1-4",
            "node1-4]",
            "node[[1]]",
            "node[]",
            "node[1-]",
            "node[a]",
            "node[4-1]",
            ",",
            "a,,b",
            "a,",
            "node 1",
            "node[1 - 2]",
            "node[1-2-3]",
            "node[-1]",
            "a\nb",
            "n[1-99999999999999999999]",
        ] {
            let found = expand(list, LIMIT);
            assert!(matches!(found, Err(HostlistError::Malformed { .. })), "{list}: {found:?}");
        }
    }

    #[test]
    fn expressions_that_stand_for_very_many_are_refused() {
        let too_long = Err(HostlistError::TooLong { limit: 4 });
        for list in
            ["n[1-5]", "n[1-2],m[1-3]", "n[1-2]m[1-3]", "n[0-999999999999999999]", "a,b,c,d,e"]
        {
            assert_eq!(expand(list, 4), too_long, "{list}");
        }
        assert_eq!(expand("n[1-2]m[1-2]", 4).unwrap().len(), 4);
        assert!(expand("n[1-9]n[1-9]n[1-9]n[1-9]n[1-9]n[1-9]n[1-9]n[1-9]", LIMIT).is_err());
    }

    #[test]
    fn neighbours_are_drawn_together() {
        let check = |names: &str, expected: &str| {
            let names: Vec<&str> = names.split_whitespace().collect();
            assert_eq!(compress(&names), expected);
        };
        check("", "");
        check("node1", "node1");
        check("login", "login");
        check("node1 node2 node3 node7", "node[1-3,7]");
        check("n8 n9 n10", "n[8-10]");
        check("n08 n09 n10 n011", "n[08-10,011]");
        check("n99 n100 n0101", "n[99-100,0101]");
        check("r1n1 r1n2 r2n1", "r1n[1-2],r2n1");
        check("a1 b1 a2", "a1,b1,a2");
        check("n2 n1 n1", "n[2,1,1]");
        check("n1.site n2.site", "n[1-2].site");
        check("é1 é2", "é[1-2]");
    }

    #[test]
    fn counts_of_cpus_are_expanded() {
        let check = |text: &str, expected: &[u32]| {
            assert_eq!(cpus_per_node(text, LIMIT).unwrap(), expected, "{text}");
        };
        check("8(x3),4", &[8, 8, 8, 4]);
        check("16", &[16]);
        check("2,4(x2),2\n", &[2, 4, 4, 2]);
        for text in ["", "8(x", "8(x)", "8(x0)", "x3", "8(3)", "8,", "-8", "4294967296"] {
            assert!(cpus_per_node(text, LIMIT).is_err(), "{text}");
        }
        assert_eq!(cpus_per_node("8(x9999999)", 5), Err(HostlistError::TooLong { limit: 5 }));
    }

    proptest! {
        #[test]
        fn what_is_compressed_expands_to_the_same(
            names in prop::collection::vec("[a-c]{0,1}-{0,1}[0-2]{1,3}(n[0-9]{1,2}){0,1}[ab]{0,1}|[xy]", 0..40),
        ) {
            let list = compress(&names);
            prop_assert_eq!(expand(&list, LIMIT).unwrap(), names, "{}", list);
        }

        #[test]
        fn runs_are_short_whatever_their_width(start in 0_u64..2000, length in 2_usize..300, width in 1_usize..6) {
            let names: Vec<String> =
                (start..).take(length).map(|n| format!("node{n:0width$}")).collect();
            let list = compress(&names);
            prop_assert!(list.len() <= "node[".len() + 2 * LONGEST_NUMBER + 2, "{list}");
            prop_assert_eq!(expand(&list, LIMIT).unwrap(), names);
        }

        #[test]
        fn no_words_make_it_panic(text in "\\PC*", list in "[a-b0-9\\[\\],\\-(x)]{0,40}") {
            for text in [text, list] {
                let found = expand(&text, 50);
                prop_assert!(found.is_err() || found.is_ok_and(|names| names.len() <= 50));
                let _ = cpus_per_node(&text, 50);
                let _ = compress(&[text]);
            }
        }
    }
}
