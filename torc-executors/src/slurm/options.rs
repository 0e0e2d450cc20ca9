//! Which options of sbatch are meant by the words that a user wrote.
//!
//! Pure. Knows the names, short forms and abbreviations of the few options that torc must recognise
//! (sbatch(1)); every other word is passed on unread.

use super::settings::SettingsProblem;

/// An option that torc must recognise.
struct Known {
    /// Its long name.
    name: &'static str,
    /// The shortest abbreviation that sbatch takes for it; getopt_long(3) takes any that is unique.
    shortest: &'static str,
    /// Its short name.
    short: Option<char>,
}

const fn known(name: &'static str, shortest: &'static str, short: Option<char>) -> Known {
    Known { name, shortest, short }
}

const KNOWN: [Known; 18] = [
    known("array", "ar", Some('a')),
    known("clusters", "clusters", Some('M')),
    known("comment", "com", None),
    known("cpus-per-task", "cpus-per-t", Some('c')),
    known("dependency", "dep", Some('d')),
    known("exclusive", "exclus", None),
    known("help", "he", Some('h')),
    known("mem", "mem", None),
    known("mem-per-cpu", "mem-per-c", None),
    known("mem-per-gpu", "mem-per-g", None),
    known("ntasks", "ntasks", Some('n')),
    known("oversubscribe", "overs", Some('s')),
    known("partition", "part", Some('p')),
    known("test-only", "te", None),
    known("usage", "usa", None),
    known("version", "vers", Some('V')),
    known("wait", "wait", Some('W')),
    known("wrap", "wr", None),
];

/// What torc's own work rules out, and why.
const EXCLUDED: [(&str, &str); 8] = [
    ("array", "every allocation is a job of its own; use `num_allocations`"),
    (
        "clusters",
        "an allocation must be in the cluster that torc watches; run torc on a login node of the other cluster",
    ),
    ("help", "nothing would be submitted"),
    ("test-only", "nothing would be submitted"),
    ("usage", "nothing would be submitted"),
    ("version", "nothing would be submitted"),
    ("wait", "sbatch would not return before the allocation has ended; use `torc submit --wait`"),
    ("wrap", "the batch script is torc's"),
];

/// An option that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// Its value; `None`: it stands alone.
    pub(super) value: Option<String>,
}

/// Whether this long name, perhaps abbreviated, means that option.
pub(super) fn is(name: &str, option: &str) -> bool {
    canonical(name) == option
}

/// The option that a long name means, where torc knows it.
fn canonical(name: &str) -> &str {
    let aliases = [("share", "oversubscribe"), ("cluster", "clusters")];
    if let Some((_, option)) = aliases.iter().find(|(alias, _)| *alias == name) {
        return option;
    }
    // An exact name first: `mem` is no abbreviation of `mem-per-cpu`.
    let exact = KNOWN.iter().find(|known| known.name == name);
    let abbreviated = || {
        KNOWN.iter().find(|known| known.name.starts_with(name) && name.starts_with(known.shortest))
    };
    exact.or_else(abbreviated).map_or(name, |known| known.name)
}

/// The options among these words, in their order, as sbatch would take them apart. `Err`: a word that
/// belongs to none.
fn parse(words: &[String]) -> Result<Vec<(&str, Option<String>)>, &str> {
    let mut found: Vec<(&str, Option<String>)> = Vec::new();
    let mut may_have_value = false;
    for word in words {
        if matches!(word.as_str(), "-" | "--") {
            return Err(word);
        } else if let Some(long) = word.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            may_have_value = value.is_none();
            found.push((canonical(name), value));
        } else if let Some(short) = word.strip_prefix('-') {
            let letter = short.chars().next().unwrap_or_default();
            let rest = &short[letter.len_utf8()..];
            let option = KNOWN.iter().find(|known| known.short == Some(letter));
            let value = (!rest.is_empty()).then(|| rest.to_owned());
            may_have_value = value.is_none();
            found.push((option.map_or(word, |known| known.name), value));
        } else if may_have_value {
            may_have_value = false;
            if let Some((_, value)) = found.last_mut() {
                *value = Some(word.clone());
            }
        } else {
            return Err(word);
        }
    }
    Ok(found)
}

/// What the last of these words about an option says: sbatch takes the last.
pub(super) fn last_in(words: &[String], option: &str) -> Option<Given> {
    let found = parse(words).unwrap_or_default();
    let (_, value) = found.into_iter().rev().find(|(name, _)| *name == option)?;
    Some(Given { value })
}

/// Refuses words that sbatch would not take as options, and options that torc cannot live with.
pub(super) fn check(
    extra: &[String],
    defaults: &[(String, Option<String>)],
) -> Result<(), SettingsProblem> {
    let words = parse(extra).map_err(|word| SettingsProblem::StrayWord(word.to_owned()))?;
    let names = words.iter().map(|(name, _)| *name);
    let defaults = defaults.iter().map(|(name, _)| canonical(name));
    for name in names.chain(defaults) {
        if let Some((_, why)) = EXCLUDED.iter().find(|(excluded, _)| *excluded == name) {
            return Err(SettingsProblem::Excluded { option: format!("--{name}"), why });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check as check_words;
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_are_recognised_however_they_are_written() {
        let check = |text: &str, option: &str, expected: Option<&str>| {
            let found = last_in(&words(text), option).expect(text);
            assert_eq!(found.value.as_deref(), expected, "{text}");
        };
        check("--dependency=afterok:1", "dependency", Some("afterok:1"));
        check("--dependency afterok:1", "dependency", Some("afterok:1"));
        check("-d afterok:1", "dependency", Some("afterok:1"));
        check("-dafterok:1", "dependency", Some("afterok:1"));
        check("--dep=afterok:1", "dependency", Some("afterok:1"));
        check("-C a --partition=x -p y --qos=z", "partition", Some("y"));
        check("--share", "oversubscribe", None);
        check("-s --hold", "oversubscribe", None);
        check("--exclusive", "exclusive", None);
        check("--exclusive=user", "exclusive", Some("user"));
        check("-n4", "ntasks", Some("4"));
        check("--mem-per-cpu=2G", "mem-per-cpu", Some("2G"));
    }

    #[test]
    fn other_options_are_not_taken_for_them() {
        let check = |text: &str, option: &str| {
            assert_eq!(last_in(&words(text), option), None, "{text}");
        };
        check("--ntasks-per-node=4", "ntasks");
        check("--mem-per-cpu=4", "mem");
        check("--mem=4", "mem-per-cpu");
        check("--exclude=n1", "exclusive");
        check("--comment -d", "partition");
        check("-N 4", "ntasks");
        check("--parsable", "partition");
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let check = |extra: &str, expected: &str| {
            let found = check_words(&words(extra), &[]);
            assert_eq!(found.map_err(|error| error.to_string()).unwrap_err(), expected);
        };
        let stray = |word: &str| {
            format!(
                "`{word}` in `extra` belongs to no option, and sbatch would ignore all that follows; options begin with `-`, and values with blanks need quotes"
            )
        };
        check("skylake", &stray("skylake"));
        check("--constraint=a b", &stray("b"));
        check("-C a b", &stray("b"));
        check("--hold -- x", &stray("--"));
        check("-", &stray("-"));
        check(
            "--array=1-3",
            "`--array` cannot be used with torc: every allocation is a job of its own; use `num_allocations`",
        );
        check(
            "-a 1-3",
            "`--array` cannot be used with torc: every allocation is a job of its own; use `num_allocations`",
        );
        check(
            "-W",
            "`--wait` cannot be used with torc: sbatch would not return before the allocation has ended; use `torc submit --wait`",
        );
        assert_eq!(check_words(&words("--constraint a -C b --hold"), &[]), Ok(()));
        let defaults = [("wait".to_owned(), None)];
        assert!(matches!(check_words(&[], &defaults), Err(SettingsProblem::Excluded { .. })));
        assert_eq!(check_words(&[], &[("wait-all-nodes".to_owned(), None)]), Ok(()));
    }
}
