//! What a restart would do, for people.

use torc_core::restart::Reason;
use torc_core::wire::RestartPlanReport;

use crate::out::outln;
use crate::render::{counted, jobs, status_cell, table};

pub(crate) fn print(plan: &RestartPlanReport) {
    if !plan.jobs.is_empty() {
        let rows = plan.jobs.iter().map(|job| {
            let words: Vec<String> = job.reasons.iter().map(words).collect();
            vec![job.id.to_string(), job.name.clone(), status_cell(job.status), words.join("; ")]
        });
        table(&["id", "job", "status", "why it runs"], rows);
    }
    let (workflow, run) = (plan.workflow, plan.run);
    let way = if plan.goes_on { "would go on" } else { "would begin" };
    let count = u32::try_from(plan.jobs.len()).unwrap_or(u32::MAX);
    match count {
        0 if !plan.goes_on => outln!("workflow {workflow}: nothing to restart"),
        _ => outln!("workflow {workflow}, run {run} {way}: {} to run", jobs(count)),
    }
    if plan.kept > 0 {
        outln!("{} completed and kept", jobs(plan.kept));
    }
    if !plan.barred.is_empty() {
        let count = counted(plan.barred.len(), "job");
        outln!("{count} to be canceled, depending on what is disabled: {}", plan.barred.join(", "));
    }
    if !plan.removed.is_empty() {
        let count = counted(plan.removed.len(), "job");
        outln!("{count} not in the spec any more, to be disabled: {}", plan.removed.join(", "));
    }
}

fn words(reason: &Reason) -> String {
    match reason {
        Reason::Failed => "failed".to_owned(),
        Reason::Terminated => "was terminated".to_owned(),
        Reason::Canceled => "was canceled".to_owned(),
        Reason::NeverRan => "never ran".to_owned(),
        Reason::Unfinished => "has not ended".to_owned(),
        Reason::CommandChanged => "command changed".to_owned(),
        Reason::EnvChanged { names } => format!("env changed: {}", names.join(", ")),
        Reason::RequirementsChanged { changes } => {
            let change = changes
                .iter()
                .map(|change| format!("{} {} → {}", change.field, change.from, change.to));
            format!("requirements changed: {}", change.collect::<Vec<_>>().join(", "))
        }
        Reason::LauncherChanged => "launcher changed".to_owned(),
        Reason::DependenciesChanged { added, removed } => {
            let signed = |sign: char| move |name: &String| format!("{sign}{name}");
            let names: Vec<String> =
                added.iter().map(signed('+')).chain(removed.iter().map(signed('-'))).collect();
            format!("dependencies changed: {}", names.join(" "))
        }
        Reason::UserDataChanged { name } => format!("user data {name} changed"),
        Reason::InputChanged { file } => format!("input {file} changed"),
        Reason::InputAdded { file } => format!("input {file} is new to it"),
        Reason::InputGone { file } => format!("input {file} is gone"),
        Reason::OutputGone { file } => format!("output {file} is gone"),
        Reason::After { job } => format!("runs after {job}, which runs again"),
        Reason::All => "--all".to_owned(),
    }
}
