//! Finds, in a command of bash, a program that starts ranks: srun, mpirun, mpiexec.
//!
//! Owns: as much of the shell's grammar as tells a program that is run from a word that is only
//! mentioned: `my_srun_log.txt`, `echo srun`, a comment, a here-document. Does not know: variables
//! and aliases. Invariant: it never refuses a text; what it does not understand holds no launcher.

use std::ops::Range;

/// Words that stand before the command of a compound one.
const KEYWORDS: &[&str] =
    &["if", "then", "else", "elif", "while", "until", "do", "!", "{", "time", "coproc"];

/// Programs that run the command among their arguments.
const WRAPPERS: &[&str] = &[
    "builtin", "chrt", "env", "exec", "flock", "ionice", "nice", "nohup", "numactl", "parallel",
    "setsid", "stdbuf", "strace", "sudo", "taskset", "timeout", "xargs",
];

/// Programs that run a command given as one quoted argument.
const SHELLS: &[&str] = &["bash", "dash", "eval", "ksh", "sh", "zsh"];

/// Where the first launcher stands whose run the text asks for, with its folder if one is written.
pub(crate) fn launcher_in(text: &str) -> Option<Range<usize>> {
    // Quotes can nest shells in shells; nobody nests them deeper.
    const MOST_NESTED: usize = 4;
    search(text, MOST_NESTED)
}

fn search(text: &str, nested: usize) -> Option<Range<usize>> {
    let mut words = Words { text, at: 0, heredocs: Vec::new() };
    let mut found = None;
    while found.is_none() {
        let (command, is_last) = words.command();
        found = in_command(text, &command, nested);
        if is_last {
            break;
        }
    }
    found
}

fn in_command(text: &str, command: &[Range<usize>], nested: usize) -> Option<Range<usize>> {
    let mut rest = command;
    while let [first, after @ ..] = rest
        && (KEYWORDS.contains(&&text[first.clone()]) || is_assignment(&text[first.clone()]))
    {
        rest = after;
    }
    let (first, arguments) = rest.split_first().map_or((None, rest), |(f, rest)| (Some(f), rest));
    let program = first.map_or("", |first| base_name(unquoted(&text[first.clone()])));
    if is_launcher(program) {
        return first.cloned();
    }
    let is_wrapper = WRAPPERS.contains(&program);
    let runs_text = is_wrapper || SHELLS.contains(&program);
    if is_wrapper
        && let Some(word) =
            arguments.iter().find(|word| is_launcher(base_name(unquoted(&text[(*word).clone()]))))
    {
        return Some(word.clone());
    }
    let nested = nested.checked_sub(1)?;
    command.iter().find_map(|word| in_quotes(text, word, runs_text, nested))
}

/// Looks into a quoted word: all of it where it is a command, else what it substitutes.
fn in_quotes(
    text: &str,
    word: &Range<usize>,
    is_command: bool,
    nested: usize,
) -> Option<Range<usize>> {
    // Each is searched to the end of the word, so their number must not grow with the text.
    const MOST_SUBSTITUTIONS: usize = 16;
    let written = &text[word.clone()];
    let starts_quoted = written.starts_with(['"', '\'']);
    let starts: Vec<usize> = if is_command && starts_quoted {
        vec![1]
    } else if written.contains('"') {
        written.match_indices("$(").map(|(at, _)| at + 2).take(MOST_SUBSTITUTIONS).collect()
    } else {
        Vec::new()
    };
    starts.into_iter().find_map(|start| {
        let inner = written[start..].trim_end_matches(['"', '\'']);
        let found = search(inner, nested)?;
        let offset = word.start + start;
        Some(found.start + offset..found.end + offset)
    })
}

fn is_launcher(program: &str) -> bool {
    matches!(program, "srun" | "mpirun" | "mpiexec" | "orterun" | "mpiexec.hydra" | "mpiexec.mpich")
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| super::template::is_identifier(name))
}

fn unquoted(word: &str) -> &str {
    ['"', '\'']
        .iter()
        .find_map(|quote| word.strip_prefix(*quote)?.strip_suffix(*quote))
        .unwrap_or(word)
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The words of a text, one simple command after the other.
struct Words<'t> {
    text: &'t str,
    at: usize,
    /// Words that end the here-documents whose text has not begun.
    heredocs: Vec<&'t str>,
}

impl Words<'_> {
    /// The words of the next simple command, and whether it is the last.
    fn command(&mut self) -> (Vec<Range<usize>>, bool) {
        let mut words = Vec::new();
        while let Some(next) = self.text[self.at..].chars().next() {
            let start = self.at;
            match next {
                '\n' => {
                    self.at += 1;
                    self.skip_heredocs();
                    return (words, false);
                }
                ';' | '&' | '|' | '(' | ')' | '`' => {
                    self.at += 1;
                    return (words, false);
                }
                '<' | '>' => self.redirection(),
                '#' => self.at = self.end_of_line(),
                _ if next.is_whitespace() => self.at += next.len_utf8(),
                _ => {
                    self.word();
                    // A line that goes on in the next one has no word of its own.
                    if self.text[start..self.at].trim() != "\\" {
                        words.push(start..self.at);
                    }
                }
            }
        }
        (words, true)
    }

    /// Moves behind a word.
    fn word(&mut self) {
        let mut quote = None;
        let mut letters = self.text[self.at..].char_indices();
        while let Some((offset, letter)) = letters.next() {
            match (quote, letter) {
                (None | Some('"'), '\\') => {
                    letters.next();
                }
                (Some(open), _) if open == letter => quote = None,
                (Some(_), _) => {}
                (None, '"' | '\'') => quote = Some(letter),
                (None, _) if letter.is_whitespace() || ";&|()`<>".contains(letter) => {
                    self.at += offset;
                    return;
                }
                _ => {}
            }
        }
        self.at = self.text.len();
    }

    /// Moves behind a redirection and the file that it names; notes a here-document.
    fn redirection(&mut self) {
        let rest = &self.text[self.at..];
        let is_heredoc = rest.starts_with("<<") && !rest.starts_with("<<<");
        let operator = rest.len() - rest.trim_start_matches(['<', '>', '&', '-', '|']).len();
        let blanks =
            rest[operator..].len() - rest[operator..].trim_start_matches([' ', '\t']).len();
        self.at += operator + blanks;
        // What follows is no word where a process is substituted: `<(command)`.
        let start = self.at;
        self.word();
        if is_heredoc {
            self.heredocs.push(unquoted(&self.text[start..self.at]));
        }
    }

    fn end_of_line(&self) -> usize {
        self.text[self.at..].find('\n').map_or(self.text.len(), |newline| self.at + newline)
    }

    fn skip_heredocs(&mut self) {
        for end in std::mem::take(&mut self.heredocs) {
            while self.at < self.text.len() {
                let line_end = self.end_of_line();
                let line = self.text[self.at..line_end].trim_matches(['\t', '\r']);
                self.at = (line_end + 1).min(self.text.len());
                if line == end {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(launcher_in(text).map(|place| &text[place]), expected, "{text}");
    }

    #[test]
    fn a_launcher_is_a_program_that_is_run() {
        for text in [
            "srun ./sim",
            "srun",
            "  srun -n 4 ./sim",
            "cd x && srun ./sim",
            "cd x; srun ./sim",
            "true | srun ./sim",
            "OMP_NUM_THREADS=4 srun ./sim",
            "export A=b\nsrun ./sim",
            "if ! srun ./sim; then exit 1; fi",
            "for i in 1 2; do srun ./sim $i; done",
            "time srun ./sim",
            "timeout 60 srun ./sim",
            "env -i A=b srun ./sim",
            "x=$(srun hostname)",
            "x=`srun hostname`",
            "echo \"on $(srun hostname)\"",
            "bash -c 'cd x && srun ./sim'",
            "bash -lc \"srun ./sim\"",
            "(srun ./sim) &",
            "{ srun ./sim; }",
            "\"srun\" ./sim",
            "cat > x <<EOF\nsrun no\nEOF\nsrun ./sim",
            "cat <(srun hostname)",
            "./prepare \\\n && srun ./sim",
            "./sim > out 2>&1; srun ./sim",
        ] {
            check(text, Some("srun").filter(|_| !text.contains("\"srun\"")).or(Some("\"srun\"")));
        }
        check("mpirun -np 4 ./sim", Some("mpirun"));
        check("/opt/mpi/bin/mpiexec ./sim", Some("/opt/mpi/bin/mpiexec"));
        check("nice -n 5 mpiexec.hydra ./sim", Some("mpiexec.hydra"));
    }

    #[test]
    fn a_word_that_is_only_mentioned_is_none() {
        for text in [
            "",
            "./sim",
            "cat my_srun_log.txt",
            "./srun.sh",
            "srun_me",
            "echo srun",
            "which mpirun",
            "grep srun log.txt",
            "# srun ./sim",
            "./sim # as with srun",
            "./sim --title 'srun and more'",
            "./sim \"srun\"",
            "cat > x <<'EOF'\nsrun ./sim\nEOF",
            "cat <<-EOF\n\tsrun ./sim\n\tEOF\n./sim",
            "./sim > srun",
            "A=srun ./sim",
            "\\",
            "'",
            "<<",
        ] {
            check(text, None);
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in r##"([ \n;|&()<>`"'\\#${}=é]|srun|bash|<<E|E|x){0,24}"##) {
            if let Some(place) = launcher_in(&text) {
                prop_assert!(text.get(place).is_some_and(|word| word.contains("srun")));
            }
        }
    }
}
