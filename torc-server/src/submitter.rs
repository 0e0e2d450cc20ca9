//! What jobs start from when a server runs them: the environment and the file mode creation mask of this process.
//!
//! Owns which variables are passed on. Invariant: a variable that is passed on has its value unchanged, whatever
//! bytes it has.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use torc_core::os_text::OsText;

/// Variables and their values.
pub type Variables = Vec<(OsText, OsText)>;

/// A variable of an allocation from which somebody submits is nothing to those of the workflow.
fn is_of_allocation(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b"SLURM_") || name.starts_with(b"SBATCH_")
}

/// The environment of this process, less the variables of an allocation that this may be.
pub fn environment() -> Variables {
    let own = std::env::vars_os().filter(|(name, _)| !is_of_allocation(name));
    own.map(|(name, value)| (name.into(), value.into())).collect()
}

/// This process's file mode creation mask, from proc_pid_status(5).
pub fn umask() -> u32 {
    const USUAL: u32 = 0o022;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(USUAL)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn what_an_allocation_sets_is_known_by_its_name_whatever_that_has_in_it() {
        let is_own = |name: &[u8]| !is_of_allocation(&OsString::from_vec(name.to_vec()));
        assert!(is_own(b"A") && is_own(b"n\xe9") && is_own(b"SLURM"));
        assert!(!is_own(b"SLURM_JOB_ID") && !is_own(b"SBATCH_X") && !is_own(b"SLURM_\xe9"));
    }
}
