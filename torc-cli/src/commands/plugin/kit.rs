//! The conformance kit in `torc plugin check`: each of its checks in a process of its own.
//!
//! Owns: which checks are run and which are left out, how many at a time, and the folder for what steps and
//! allocations leave. Does not know: what any check does. Invariant: a check that crashes or hangs costs its own row.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use torc_plugins::check::{Check, Folder, Promise, Site, promises};
use torc_plugins::{Found, Kind};

use super::probe;
use crate::args::PluginCheckArgs;
use crate::exit::{Exit, Failure};

/// Why a check of schedulers was left out.
pub(super) const SUBMITS: &str = "it asks for real allocations, which --submit allows";

/// Most of what checks do is waiting for steps.
const AT_ONCE: usize = 4;

/// All checks of these interfaces of a plugin.
pub(super) fn checks(
    plugin: &Found,
    kinds: &[Kind],
    args: &PluginCheckArgs,
) -> Result<Vec<Check>, Failure> {
    let mut site = Site { folder: "/".into(), scheduler: args.submit.clone().unwrap_or_default() };
    let leaves_files = kinds.iter().any(|kind| matches!(kind, Kind::Executor | Kind::Scheduler));
    // It goes when all checks are done.
    let folder = match leaves_files {
        true => Some(folder(args.folder.as_deref())?),
        false => None,
    };
    if let Some(folder) = &folder {
        folder.path().clone_into(&mut site.folder);
    }
    Ok(kinds.iter().flat_map(|&kind| of_kind(plugin, kind, args, &site)).collect())
}

fn folder(below: Option<&Path>) -> Result<Folder, Failure> {
    let below = below.unwrap_or(Path::new("."));
    Folder::below(below).map_err(|error| {
        let message = format!(
            "no folder can be made in {}: {error}; --folder names another",
            below.display()
        );
        Failure::new(Exit::Environment, message)
    })
}

fn of_kind(plugin: &Found, kind: Kind, args: &PluginCheckArgs, site: &Site) -> Vec<Check> {
    let mut checks = Vec::new();
    if args.only.is_empty() {
        checks.extend(probe::requests(plugin, kind, &args.settings));
    }
    let wanted: Vec<Promise> = promises(kind)
        .filter(|promise| args.only.is_empty() || args.only.iter().any(|name| name == promise.name))
        .collect();
    // Checks that wait for the same queue would wait for each other.
    let at_once = if kind == Kind::Scheduler { 1 } else { AT_ONCE };
    checks.extend(side_by_side(at_once, &wanted, |&promise| {
        if args.without.iter().any(|name| name == promise.name) {
            vec![Check::left_out(promise.name, "as --without says")]
        } else if promise.submits && args.submit.is_none() {
            vec![Check::left_out(promise.name, SUBMITS)]
        } else {
            probe::promise(plugin, kind, &args.settings, promise, site)
        }
    }));
    checks
}

/// Looks at several at a time; what came of it is in their order.
fn side_by_side<T: Sync>(
    at_once: usize,
    things: &[T],
    look: impl Fn(&T) -> Vec<Check> + Sync,
) -> Vec<Check> {
    let next = AtomicUsize::new(0);
    let seen = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(thing) = things.get(place) else { return };
                    let checks = look(thing);
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push((place, checks));
                }
            });
        }
    });
    let mut seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
    seen.sort_by_key(|(place, _)| *place);
    seen.into_iter().flat_map(|(_, checks)| checks).collect()
}
