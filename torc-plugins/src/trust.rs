//! Whether a file may be loaded, or run, as a plugin.
//!
//! Owns: the rule: a regular file that nobody but its owner can change, nor swap for another, the owner being root or
//! whoever runs torc. This keeps planted files out; it is no sandbox. Does not know: what is in the file.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::Distrust;

const SET_ID: u32 = 0o6000;
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// Whom is trusted besides root and oneself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// The numbers of groups whose members may write to plugins and their folders.
    pub groups: Vec<u32>,
}

impl Trust {
    /// The file itself, behind all links, if it is trusted.
    ///
    /// # Errors
    /// The first thing about it, or about a folder on the way to it, that is not as it must be.
    pub fn examine(&self, path: &Path) -> Result<PathBuf, Distrust> {
        let unseen = |error: std::io::Error| Distrust::Unseen {
            path: path.to_path_buf(),
            reason: error.to_string(),
        };
        let absolute = std::path::absolute(path).map_err(unseen)?;
        let real = fs::canonicalize(&absolute).map_err(unseen)?;
        // A link is as good as the folder that it is in, and as the file that it leads to.
        for way in [&absolute, &real] {
            for folder in way.ancestors().skip(1) {
                self.examine_one(folder)?;
            }
        }
        let found = self.examine_one(&real)?;
        if !found.is_file() {
            return Err(Distrust::NotAFile(real));
        }
        if found.mode() & SET_ID != 0 {
            return Err(Distrust::SetId(real));
        }
        Ok(real)
    }

    fn examine_one(&self, path: &Path) -> Result<Metadata, Distrust> {
        let found = fs::metadata(path).map_err(|error| Distrust::Unseen {
            path: path.to_path_buf(),
            reason: error.to_string(),
        })?;
        let (owner, user) = (found.uid(), nix::unistd::geteuid().as_raw());
        if owner != 0 && owner != user {
            return Err(Distrust::Owner { path: path.to_path_buf(), owner, user });
        }
        let writable = |who: &str, fix| Distrust::Writable {
            path: path.to_path_buf(),
            who: who.to_owned(),
            fix,
        };
        if found.mode() & OTHERS_WRITE != 0 {
            return Err(writable("everybody", "o-w"));
        }
        if found.mode() & GROUP_WRITES != 0 && !self.groups.contains(&found.gid()) {
            return Err(writable(&format!("its group, {}", found.gid()), "g-w"));
        }
        Ok(found)
    }
}

/// The SHA-256 of a file as sha256sum(1) has it, in lower case.
///
/// # Errors
/// When it cannot be read.
pub fn digest(path: &Path) -> std::io::Result<String> {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(fs::read(path)?);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether a file name is that of a shared library.
pub(crate) fn is_library(name: &OsStr) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "so")
}
