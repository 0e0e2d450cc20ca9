//! `${files.input.N}` and its kind in commands: paths are put in their place, and each is taken as a relation of
//! the job. References to user data stay: their values are put in when a job is launched.

use std::borrow::Cow;

use super::job::Scope;
use crate::diagnostics::Span;
use crate::references::{self, USER_DATA};
use crate::spec::model::Relation;

const PREFIXES: [(&str, Relation); 4] = [
    ("files.input.", Relation::InputFiles),
    ("files.output.", Relation::OutputFiles),
    (USER_DATA[0], Relation::InputUserData),
    (USER_DATA[1], Relation::OutputUserData),
];

/// The text with its references to files replaced; what it refers to is added to `used`.
pub(crate) fn substitute<'t>(
    text: &'t str,
    span: Span,
    scope: &Scope<'_, '_>,
    used: &mut [Vec<u32>; 4],
) -> Cow<'t, str> {
    references::replace(text, &PREFIXES.map(|(prefix, _)| prefix), |which, name| {
        let (prefix, relation) = PREFIXES[which];
        let index = scope.names(relation).resolve(name, span, scope.problems)?;
        used[relation as usize].push(index);
        Some(if relation.is_about_files() {
            Cow::Borrowed(&*scope.files.1[index as usize].path)
        } else {
            Cow::Owned(format!("${{{prefix}{name}}}"))
        })
    })
}

/// The text as it is launched while all user data has the values that the spec gives it.
pub(crate) fn with_values<'t>(text: &'t str, scope: &Scope<'_, '_>) -> Cow<'t, str> {
    references::replace(text, &USER_DATA, |_, name| {
        let index = scope.user_data.0.find(name)?;
        let data = scope.user_data.1[index as usize].data.as_ref();
        Some(Cow::Owned(data.map_or_else(|| "null".to_owned(), ToString::to_string)))
    })
}
