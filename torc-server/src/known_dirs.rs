//! The state directories of a user: where each process that takes one over leaves word of it.
//!
//! Owns a folder with a file for each, below $XDG_STATE_HOME, or ~/.local/state (the XDG Base Directory
//! Specification). Nothing depends on it but `torc list --all`: where it cannot be written, that is all that is lost.

use std::fmt::Write;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::state_dir::StateDir;

/// Letters of a note's name: as many as keep two directories apart.
const NAME_LENGTH: usize = 32;

fn folder() -> Option<PathBuf> {
    let absolute =
        |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state =
        absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("torc/state_dirs"))
}

/// Leaves word of a state directory.
pub fn note(dir: &StateDir) {
    let Some(folder) = folder() else { return };
    let written = write(&folder, dir.path());
    if let Err(error) = written {
        tracing::debug!(%error, folder = %folder.display(), "no word of this state directory is left");
    }
}

fn write(folder: &Path, dir: &Path) -> std::io::Result<()> {
    let path = folder.join(name(dir));
    if path.exists() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(dir.as_os_str().as_encoded_bytes())
}

fn name(dir: &Path) -> String {
    let sum = Sha256::digest(dir.as_os_str().as_encoded_bytes());
    let mut name = String::new();
    for byte in sum {
        // To a string it cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    name.truncate(NAME_LENGTH);
    name
}

/// The state directories that are still there, by path. Word of those that are gone is removed.
pub fn all() -> Vec<StateDir> {
    let entries = folder().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten();
    let mut dirs: Vec<StateDir> =
        entries.flatten().filter_map(|entry| read(&entry.path())).collect();
    dirs.sort_by(|left, right| left.path().cmp(right.path()));
    dirs
}

fn read(note: &Path) -> Option<StateDir> {
    let path = PathBuf::from(fs::read_to_string(note).ok()?);
    let dir = StateDir::at(&path).ok().filter(|_| path.is_absolute())?;
    if dir.database().exists() {
        return Some(dir);
    }
    let _ = fs::remove_file(note);
    None
}
