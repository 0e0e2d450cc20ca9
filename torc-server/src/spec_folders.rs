//! The folders in which the files are that a spec names: its own, then the current one.

use std::path::{Path, PathBuf};

use torc_core::spec::Sources;

/// Where the files are looked for.
#[derive(Clone, Debug)]
pub struct SpecFolders(Vec<PathBuf>);

impl SpecFolders {
    /// Those of a spec in a file.
    pub fn of(spec: &Path) -> Self {
        let absolute = std::path::absolute(spec).ok();
        let beside = absolute.as_deref().and_then(Path::parent).map(Path::to_path_buf);
        Self(beside.into_iter().chain(std::env::current_dir().ok()).collect())
    }

    /// Those of a spec that is in no file: the current one.
    pub fn here() -> Self {
        Self(std::env::current_dir().into_iter().collect())
    }
}

impl Sources for SpecFolders {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        let candidates = || self.0.iter().map(|folder| folder.join(path));
        let found = candidates().find(|candidate| candidate.exists());
        let chosen =
            found.or_else(|| candidates().next()).ok_or("there is no folder to look in")?;
        std::fs::read(&chosen).map_err(|error| format!("{}: {error}", chosen.display()))
    }
}
