//! What jobs start from: the environment and the file mode creation mask of whoever submits.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use torc_core::os_text::OsText;

use crate::args::PluginArgs;
use crate::exit::Failure;
use crate::plugins::{PATH_VARIABLE, path_variable};

/// A variable of an allocation from which somebody submits is nothing to those of the workflow.
fn is_of_allocation(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b"SLURM_") || name.starts_with(b"SBATCH_")
}

/// The environment, less the variables of an allocation that this may be. Workers look for plugins where this command
/// does.
///
/// # Errors
/// When they cannot be told where that is.
pub(crate) fn environment(plugins: &PluginArgs) -> Result<Vec<(OsText, OsText)>, Failure> {
    let is_own = |(name, _): &(OsString, OsString)| !is_of_allocation(name);
    let of_plugins = path_variable(plugins)?;
    let mut kept: Vec<(OsText, OsText)> = std::env::vars_os()
        .filter(is_own)
        .filter(|(name, _)| of_plugins.is_none() || name != PATH_VARIABLE)
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    kept.extend(of_plugins.map(|path| (PATH_VARIABLE.into(), path.into())));
    Ok(kept)
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
    fn what_an_allocation_sets_is_known_by_its_name_whatever_that_has_in_it() {
        let is_own = |name: &[u8]| !is_of_allocation(&OsString::from_vec(name.to_vec()));
        assert!(is_own(b"A") && is_own(b"n\xe9") && is_own(b"SLURM"));
        assert!(!is_own(b"SLURM_JOB_ID") && !is_own(b"SBATCH_X") && !is_own(b"SLURM_\xe9"));
    }
}
