//! The folder of a crew, on a file system that its nodes share.
//!
//! Owns where what lies in it, and how long it is there: it is the crew's alone, and goes with it. Does not know
//! what a crew does. Invariant: nobody removes the folder of a crew whose leader lives, which holds a lock in it. One
//! whose leader is gone may be removed, even while a worker is ending somewhere: what runs there is lost anyway.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::clock::now;
use crate::file_lock;
use crate::kept::StartError;

/// What the names of these folders begin with.
const PREFIX: &str = "crew_";

/// The same until its lock is held, so that nobody takes it for one that was left.
const NEW: &str = "new_";

const LOCK: &str = "lock";

/// The folder of a crew that this process leads. Dropping it removes it.
#[derive(Debug)]
pub struct CrewFolder {
    path: PathBuf,
    /// `None`: it was removed.
    lock: Option<File>,
}

impl CrewFolder {
    /// Makes one below this folder, which may be missing, for a crew in this Slurm job.
    ///
    /// # Errors
    /// When that is impossible, or the file system knows no locks.
    pub fn make(below: &Path, job: &str) -> Result<Self, StartError> {
        let name = format!("{PREFIX}{job}_{}_{}", std::process::id(), now().0);
        let (path, new) = (below.join(&name), below.join(format!("{NEW}{name}")));
        let failed = |source| StartError::Scratch { path: path.clone(), source };
        fs::create_dir_all(&new).map_err(failed)?;
        let made = File::create(new.join(LOCK)).and_then(locked);
        let made = made.and_then(|lock| fs::rename(&new, &path).map(|()| lock));
        let lock = made.map_err(|source| {
            remove(&new);
            failed(source)
        })?;
        Ok(Self { path, lock: Some(lock) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it, with all that is in it. What cannot be removed is left for the next crew.
    pub fn remove(&mut self) {
        if self.lock.take().is_some() {
            remove(&self.path);
        }
    }
}

impl Drop for CrewFolder {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Removes below this folder what crews have left whose leaders were killed.
pub fn remove_abandoned(below: &Path) {
    for path in crews(below, PREFIX) {
        let lock = OpenOptions::new().write(true).open(path.join(LOCK));
        match lock.and_then(locked).map(drop) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::debug!(%error, path = %path.display(), "the folder of a crew is kept");
            }
            // Another one may be about to remove it, too.
            _ => remove(&path),
        }
    }
}

/// The folders below this one of crews in this Slurm job, those whose leaders are gone included.
pub(super) fn of_job(below: &Path, job: &str) -> Vec<PathBuf> {
    crews(below, &format!("{PREFIX}{job}_"))
}

fn crews(below: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(below) else { return Vec::new() };
    let is_crews =
        |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes());
    entries.flatten().filter(is_crews).map(|entry| entry.path()).collect()
}

fn locked(file: File) -> io::Result<File> {
    if file_lock::take(&file)? { Ok(file) } else { Err(io::ErrorKind::WouldBlock.into()) }
}

/// No file in it may be open here: some network file systems keep those.
fn remove(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(%error, path = %path.display(), "the folder of a crew is left");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(below: &Path) -> Vec<String> {
        let entries = fs::read_dir(below).expect("is there").flatten();
        entries.map(|entry| entry.file_name().into_string().expect("text")).collect()
    }

    #[test]
    fn a_crews_folder_goes_with_it() {
        let below = tempfile::tempdir().expect("a folder");
        let scratch = below.path().join("scratch");
        let mut crew = CrewFolder::make(&scratch, "41").expect("is made");
        assert_eq!(of_job(&scratch, "41"), [crew.path()]);
        assert_eq!(of_job(&scratch, "4"), [""; 0].map(PathBuf::from));
        fs::create_dir_all(crew.path().join("nodes/n1")).expect("is made");
        crew.remove();
        crew.remove();
        assert_eq!(names(&scratch), [""; 0]);
        drop(CrewFolder::make(&scratch, "41").expect("is made"));
        assert_eq!(names(&scratch), [""; 0]);
    }

    #[test]
    fn what_a_killed_leader_left_is_removed_and_nothing_else() {
        let below = tempfile::tempdir().expect("a folder");
        let live = CrewFolder::make(below.path(), "41").expect("is made");
        let dead = below.path().join("crew_41_1_2");
        let half_removed = below.path().join("crew_7_1_2");
        for folder in [&dead, &half_removed, &below.path().join("mine")] {
            fs::create_dir(folder).expect("is made");
        }
        for file in [dead.join(LOCK), dead.join("crew.json"), below.path().join("hosts-node0")] {
            fs::write(file, "").expect("is written");
        }
        remove_abandoned(below.path());
        let mut left = names(below.path());
        left.sort();
        let live_name = live.path().file_name().and_then(|name| name.to_str()).expect("text");
        assert_eq!(left, [live_name, "hosts-node0", "mine"]);
        remove_abandoned(&below.path().join("nowhere"));
    }
}
