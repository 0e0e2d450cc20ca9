//! Records in the answers of squeue and sinfo.
//!
//! Pure. Each question names its fields, so that no site's or user's format gets in between; records and
//! fields are kept apart by control characters, which no Slurm name has. An answer that is garbled is an
//! error, never a shorter list.

/// Opens each record of these answers, so that a line break in a comment opens none.
pub(super) const RECORD: char = '\u{1e}';
/// Between the fields of a record.
pub(super) const FIELD: char = '\u{1f}';

/// What was answered is not what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{program}` answered `{words}`, which torc cannot read")]
pub(super) struct Garbled {
    /// The program.
    pub(super) program: &'static str,
    /// Where it went wrong.
    pub(super) words: String,
}

impl Garbled {
    pub(super) fn new(program: &'static str, words: &str) -> Self {
        let plain = words.chars().map(|c| if c.is_control() { ' ' } else { c });
        Self { program, words: plain.take(80).collect::<String>().trim().to_owned() }
    }
}

/// A format for `squeue -o` and `sinfo -o` from their letters.
pub(super) fn format(letters: &str) -> String {
    let fields: Vec<String> = letters.chars().map(|letter| format!("%{letter}")).collect();
    format!("{RECORD}{}", fields.join(&FIELD.to_string()))
}

/// The records of an answer in such a format, each with exactly `N` fields. What stands before the
/// first is a banner of a site's.
pub(super) fn records<'a, const N: usize>(
    program: &'static str,
    answer: &'a str,
) -> Result<Vec<[&'a str; N]>, Garbled> {
    let Some((_, records)) = answer.split_once(RECORD) else {
        return if answer.trim().is_empty() {
            Ok(Vec::new())
        } else {
            Err(Garbled::new(program, answer))
        };
    };
    let read = |record: &'a str| {
        let record = record.strip_suffix('\n').unwrap_or(record);
        let fields: Vec<&str> = record.split(FIELD).collect();
        <[&str; N]>::try_from(fields).map_err(|_| Garbled::new(program, record))
    };
    records.split(RECORD).map(read).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An answer with `|` for the field separator, one record a line.
    pub(in crate::slurm) fn answer(lines: &[&str]) -> String {
        let record = |line: &&str| format!("{RECORD}{}\n", line.replace('|', &FIELD.to_string()));
        lines.iter().map(record).collect()
    }

    #[test]
    fn records_are_read_whatever_is_around_them() {
        let check = |text: &str, expected: &[[&str; 2]]| {
            assert_eq!(records::<2>("squeue", text).unwrap(), expected, "{text}");
        };
        check("", &[]);
        check("\n", &[]);
        check(&answer(&["1|a", "2|b\nc"]), &[["1", "a"], ["2", "b\nc"]]);
        check(&format!("Welcome!\n{}", answer(&["1|"])), &[["1", ""]]);
    }

    #[test]
    fn garbage_is_an_error_not_an_empty_answer() {
        let check = |text: &str, words: &str| {
            let expected = Garbled { program: "squeue", words: words.to_owned() };
            assert_eq!(records::<2>("squeue", text), Err(expected), "{text}");
        };
        check("<html>502</html>", "<html>502</html>");
        check(&answer(&["1|a", "2"]), "2");
        check(&answer(&["1|a|b"]), "1 a b");
    }

    #[test]
    fn formats_name_their_fields() {
        assert_eq!(format("iT"), "\u{1e}%i\u{1f}%T");
    }
}
