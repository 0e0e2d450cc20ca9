//! What a job calls like rsh, to start something on another of its hosts.
//!
//! Owns: how it is written, and what its arguments mean. Does not know: how anything is started on another host.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::start::shell_text;

/// Writes a program that becomes this command, with its own arguments after it.
///
/// # Errors
/// When that is impossible.
pub fn write_agent(path: &Path, command: &[String]) -> io::Result<()> {
    fs::write(path, format!("#!/bin/sh\nexec {} \"$@\"\n", shell_text(command)))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

/// Becomes a shell with this command. Returns only when that is impossible: why.
pub fn become_shell(text: &str) -> io::Error {
    Command::new("/bin/sh").args(["-c", text]).exec()
}

/// The host and the text of the command in the arguments of an rsh or ssh; `None`: they are not there.
pub fn asked_of_rsh(words: &[String]) -> Option<(&str, String)> {
    let mut rest = words.iter();
    loop {
        let word = rest.next()?;
        match word.as_str() {
            // The user, a port, an option of ssh.
            "-l" | "-p" | "-o" => drop(rest.next()?),
            option if option.starts_with('-') => {}
            host => {
                let text: Vec<&str> = rest.map(String::as_str).collect();
                return (!text.is_empty()).then(|| (host, text.join(" ")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split('|').map(str::to_owned).collect()
    }

    #[test]
    fn an_rsh_is_asked_in_many_ways() {
        #[track_caller]
        fn check(line: &str, expected: Option<(&str, &str)>) {
            let line = words(line);
            let found = asked_of_rsh(&line);
            assert_eq!(found.as_ref().map(|(host, text)| (*host, text.as_str())), expected);
        }
        check("n2|orted|-mca|x", Some(("n2", "orted -mca x")));
        check("-x|-l|me|n2|PATH=/x ; orted", Some(("n2", "PATH=/x ; orted")));
        check("-q|n2", None);
        check("-l", None);
    }

    #[test]
    fn what_is_written_passes_its_arguments_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let agent = folder.path().join("rsh");
        write_agent(&agent, &words("printf|%s,|it's")).expect("it is written");
        let output = Command::new(&agent).args(["a b", ""]).output().expect("it starts");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "it's,a b,,");
    }
}
