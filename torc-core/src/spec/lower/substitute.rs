//! `${files.input.N}` and its kind in commands: replaced by the path or the value, and taken as a
//! relation of the job. Every other `${…}` is the shell's.

use std::borrow::Cow;

use super::LONGEST_NAME;
use super::job::Scope;
use crate::diagnostics::Span;
use crate::spec::model::Relation;

const REFERENCES: [(&str, Relation); 4] = [
    ("files.input.", Relation::InputFiles),
    ("files.output.", Relation::OutputFiles),
    ("user_data.input.", Relation::InputUserData),
    ("user_data.output.", Relation::OutputUserData),
];

/// The text with its references replaced; what it refers to is added to `used`.
pub(crate) fn substitute<'t>(
    text: &'t str,
    span: Span,
    scope: &Scope<'_, '_>,
    used: &mut [Vec<u32>; 4],
) -> Cow<'t, str> {
    let mut out = String::new();
    let mut done = 0;
    for (start, _) in text.match_indices("${") {
        if start < done {
            // Part of a name that was just replaced.
            continue;
        }
        let inner = &text[start + 2..];
        let Some((prefix, relation)) =
            REFERENCES.iter().find(|(prefix, _)| inner.starts_with(prefix))
        else {
            continue;
        };
        // No name is longer, so that hostile text costs no more than its length.
        let most = prefix.len() + LONGEST_NAME + 1;
        let Some(length) = inner.bytes().take(most).position(|byte| byte == b'}') else { continue };
        let name = &inner[prefix.len()..length];
        let Some(index) = scope.names(*relation).resolve(name, span, scope.problems) else {
            continue;
        };
        used[*relation as usize].push(index);
        out.push_str(&text[done..start]);
        if relation.is_about_files() {
            out.push_str(&scope.files.1[index as usize].path);
        } else {
            let data = scope.user_data.1[index as usize].data.as_ref();
            out.push_str(&data.map_or_else(|| "null".to_owned(), ToString::to_string));
        }
        done = start + 2 + length + 1;
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[done..]);
    Cow::Owned(out)
}
