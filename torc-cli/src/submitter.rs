//! What jobs start from: what a program passes on, and where the workers look for plugins.

use torc_server::submitter::Variables;
pub(crate) use torc_server::submitter::umask;

use crate::args::PluginArgs;
use crate::exit::Failure;
use crate::plugins::{PATH_VARIABLE, path_variable};

/// The environment, less the variables of an allocation that this may be. Workers look for plugins where this command
/// does.
///
/// # Errors
/// When they cannot be told where that is.
pub(crate) fn environment(plugins: &PluginArgs) -> Result<Variables, Failure> {
    let mut kept = torc_server::submitter::environment();
    if let Some(path) = path_variable(plugins)? {
        kept.retain(|(name, _)| *name != PATH_VARIABLE.into());
        kept.push((PATH_VARIABLE.into(), path.into()));
    }
    Ok(kept)
}
