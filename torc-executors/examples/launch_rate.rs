//! How fast the Local executor starts and ends jobs, against xargs on the same host.
//!
//! `launch_rate [JOBS [PARALLEL [ROUNDS]]]`: runs JOBS times `bash -c true`, PARALLEL at a time, with
//! output files through the executor, and without through xargs, in turns, and prints the ratio.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use torc_core::ids::{AllocationId, AttemptId, JobId, RunId, StepId, WorkflowId};
use torc_core::traits::{
    Executor, Outcome, RankLayout, StdioPaths, Step, StepEvent, StepLimits, StepNode,
};
use torc_executors::local::{LocalConfig, LocalExecutor};

fn main() -> ExitCode {
    if let Some(code) = torc_executors::keeper::run_if_asked() {
        return code;
    }
    let numbers: Vec<u32> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let number = |index: usize, default: u32| numbers.get(index).copied().unwrap_or(default);
    match compare(number(0, 10_000), number(1, 2), number(2, 3)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print(&format!("failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "an example's results")]
fn print(line: &str) {
    println!("{line}");
}

fn compare(jobs: u32, parallel: u32, rounds: u32) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // All output stays until the end: ext4 is slow to create files where some were just deleted.
    let folder = tempfile::tempdir()?;
    for round in 0..rounds {
        let xargs = xargs(jobs, parallel)?;
        let output = folder.path().join(round.to_string());
        std::fs::create_dir(&output)?;
        let torc = runtime.block_on(executor(jobs, parallel, &output))?;
        let rate = f64::from(jobs) / torc.as_secs_f64();
        let ratio = torc.as_secs_f64() / xargs.as_secs_f64();
        print(&format!(
            "xargs {xargs:.2?}, executor {torc:.2?}: {rate:.0} jobs/s, ratio {ratio:.3}"
        ));
    }
    Ok(())
}

fn xargs(jobs: u32, parallel: u32) -> Result<Duration, Box<dyn Error>> {
    let start = Instant::now();
    let line = format!("seq {jobs} | xargs -P {parallel} -I{{}} bash -c true");
    let status = Command::new("bash").args(["-c", &line]).status()?;
    if !status.success() {
        return Err("xargs failed".into());
    }
    Ok(start.elapsed())
}

async fn executor(jobs: u32, parallel: u32, folder: &Path) -> Result<Duration, Box<dyn Error>> {
    let host = torc_executors::host::inventory()?;
    let node = StepNode {
        name: host.name.clone(),
        cores: [host.cores[0]].into(),
        gpus: Box::default(),
        memory: 0,
    };
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let emit = move |event| drop(sender.send(event));
    let config = LocalConfig::new(vec![host], folder.join("hosts"), std::env::vars_os().collect());
    let executor = LocalExecutor::start(config, Arc::new(emit))?;
    let output = folder.to_str().ok_or("the temporary folder has no UTF-8 name")?;
    let start = Instant::now();
    let (mut launched, mut ended) = (0, 0);
    while ended < jobs {
        while launched < jobs && launched - ended < parallel {
            launched += 1;
            executor.launch(step(launched, output, &node)).await?;
        }
        match events.recv().await.ok_or("no more events")? {
            StepEvent::Ended { outcome: Outcome::Exited { code: 0 }, .. } => ended += 1,
            StepEvent::Ended { outcome, .. } => return Err(format!("{outcome:?}").into()),
            StepEvent::Started { .. } | StepEvent::NodeChanged { .. } => {}
        }
    }
    let elapsed = start.elapsed();
    executor.shutdown().await;
    Ok(elapsed)
}

fn step(number: u32, output: &str, node: &StepNode) -> Step {
    let id = StepId {
        workflow: WorkflowId(1),
        job: JobId(number),
        run: RunId(1),
        attempt: AttemptId::FIRST,
    };
    let env =
        ["TORC_WORKFLOW_ID", "TORC_JOB_ID", "TORC_JOB_NAME", "TORC_RUN_ID", "TORC_ATTEMPT_ID"];
    let env = env.iter().map(|name| ((*name).to_owned(), number.to_string()));
    Step {
        id,
        job_name: format!("job_{number}").into(),
        argv: ["bash", "-c", "true"].map(str::to_owned).to_vec(),
        env: env.collect::<BTreeMap<_, _>>(),
        working_dir: output.into(),
        stdio: StdioPaths {
            stdout: Some(format!("{output}/job_{id}.o").into()),
            stderr: Some(format!("{output}/job_{id}.e").into()),
            delete_on_success: false,
        },
        nodes: vec![node.clone()],
        layout: RankLayout { ntasks_per_node: 1, cpus_per_node: 1, mpi: None, cpu_bind: None },
        allocation: AllocationId(1),
        limits: StepLimits {
            memory: Some(1 << 30),
            runtime: Some(Duration::from_secs(3600)),
            termination_signal: 15,
            termination_lead: Duration::from_secs(30),
        },
        expected_files: Vec::new(),
    }
}
