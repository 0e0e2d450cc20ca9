//! The job that calls torc, if a job does: what its environment says of it.
//!
//! Knows the variables that torc sets for jobs. Invariant: a job is taken for the caller only in its own workflow
//! and state directory; for others it is anybody.

use std::path::Path;

use torc_core::ids::{JobId, WorkflowId};
use torc_server::state_dir::StateDir;

use crate::exit::{Exit, Failure};

/// The job of this workflow in which this process runs; `None`: in none.
pub(crate) fn of(dir: &StateDir, workflow: Option<WorkflowId>) -> Result<Option<JobId>, Failure> {
    let variable = |name| std::env::var(name).ok();
    let (Some(job), Some(own), Some(own_dir)) = (
        variable("TORC_JOB_ID"),
        variable("TORC_WORKFLOW_ID"),
        std::env::var_os("TORC_OUTPUT_DIR"),
    ) else {
        return Ok(None);
    };
    let is_own = workflow.is_some_and(|workflow| own == workflow.to_string());
    if !is_own || !is_same(dir.path(), Path::new(&own_dir)) {
        return Ok(None);
    }
    match job.parse() {
        Ok(number) => Ok(Some(JobId(number))),
        Err(_) => {
            let message = format!("TORC_JOB_ID is `{job}`, but it must be the number of a job");
            Err(Failure::new(Exit::Usage, message))
        }
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    one == other || real(one) == real(other)
}
