//! What jobs start from: the environment and the file mode creation mask of whoever submits.

use std::ffi::{OsStr, OsString};

use crate::args::PluginArgs;
use crate::exit::Failure;
use crate::out::errln;
use crate::plugins::{PATH_VARIABLE, path_variable};

/// A variable of an allocation from which somebody submits is nothing to those of the workflow.
fn is_of_allocation(name: &str) -> bool {
    name.starts_with("SLURM_") || name.starts_with("SBATCH_")
}

/// The environment, less the variables of an allocation that this may be. What is not UTF-8 is left out,
/// and that is said. Workers look for plugins where this command does.
///
/// # Errors
/// When they cannot be told where that is.
pub(crate) fn environment(plugins: &PluginArgs) -> Result<Vec<(String, String)>, Failure> {
    let (mut kept, dropped) = split(std::env::vars_os());
    if let Some(path) = path_variable(plugins)? {
        kept.retain(|(name, _)| name != PATH_VARIABLE);
        kept.push((PATH_VARIABLE.to_owned(), path));
    }
    if !dropped.is_empty() {
        errln!("note: jobs will not have these variables, which are not UTF-8: {}", list(&dropped));
    }
    Ok(kept)
}

type Variables = Vec<(String, String)>;

/// The variables that are kept, and the names of those that cannot be, as far as they can be read.
fn split(variables: impl Iterator<Item = (OsString, OsString)>) -> (Variables, Vec<String>) {
    let (mut kept, mut dropped) = (Vec::new(), Vec::new());
    for (name, value) in variables {
        match (name.to_str(), value.to_str()) {
            (Some(name), _) if is_of_allocation(name) => {}
            (Some(name), Some(value)) => kept.push((name.to_owned(), value.to_owned())),
            _ => dropped.push(OsStr::to_string_lossy(&name).into_owned()),
        }
    }
    (kept, dropped)
}

fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// This process's file mode creation mask, from proc_pid_status(5).
pub(crate) fn umask() -> u32 {
    const USUAL: u32 = 0o022;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(USUAL)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn what_cannot_be_kept_is_named() {
        let bytes = |text: &[u8]| OsString::from_vec(text.to_vec());
        let variables: [(&[u8], &[u8]); 5] = [
            (b"A", b"1"),
            (b"LATIN", b"caf\xe9"),
            (b"n\xe9", b"2"),
            (b"SLURM_JOB_ID", b"3"),
            (b"SBATCH_X", b"\xe9"),
        ];
        let (kept, dropped) =
            split(variables.into_iter().map(|(name, value)| (bytes(name), bytes(value))));
        assert_eq!(kept, [("A".to_owned(), "1".to_owned())]);
        assert_eq!(list(&dropped), "`LATIN`, `n\u{fffd}`");
    }
}
