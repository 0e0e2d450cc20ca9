//! How fast the Slurm executor starts and ends job steps, against xargs with srun in the same allocation.
//!
//! `step_rate [STEPS [PARALLEL [ROUNDS]]]`, inside an allocation: runs STEPS times `bash -c true`,
//! PARALLEL at a time, through the executor and through xargs, in turns, and prints the ratio.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use torc_core::ids::{AllocationId, AttemptId, JobId, RunId, StepId, WorkflowId};
use torc_core::resources::NodeInventory;
use torc_core::traits::{
    Executor, Outcome, RankLayout, StdioPaths, Step, StepEvent, StepLimits, StepNode,
};
use torc_executors::slurm::{SlurmConfig, SlurmExecutor};

fn main() -> ExitCode {
    if let Some(code) = torc_executors::keeper::run_if_asked() {
        return code;
    }
    let numbers: Vec<u32> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let number = |index: usize, default: u32| numbers.get(index).copied().unwrap_or(default);
    match compare(number(0, 200), number(1, 8), number(2, 3)) {
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

fn compare(steps: u32, parallel: u32, rounds: u32) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let folder = tempfile::tempdir()?;
    for _ in 0..rounds {
        let xargs = xargs(steps, parallel)?;
        let torc = runtime.block_on(executor(steps, parallel, folder.path()))?;
        let rate = f64::from(steps) / torc.as_secs_f64();
        let ratio = torc.as_secs_f64() / xargs.as_secs_f64();
        print(&format!(
            "xargs {xargs:.2?}, executor {torc:.2?}: {rate:.1} steps/s, ratio {ratio:.3}"
        ));
    }
    Ok(())
}

fn xargs(steps: u32, parallel: u32) -> Result<Duration, Box<dyn Error>> {
    let start = Instant::now();
    let srun = "srun --nodes=1 --ntasks=1 --exact --cpus-per-task=1 --mem=64M --gres=none \
                --input=none --output=none --error=none --mpi=none bash -c true";
    let line = format!("seq {steps} | xargs -P {parallel} -I{{}} {srun}");
    let status =
        Command::new("bash").args(["-c", &line]).env_remove("SLURM_MEM_PER_NODE").status()?;
    if !status.success() {
        return Err("xargs failed".into());
    }
    Ok(start.elapsed())
}

async fn executor(steps: u32, parallel: u32, folder: &Path) -> Result<Duration, Box<dyn Error>> {
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let emit = move |event| drop(sender.send(event));
    let env = std::env::vars_os().collect();
    let mut config = SlurmConfig::new(AllocationId(1), folder.join("hosts"), env);
    config.max_parallel_steps = parallel;
    let executor = SlurmExecutor::start(config, Arc::new(emit)).await?;
    let nodes = executor.inventory().await?;
    let working_dir = folder.to_str().ok_or("the temporary folder has no UTF-8 name")?;
    let start = Instant::now();
    for number in 1..=steps {
        let node = &nodes[number as usize % nodes.len()];
        executor.launch(step(number, working_dir, node)).await?;
    }
    let mut ended = 0;
    while ended < steps {
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

fn step(number: u32, working_dir: &str, node: &NodeInventory) -> Step {
    Step {
        id: StepId {
            workflow: WorkflowId(1),
            job: JobId(number),
            run: RunId(1),
            attempt: AttemptId::FIRST,
        },
        job_name: "true".into(),
        argv: ["bash", "-c", "true"].map(str::to_owned).to_vec(),
        env: BTreeMap::new(),
        working_dir: working_dir.into(),
        stdio: StdioPaths::default(),
        allocation: AllocationId(1),
        nodes: vec![StepNode {
            name: node.name.clone(),
            cores: [0].into(),
            gpus: Box::default(),
            memory: 64 << 20,
        }],
        layout: RankLayout { ntasks_per_node: 1, cpus_per_node: 1, mpi: None, cpu_bind: None },
        limits: StepLimits {
            memory: Some(64 << 20),
            runtime: None,
            termination_signal: 15,
            termination_lead: Duration::from_secs(30),
        },
        expected_files: Vec::new(),
    }
}
