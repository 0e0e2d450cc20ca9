//! How a command is started on another host of an allocation: an argument vector with places. Pure.
//!
//! Owns: which places there are. Does not know: who wrote the vector. Invariant: the words of a command arrive as they
//! are, also where what starts it has a shell take one text apart.

/// The host's name.
const HOST: &str = "{host}";
/// The command, a word each.
const COMMAND: &str = "{command}";
/// The command as one text for a POSIX shell.
const SHELL_COMMAND: &str = "{shell_command}";

/// An argument vector with places for the host and the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartTemplate(Vec<String>);

/// A vector that starts nothing.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It is no vector.
    #[error(
        "it is to be a list of texts in JSON, as [\"rsh\", \"{{host}}\", \"{{shell_command}}\"]: {0}"
    )]
    NoList(#[from] serde_json::Error),
    /// It is empty, or begins with a place.
    #[error("it has to begin with a program")]
    NoProgram,
    /// It says nowhere which host is meant.
    #[error("it has no `{{host}}`")]
    NoHost,
    /// It says nowhere what is to be started.
    #[error(
        "it needs either the word `{{command}}`, for the words of the command, or `{{shell_command}}`, for one text that a shell takes apart"
    )]
    NoCommand,
    /// The words of the command would be parts of a word.
    #[error("`{{command}}` has to be a word of its own; `{{shell_command}}` may be part of one")]
    CommandInWord,
}

impl StartTemplate {
    /// Reads a vector that is written in JSON.
    ///
    /// # Errors
    /// When it is none, or starts nothing.
    pub fn parse(text: &str) -> Result<Self, StartError> {
        let words: Vec<String> = serde_json::from_str(text)?;
        let has = |place| words.iter().any(|word| word.contains(place));
        if words.first().is_none_or(|first| first.is_empty() || first.contains('{')) {
            return Err(StartError::NoProgram);
        }
        if words.iter().any(|word| word.contains(COMMAND) && word != COMMAND) {
            return Err(StartError::CommandInWord);
        }
        if !has(HOST) {
            return Err(StartError::NoHost);
        }
        if !has(COMMAND) && !has(SHELL_COMMAND) {
            return Err(StartError::NoCommand);
        }
        Ok(Self(words))
    }

    /// The vector as it was written.
    pub fn written(&self) -> String {
        // Texts serialize.
        serde_json::to_string(&self.0).unwrap_or_default()
    }

    /// What starts a command on a host.
    pub fn argv(&self, host: &str, command: &[String]) -> Vec<String> {
        let mut argv = Vec::with_capacity(self.0.len() + command.len());
        for word in &self.0 {
            if word == COMMAND {
                argv.extend(command.iter().cloned());
            } else {
                // The host first: what is in the command is no place.
                let word = word.replace(HOST, host);
                argv.push(word.replace(SHELL_COMMAND, &shell_text(command)));
            }
        }
        argv
    }
}

/// These words as one text, which a POSIX shell takes apart into the same words.
pub(super) fn shell_text(words: &[String]) -> String {
    // No word of a command can have a NUL in it.
    let quoter = shlex::Quoter::new().allow_nul(true);
    quoter.join(words.iter().map(String::as_str)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split('|').map(str::to_owned).collect()
    }

    #[track_caller]
    fn check(written: &str, command: &str, expected: &str) {
        let template = StartTemplate::parse(written).expect("it starts something");
        assert_eq!(template.argv("n2", &words(command)), words(expected));
        assert_eq!(StartTemplate::parse(&template.written()).expect("it is the same"), template);
    }

    #[test]
    fn words_stay_words() {
        check(r#"["blaunch", "{host}", "{command}"]"#, "a|b c|{host}", "blaunch|n2|a|b c|{host}");
        check(r#"["rsh", "-n", "{host}", "{shell_command}"]"#, "a|b c", "rsh|-n|n2|a 'b c'");
        check(
            r#"["x", "on={host}", "umask 22; {shell_command}"]"#,
            "it's||$H",
            "x|on=n2|umask 22; \"it's\" '' '$H'",
        );
        check(r#"["rsh", "{host}", "{shell_command}"]"#, "echo|{host}", "rsh|n2|echo '{host}'");
    }

    #[test]
    fn a_shell_takes_the_text_apart_again() {
        let command = ["printf", "%s|", "it's", "a b", "", "$HOME", "new\nline", "\"", "*"];
        let text = shell_text(&command.map(str::to_owned));
        let output = Command::new("sh").args(["-c", &text]).output().expect("there is a shell");
        let found = String::from_utf8(output.stdout).expect("it is text");
        assert_eq!(found, "it's|a b||$HOME|new\nline|\"|*|");
    }

    #[test]
    fn what_starts_nothing_is_named() {
        let error =
            |written: &str| StartTemplate::parse(written).expect_err("is wrong").to_string();
        assert!(error("rsh {host}").starts_with("it is to be a list of texts in JSON"));
        assert_eq!(error("[]"), "it has to begin with a program");
        assert_eq!(error(r#"["{host}", "{command}"]"#), "it has to begin with a program");
        assert_eq!(error(r#"["rsh", "{command}"]"#), "it has no `{host}`");
        assert!(error(r#"["rsh", "{host}"]"#).starts_with("it needs either"));
        assert!(error(r#"["rsh", "{host}", "x {command}"]"#).starts_with("`{command}` has to be"));
    }
}
