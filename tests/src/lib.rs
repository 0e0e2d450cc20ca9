//! What the end-to-end tests share: a folder of their own, the real `torc` in it, and ways to wait
//! for things to happen without sleeping and without waiting for ever.
//!
//! Nothing here waits longer than [`PATIENCE`]: a torc that has not ended by then is killed, and the
//! test fails with what it printed.

mod cluster;
mod direct;
mod fifo;
mod grid_engine;
pub mod inside;
mod mpi;
mod place;
mod plugins;
mod process;
mod progress;
mod random;

pub use cluster::{Cluster, ClusterPlace, RUN_PATIENCE};
pub use direct::direct_spec;
pub use fifo::Fifo;
pub use grid_engine::{GridEngine, GridEngineSite};
pub use mpi::{check_ranks, compile_allreduce, compile_allreduce_with};
pub use place::Place;
pub use plugins::{PluginFolder, PluginSite, trusted_folder};
pub use process::{Ended, Started};
pub use progress::{DeadNode, allocated, nodes, now, number, outcome, processes, text};
pub use random::Random;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// The longest that a test waits for any one thing: far above what it takes on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The `torc` of the same build as these tests; built when it is not there.
///
/// # Panics
/// When it cannot be built.
pub fn torc() -> &'static Path {
    static TORC: OnceLock<PathBuf> = OnceLock::new();
    TORC.get_or_init(|| {
        let test = std::env::current_exe().expect("the test's own path");
        let profile = test.parent().and_then(Path::parent).expect("target/<profile>/deps");
        let torc = profile.join("torc");
        if !torc.exists() {
            let built = Command::new(env!("CARGO")).args(["build", "-p", "torc-cli"]).status();
            assert!(built.is_ok_and(|status| status.success()), "torc cannot be built");
        }
        torc
    })
}

/// The root of the checkout.
///
/// # Panics
/// When there is none.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the checkout")
}

/// Notes for `tests/run` that a test could not do its work here, and why.
///
/// # Panics
/// When that cannot be noted: a test that is silently left out would look as if it had passed.
pub fn not_run_here(reason: &str) {
    let Some(notes) = std::env::var_os("TORC_SKIPS") else {
        panic!("cannot run here ({reason}), and TORC_SKIPS names no file to say so in");
    };
    let file = std::fs::OpenOptions::new().append(true).create(true).open(notes);
    let noted = file.and_then(|mut file| writeln!(file, "{reason}"));
    assert!(noted.is_ok(), "cannot note that this was left out: {reason}");
}
