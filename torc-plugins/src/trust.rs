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
        let (real, wrong) = self.look(path)?;
        wrong.into_iter().next().map_or(Ok(real), Err)
    }

    /// Each thing about a file, and about the folders on the way to it, that is not as it must be.
    pub fn all_wrong(&self, path: &Path) -> Vec<Distrust> {
        self.look(path).map_or_else(|unseen| vec![unseen], |(_, wrong)| wrong)
    }

    fn look(&self, path: &Path) -> Result<(PathBuf, Vec<Distrust>), Distrust> {
        let unseen = |error: std::io::Error| Distrust::Unseen {
            path: path.to_path_buf(),
            reason: error.to_string(),
        };
        let absolute = std::path::absolute(path).map_err(unseen)?;
        let real = fs::canonicalize(&absolute).map_err(unseen)?;
        let mut wrong = Vec::new();
        // A link is as good as the folder that it is in, and as the file that it leads to.
        for folder in [&absolute, &real].into_iter().flat_map(|way| way.ancestors().skip(1)) {
            for distrust in self.wrong_with(folder, &seen(folder)?) {
                if !wrong.contains(&distrust) {
                    wrong.push(distrust);
                }
            }
        }
        let found = seen(&real)?;
        wrong.extend(self.wrong_with(&real, &found));
        if !found.is_file() {
            wrong.push(Distrust::NotAFile(real.clone()));
        } else if found.mode() & SET_ID != 0 {
            wrong.push(Distrust::SetId(real.clone()));
        }
        Ok((real, wrong))
    }

    fn wrong_with(&self, path: &Path, found: &Metadata) -> Vec<Distrust> {
        let (owner, user) = (found.uid(), nix::unistd::geteuid().as_raw());
        let mut wrong = Vec::new();
        if owner != 0 && owner != user {
            wrong.push(Distrust::Owner { path: path.to_path_buf(), owner, user });
        }
        let mut writable = |who: String, fix| {
            wrong.push(Distrust::Writable { path: path.to_path_buf(), who, fix });
        };
        if found.mode() & OTHERS_WRITE != 0 {
            writable("everybody".to_owned(), "o-w");
        }
        if found.mode() & GROUP_WRITES != 0 && !self.groups.contains(&found.gid()) {
            writable(format!("its group, {}", found.gid()), "g-w");
        }
        wrong
    }
}

fn seen(path: &Path) -> Result<Metadata, Distrust> {
    fs::metadata(path)
        .map_err(|error| Distrust::Unseen { path: path.to_path_buf(), reason: error.to_string() })
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
