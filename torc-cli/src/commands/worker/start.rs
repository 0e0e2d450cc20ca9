//! `torc node-start`: what starts the ranks of a job calls it in place of rsh.
//!
//! Owns: what of its arguments and surroundings makes the question. Does not know: how it is answered.

use std::io::{self, Write};

use torc_core::ids::{AttemptId, JobId, RunId, StepId, WorkflowId};
use torc_core::wire::crew::HelperStart;
use torc_executors::hosts::{HOST, asked_of_rsh, become_shell, inherited_by_helpers};
use torc_server::crew::{Access, Stream, start_on_node};

use crate::args::NodeStartArgs;
use crate::exit::{Exit, Failure};
use crate::interrupts::Interrupts;

pub(crate) async fn execute(args: &NodeStartArgs) -> Result<Exit, Failure> {
    let environment = |error: &dyn std::fmt::Display| Failure::new(Exit::Environment, error);
    let (host, text) = asked_of_rsh(&args.words).ok_or_else(|| {
        Failure::new(Exit::Usage, "a host and a command are needed, as rsh(1) has them")
    })?;
    if std::env::var(HOST).as_deref() == Ok(host) {
        let error = become_shell(&text);
        return Err(environment(&format!("cannot execute /bin/sh: {error}")));
    }
    let start = HelperStart {
        step: step()
            .ok_or_else(|| environment(&"only a job starts commands on its other hosts"))?,
        node: host.into(),
        text,
        env: inherited_by_helpers(std::env::vars_os()),
        working_dir: std::env::current_dir()
            .ok()
            .and_then(|folder| folder.into_os_string().into_string().ok())
            .unwrap_or_else(|| "/".to_owned()),
    };
    let access = Access::read(&args.access).map_err(|error| environment(&error))?;
    // A job that is asked to end ends its ranks itself, and what started them goes with the last of it.
    let _unheard = Interrupts::listen()?;
    let pass_on = |stream, bytes: &[u8]| {
        // Whoever listened may be gone.
        let _ = match stream {
            Stream::Out => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()),
            Stream::Error => io::stderr().write_all(bytes),
        };
    };
    let code = start_on_node(&access, start, pass_on).await.map_err(|error| environment(&error))?;
    Ok(if code == 0 { Exit::Success } else { Exit::JobsFailed })
}

/// The job that this is a part of.
fn step() -> Option<StepId> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    Some(StepId {
        workflow: WorkflowId(number("TORC_WORKFLOW_ID")?),
        job: JobId(number("TORC_JOB_ID")?),
        run: RunId(number("TORC_RUN_ID")?),
        attempt: AttemptId(number("TORC_ATTEMPT_ID")?),
    })
}
