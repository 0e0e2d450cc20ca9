//! The files that `TORC_HOSTFILE` names: one host a line, in node order, each node once.
//!
//! That is what every MPI launcher can read; how many ranks a host gets is said on its command line.
//! Steps on one node share a file that is written once; a gang gets its own, for as long as it runs.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use torc_core::ids::StepId;
use torc_core::resources::NodeInventory;
use torc_core::traits::Step;

use super::error::StartError;

/// Writes hostfiles.
#[derive(Debug)]
pub(crate) struct Hostfiles {
    folder: String,
    shared: HashMap<Box<str>, String>,
}

impl Hostfiles {
    /// Writes the shared files of these nodes into `folder`.
    ///
    /// # Errors
    /// When that is impossible.
    pub(crate) fn prepare(folder: PathBuf, nodes: &[NodeInventory]) -> Result<Self, StartError> {
        let failed = |source| StartError::Scratch { path: folder.clone(), source };
        fs::create_dir_all(&folder).map_err(failed)?;
        // Jobs have other working folders.
        let folder = fs::canonicalize(&folder).map_err(failed)?;
        let folder = folder.into_os_string().into_string();
        let folder = folder.map_err(|name| StartError::ScratchName(name.into()))?;
        let mut shared = HashMap::new();
        for (index, node) in nodes.iter().enumerate() {
            let path = format!("{folder}/hosts-node{index}");
            let failed = |source| StartError::Scratch { path: folder.clone().into(), source };
            fs::write(&path, format!("{}\n", node.name)).map_err(failed)?;
            shared.insert(node.name.clone(), path);
        }
        Ok(Self { folder, shared })
    }

    /// None: nothing of what is kept is told of hosts.
    pub(crate) fn none() -> Self {
        Self { folder: String::new(), shared: HashMap::new() }
    }

    /// The hostfile of a step.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn of(&self, step: &Step) -> io::Result<String> {
        if let [node] = step.nodes.as_slice()
            && let Some(path) = self.shared.get(&node.name)
        {
            return Ok(path.clone());
        }
        let path = self.own_path(step.id);
        let lines: String = step.nodes.iter().map(|node| format!("{}\n", node.name)).collect();
        fs::write(&path, lines)?;
        Ok(path)
    }

    /// Whether this is one of the executor's nodes.
    pub(crate) fn is_here(&self, node: &str) -> bool {
        self.shared.contains_key(node)
    }

    /// Removes the hostfile of a step that has ended, if it had its own.
    pub(crate) fn remove(&self, step: StepId) {
        // A file that stays does no harm: its name is never used again.
        let _ = fs::remove_file(self.own_path(step));
    }

    fn own_path(&self, step: StepId) -> String {
        format!("{}/hosts-{step}", self.folder)
    }
}
