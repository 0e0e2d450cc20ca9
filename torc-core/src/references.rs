//! `${files.input.N}` and its kind in commands: where they stand, and what takes their place.
//!
//! Owns how such a reference is written. Does not know what there is of a name, and when it is replaced: paths
//! when a spec is read, user data when a job is launched. Invariant: what was put in is not looked at again, and
//! every other `${…}` is the shell's.

use std::borrow::Cow;

/// Bytes that a name can have.
pub(crate) const LONGEST_NAME: usize = 1024;

/// What a reference to the input or the output of user data begins with, after `${`.
pub(crate) const USER_DATA: [&str; 2] = ["user_data.input.", "user_data.output."];

/// The text with its references replaced. `find` is given which of the prefixes a reference begins with and the
/// name that it holds; where it finds nothing, the text stays.
pub(crate) fn replace<'t, 'v>(
    text: &'t str,
    prefixes: &[&str],
    mut find: impl FnMut(usize, &'t str) -> Option<Cow<'v, str>>,
) -> Cow<'t, str> {
    let mut out = String::new();
    let mut done = 0;
    for (start, _) in text.match_indices("${") {
        if start < done {
            // Part of a name that was just replaced.
            continue;
        }
        let inner = &text[start + 2..];
        let found = prefixes.iter().position(|prefix| inner.starts_with(prefix));
        let Some(which) = found else { continue };
        let prefix = prefixes[which];
        // No name is longer, so that hostile text costs no more than its length.
        let most = prefix.len() + LONGEST_NAME + 1;
        let Some(length) = inner.bytes().take(most).position(|byte| byte == b'}') else { continue };
        let Some(value) = find(which, &inner[prefix.len()..length]) else { continue };
        out.push_str(&text[done..start]);
        out.push_str(&value);
        done = start + 2 + length + 1;
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[done..]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_references_are_replaced_and_none_twice() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            let found = replace(text, &USER_DATA, |which, name| match (which, name) {
                (0, "a") => Some("${user_data.input.b}".into()),
                (1, "b") => Some("B".into()),
                (0, "x${user_data.input.a") => Some("X".into()),
                _ => None,
            });
            assert_eq!(found, expected);
        }
        check("plain $HOME ${HOME}", "plain $HOME ${HOME}");
        check("<${user_data.input.a}>", "<${user_data.input.b}>");
        check("${user_data.output.b}${user_data.output.b}", "BB");
        check(
            "${user_data.output.a} ${user_data.input.b",
            "${user_data.output.a} ${user_data.input.b",
        );
        check("${user_data.input.x${user_data.input.a}}", "X}");
        check("${user_data.input.é${user_data.output.b}", "${user_data.input.éB");
    }
}
