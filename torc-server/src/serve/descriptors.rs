//! Room for the file descriptors of many workers.
//!
//! Knows nothing of who connects. Where the limit cannot be raised the listener waits for descriptors
//! to become free; nothing fails.

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// For all but connections: the database, journals that are read, schedulers' commands.
const OTHERS: usize = 1_024;

/// Raises the limit of open files so that there may be so many connections, as far as the hard limit
/// allows (getrlimit(2), `RLIMIT_NOFILE`).
///
/// Not further: children inherit it, and sbatch passes it on to jobs (sbatch(1), `--propagate`), where
/// programs go through all descriptors that there might be.
pub(crate) fn make_room_for(connections: usize) {
    let wanted = rlim_t::try_from(connections + OTHERS).unwrap_or(rlim_t::MAX);
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let raised = wanted.min(hard);
        if raised <= soft {
            return Ok(());
        }
        setrlimit(Resource::RLIMIT_NOFILE, raised, hard)
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
