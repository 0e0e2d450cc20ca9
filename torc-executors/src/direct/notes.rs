//! What is noted in the folder of a crew for whoever clears up after a job: the sruns that it called for, and which
//! nodes' workers are on a host.
//!
//! Owns these files, of short lines. Does not know what they are evidence of. A job's sruns on several hosts may write
//! at the same time, and of those a line may be lost; of those on one host none is.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use torc_core::ids::StepId;

use super::sruns;
use crate::slurm::steps::Srun;

/// The notes of a crew.
#[derive(Clone, Debug)]
pub(super) struct Notes {
    sruns: PathBuf,
    hosts: PathBuf,
}

impl Notes {
    /// Those in the folder of a crew.
    pub(super) fn of(crew: &Path) -> Self {
        Self { sruns: crew.join("sruns"), hosts: crew.join("hosts") }
    }

    /// Makes their folders.
    ///
    /// # Errors
    /// When that is impossible.
    pub(super) fn prepare(&self) -> io::Result<()> {
        fs::create_dir_all(&self.sruns).and_then(|()| fs::create_dir_all(&self.hosts))
    }

    /// Where the private srun adds a line, `HOST PID`, to the file that has the name of its step.
    pub(super) fn sruns(&self) -> &Path {
        &self.sruns
    }

    /// The sruns that a step called for, as far as they are known; `None`: it called for none.
    pub(super) fn called_by(&self, step: StepId) -> Option<Vec<Srun>> {
        self.read(&step.to_string())
    }

    /// The sruns that commands of actions called for.
    pub(super) fn called_by_commands(&self) -> Vec<Srun> {
        self.read(sruns::COMMAND).unwrap_or_default()
    }

    /// The sruns that anybody called for who was not forgotten.
    pub(super) fn all(&self) -> Vec<Srun> {
        let Ok(entries) = fs::read_dir(&self.sruns) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| self.read(&name)).flatten().collect()
    }

    fn read(&self, caller: &str) -> Option<Vec<Srun>> {
        let text = fs::read_to_string(self.sruns.join(caller)).ok()?;
        let srun = |line: &str| {
            let (host, pid) = line.split_once(' ')?;
            Some(Srun { host: host.to_owned(), pid: pid.parse().ok()? })
        };
        Some(text.lines().filter_map(srun).collect())
    }

    /// Forgets a step.
    pub(super) fn forget(&self, step: StepId) {
        // A note that stays does no harm: its name is never used again.
        let _ = fs::remove_file(self.sruns.join(step.to_string()));
    }

    /// A node's worker is on this host.
    ///
    /// # Errors
    /// When that cannot be noted.
    pub(super) fn place(&self, node: &str, host: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).open(self.hosts.join(host))?;
        file.write_all(format!("{node}\n").as_bytes())
    }

    /// The nodes whose workers are on this host.
    pub(super) fn nodes_on(&self, host: &str) -> Vec<String> {
        let text = fs::read_to_string(self.hosts.join(host)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_found() {
        let crew = tempfile::tempdir().expect("a folder");
        let notes = Notes::of(crew.path());
        assert_eq!((notes.all(), notes.nodes_on("here")), (vec![], vec![]));
        notes.prepare().expect("is made");
        let step: StepId = "wf1_j2_r1_a1".parse().expect("a step");
        assert_eq!(notes.called_by(step), None);
        let lines = "here 7\nthere 9\n 11\nhere\nhere x\n";
        fs::write(notes.sruns().join("wf1_j2_r1_a1"), lines).expect("is written");
        fs::write(notes.sruns().join("command"), "here 12\n").expect("is written");
        let srun = |host: &str, pid| Srun { host: host.to_owned(), pid };
        let expected = vec![srun("here", 7), srun("there", 9), srun("", 11)];
        assert_eq!(notes.called_by(step), Some(expected));
        assert_eq!(notes.called_by_commands(), [srun("here", 12)]);
        assert_eq!(notes.all().len(), 4);
        notes.forget(step);
        assert_eq!(notes.called_by(step), None);
        assert_eq!(notes.all(), [srun("here", 12)]);
        for node in ["n1", "n2"] {
            notes.place(node, "here").expect("is noted");
        }
        assert_eq!(notes.nodes_on("here"), ["n1", "n2"]);
        assert_eq!(notes.nodes_on("there"), [""; 0]);
    }
}
