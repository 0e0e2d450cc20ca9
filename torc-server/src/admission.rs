//! Whether a workflow can be run at all: its input files are there, and each of its jobs fits what
//! there is or could be. Asked before anything is stored.

use std::path::Path;

use torc_core::engine::Engine;
use torc_core::offer::Offer;
use torc_core::placer::feasibility;
use torc_core::resources::Allocation;
use torc_core::time::Timestamp;
use torc_core::workflow::{Header, Workflow};

use crate::handle::KnownShapes;
use crate::session::{NeverRuns, RunError};

/// What allocations of each scheduler could be. Of those that nobody knows, the settings count alone.
pub(crate) fn offers(header: &Header, shapes: &KnownShapes) -> Vec<Offer> {
    let schedulers = header.schedulers.iter().zip(0u32..);
    let offer = |(settings, index)| {
        Offer::of(header, settings, shapes.get(&index).map(Vec::as_slice).unwrap_or_default())
    };
    schedulers.map(offer).collect()
}

/// Each job must be able to start in one of these allocations at `now` or later, if that were all its own.
///
/// # Errors
/// With all that can never, and why.
pub(crate) fn check_feasibility(
    engine: &Engine,
    allocations: &[Allocation],
    now: Timestamp,
) -> Result<(), RunError> {
    let never: Vec<NeverRuns> = engine
        .unfinished_classes()
        .filter_map(|(request, job, count)| {
            let reason = feasibility(request, allocations, now).err()?;
            let job = engine.workflow().jobs[job.index()].name.to_string();
            Some(NeverRuns { job, count, reason })
        })
        .collect();
    if never.is_empty() { Ok(()) } else { Err(RunError::NeverRuns(never)) }
}

/// Files that some job reads and none writes must be there. Where jobs can be added, one of them may write what is read
/// by jobs that wait for others: of these files nothing is said.
///
/// # Errors
/// With all that are missing.
pub(crate) fn check_inputs(workflow: &Workflow, submission_dir: &Path) -> Result<(), RunError> {
    let is_growing = workflow.header.max_dynamic_iterations.is_some();
    let reads = workflow.jobs.iter().filter(|job| !is_growing || job.depends_on.is_empty());
    let mut wanted = vec![false; workflow.header.files.len()];
    for file in reads.filter_map(|job| job.data.as_deref()).flat_map(|data| &data.input_files) {
        wanted[*file as usize] = true;
    }
    let data = workflow.jobs.iter().filter_map(|job| job.data.as_deref());
    for file in data.flat_map(|data| &data.output_files) {
        wanted[*file as usize] = false;
    }
    let missing: Vec<String> = wanted
        .iter()
        .zip(&workflow.header.files)
        .filter(|(wanted, file)| **wanted && !submission_dir.join(&*file.path).exists())
        .map(|(_, file)| file.path.to_string())
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(RunError::MissingFiles(missing)) }
}
