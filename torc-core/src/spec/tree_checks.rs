//! What every format refuses alike: a key that is there twice, and nesting without end.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::problems::{Problems, excerpt};
use super::tree::{Key, MAX_DEPTH, MOST_NODES, Node};
use crate::diagnostics::{Problem, Span};

/// Reports keys that a map has twice, and keeps the first of each.
pub(crate) fn reject_duplicates(entries: &mut Vec<(Key, Node)>, problems: &Problems<'_>) {
    // Most maps are small: comparing is cheaper than hashing.
    const SMALL: usize = 12;
    let mut repeated: Vec<(usize, Span)> = Vec::new();
    if entries.len() <= SMALL {
        for (index, (key, _)) in entries.iter().enumerate() {
            let earlier = entries[..index].iter().find(|(known, _)| known.value == key.value);
            repeated.extend(earlier.map(|(first, _)| (index, first.span)));
        }
    } else {
        let mut first_places: HashMap<&str, Span> = HashMap::with_capacity(entries.len());
        for (index, (key, _)) in entries.iter().enumerate() {
            match first_places.entry(&key.value) {
                Entry::Occupied(first) => repeated.push((index, *first.get())),
                Entry::Vacant(vacant) => {
                    vacant.insert(key.span);
                }
            }
        }
    }
    if repeated.is_empty() {
        return;
    }
    for (index, first) in &repeated {
        let (key, _) = &entries[*index];
        let message = format!("the key `{}` is given twice", excerpt(&key.value));
        problems.push(
            Problem::error("spec::duplicate-key", message)
                .at(key.span, "for the second time")
                .help(format!("the first is on line {}; keep one", problems.line(*first))),
        );
    }
    let mut index = 0;
    let mut next = repeated.into_iter().peekable();
    entries.retain(|_| {
        let keep = next.next_if(|(repeated, _)| *repeated == index).is_none();
        index += 1;
        keep
    });
}

/// The problem of a document that nests too deeply.
pub(crate) fn too_deep(span: Span) -> Problem {
    Problem::error("spec::too-deep", format!("the file nests deeper than {MAX_DEPTH} levels"))
        .at(span, "too deep")
        .help("a workflow needs fewer than ten; look for a bracket that is not closed")
}

/// The problem of a document that has too many values.
pub(crate) fn too_large(span: Span) -> Problem {
    Problem::error("spec::too-large", format!("the file has more than {MOST_NODES} values"))
        .at(span, "the limit is reached here")
        .help("let parameters make the jobs instead of writing them out, or split the workflow")
}
