//! `torc files`: the files that a workflow's jobs read and write.

use torc_core::wire::FileReport;
use torc_server::access::Access;
use torc_server::state_dir::StateDir;

use crate::args::{FilesArgs, Format};
use crate::exit::{Exit, Failure};
use crate::render::{bytes, few, local_time, table};

pub(crate) async fn execute(
    args: &FilesArgs,
    dir: &StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    let files = Access::open(dir).await?.files(args.workflow.workflow).await?;
    match format {
        Format::Json => crate::render::json(&files),
        Format::Table => table(
            &["file", "path", "written by", "read by", "exists", "size", "modified"],
            files.iter().map(row),
        ),
    }
    Ok(Exit::Success)
}

fn row(file: &FileReport) -> Vec<String> {
    vec![
        file.name.clone(),
        file.path.clone(),
        few(&file.producers),
        few(&file.consumers),
        if file.exists { "yes" } else { "no" }.to_owned(),
        file.size.map_or_else(String::new, bytes),
        file.modified_at.map_or_else(String::new, local_time),
    ]
}
