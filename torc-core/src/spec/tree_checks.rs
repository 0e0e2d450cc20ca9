//! What every format refuses alike: a key that is there twice, and nesting without end.

use std::collections::HashMap;

use super::problems::{Problems, excerpt};
use super::tree::{Key, MAX_DEPTH, Node};
use crate::diagnostics::{Problem, Span};

/// Reports keys that a map has twice, and keeps the first of each.
pub(crate) fn reject_duplicates(entries: &mut Vec<(Key, Node)>, problems: &Problems<'_>) {
    // Most maps are small: comparing is cheaper than hashing.
    const SMALL: usize = 12;
    let mut repeated = Vec::new();
    if entries.len() <= SMALL {
        for (index, (key, _)) in entries.iter().enumerate() {
            let earlier = entries[..index].iter().find(|(known, _)| known.value == key.value);
            if let Some((first, _)) = earlier {
                repeated.push((index, first.span));
            }
        }
    } else {
        let mut first_places: HashMap<&str, Span> = HashMap::with_capacity(entries.len());
        for (index, (key, _)) in entries.iter().enumerate() {
            if let Some(first) = first_places.get(&*key.value) {
                repeated.push((index, *first));
            } else {
                first_places.insert(&key.value, key.span);
            }
        }
    }
    for (index, first) in repeated.into_iter().rev() {
        let (key, _) = entries.remove(index);
        let message = format!("the key `{}` is given twice", excerpt(&key.value));
        problems.push(
            Problem::error("spec::duplicate-key", message)
                .at(key.span, "for the second time")
                .help(format!("the first is on line {}; keep one", problems.line(first))),
        );
    }
}

/// The problem of a document that nests too deeply.
pub(crate) fn too_deep(span: Span) -> Problem {
    Problem::error("spec::too-deep", format!("the file nests deeper than {MAX_DEPTH} levels"))
        .at(span, "too deep")
        .help("a workflow needs fewer than ten; look for a bracket that is not closed")
}
