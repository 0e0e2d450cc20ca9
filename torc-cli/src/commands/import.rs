//! `torc import`: a workflow that was exported, with its results.

use serde::Serialize;
use torc_core::ids::WorkflowId;
use torc_server::access::Access;
use torc_server::archive::Archive;
use torc_server::state_dir::StateDir;

use crate::args::{Format, ImportArgs};
use crate::exit::{Exit, Failure};
use crate::out::outln;
use crate::render::json;
use crate::spec_file;

#[derive(Serialize)]
struct Imported {
    id: WorkflowId,
}

pub(crate) async fn execute(
    args: &ImportArgs,
    dir: &StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    let (bytes, source) = spec_file::bytes(&args.file)?;
    let archive = Archive::read(&bytes).map_err(|error| {
        Failure::new(Exit::SpecInvalid, format!("cannot import {}: {error}", source.name))
    })?;
    let id = Access::import(dir, &archive).await?;
    match format {
        Format::Json => json(&Imported { id }),
        Format::Table => {
            outln!("workflow {id} is `{}` of {}", archive.workflow.header.name, source.name);
        }
    }
    Ok(Exit::Success)
}
