//! How many short jobs a second one server runs on a thousand simulated workers, and how long a worker
//! waits from the end of one step to its next launch.
//!
//! `cargo run --release -p torc-server --example worker_load -- [--workers N] [--jobs N] [--job-ms MS]
//! [--dir FOLDER] [--json]`
//!
//! Server and workers are processes of their own, so that it can be told who used the processor. The
//! server is a real one with its database, TLS and WebSockets. Each worker is torc's own, with its
//! connection and its journal, for an allocation of one node of two CPUs; only its steps are pretended:
//! they end by themselves after MS milliseconds on average, 0 (the default) at once. All jobs wait for
//! a first one that ends when all workers are there; the clock runs from its end to the durable end of
//! the run.
//!
//! With steps that end at once, workers wait for as long as the server needs to serve all others
//! first, so the wait that a user feels is measured with `--job-ms`.

#[path = "worker_load/server.rs"]
mod server;
#[path = "worker_load/workers.rs"]
mod workers;

use std::error::Error;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use torc_core::engine::JobStatus;
use torc_core::spec::{Context, Sources, load};
use torc_core::wire::{AllocationStage, RunState, SubmitRequest, WorkflowReport};
use torc_server::access::Access;
use torc_server::state_dir::StateDir;

/// How long one step of the preparations may take.
const PATIENCE: Duration = Duration::from_secs(600);

type Failure = Box<dyn Error + Send + Sync>;

/// What is measured.
struct Load {
    workers: u32,
    jobs: u32,
    job_ms: u64,
    dir: PathBuf,
    /// As one line of JSON, for programs.
    json: bool,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.first().map(String::as_str) {
        Some("serve") => server::main(&args[1..]),
        Some("work") => workers::main(&args[1..]),
        _ => measure(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("failed: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "a measurement for whoever runs it")]
fn say(line: &str) {
    println!("{line}");
}

fn parse<T: FromStr<Err: Display>>(args: &[String], index: usize) -> Result<T, Failure> {
    let text = args.get(index).ok_or("an argument is missing")?;
    text.parse().map_err(|error| format!("`{text}`: {error}").into())
}

fn options(args: &[String]) -> Result<Load, Failure> {
    let dir = std::env::temp_dir();
    let mut load = Load { workers: 1_000, jobs: 100_000, job_ms: 0, dir, json: false };
    let mut index = 0;
    while let Some(option) = args.get(index) {
        match option.as_str() {
            "--workers" => load.workers = parse(args, index + 1)?,
            "--jobs" => load.jobs = parse(args, index + 1)?,
            "--job-ms" => load.job_ms = parse(args, index + 1)?,
            "--dir" => load.dir = parse(args, index + 1)?,
            "--json" => load.json = true,
            other => return Err(format!("what is `{other}`?").into()),
        }
        index += if option == "--json" { 1 } else { 2 };
    }
    Ok(load)
}

/// A process of this program that prints one line after another.
struct Part {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Part {
    fn start(args: &[&str]) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no pipe")?;
        Ok(Self { child, lines: BufReader::new(stdout).lines() })
    }

    fn line(&mut self) -> Result<String, Failure> {
        let line = self.lines.next().ok_or("a part of the measurement ended early")??;
        if line.starts_with("failed") { Err(line.into()) } else { Ok(line) }
    }

    fn go_on(&mut self) -> Result<(), Failure> {
        let stdin = self.child.stdin.as_mut().ok_or("no pipe")?;
        Ok(stdin.write_all(b"go\n")?)
    }

    fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What was measured.
#[derive(Serialize)]
struct Figures {
    submission_s: f64,
    /// From the start of the workers until all are connected.
    arrival_s: f64,
    run_s: f64,
    jobs_per_s: f64,
    /// From the end of a step to the next launch.
    wait_median_ms: f64,
    wait_p99_ms: f64,
    /// Processor time a job.
    server_cpu_us: f64,
    workers_cpu_us: f64,
    /// Of the server, in bytes, the largest so far: before the first job, and at the end.
    idle_memory: u64,
    peak_memory: u64,
}

fn measure(args: &[String]) -> Result<(), Failure> {
    let load = options(args)?;
    let folder = tempfile::tempdir_in(&load.dir)?;
    let path = folder.path().to_str().ok_or("the folder's name is not UTF-8")?;
    let dir = StateDir::at(folder.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let count = load.workers.to_string();
    let mut server = Part::start(&["serve", path, &count])?;
    server.line()?;
    let request = request(&load)?;
    let submission = Instant::now();
    runtime.block_on(Access::submit(&dir, &request))?;
    let submission_s = submission.elapsed().as_secs_f64();
    drop(request);
    // A worker that comes before it is wished for is sent away.
    runtime.block_on(all_are(AllocationStage::Submitted, &dir, load.workers, &mut server))?;
    let arrival = Instant::now();
    let mut workers = Part::start(&["work", path, &count, &load.job_ms.to_string()])?;
    runtime.block_on(all_are(AllocationStage::Active, &dir, load.workers, &mut workers))?;
    let arrival_s = arrival.elapsed().as_secs_f64();
    let (idle_memory, before) = (memory(server.process())?, cpu(&server, &workers)?);
    workers.go_on()?;
    let gate: u64 = workers.line()?.parse()?;
    let waits = workers.line()?;
    let [wait_median_ms, wait_p99_ms] = waits_of(&waits)?;
    let report = runtime.block_on(async { Access::open(&dir).await?.workflow(None).await })?;
    check(&report, load.jobs)?;
    let ended_at = report.ended_at.ok_or("the run has not ended")?;
    let run_s = Duration::from_millis(ended_at.0.saturating_sub(gate)).as_secs_f64();
    let after = cpu(&server, &workers)?;
    let jobs = f64::from(load.jobs);
    let figures = Figures {
        submission_s,
        arrival_s,
        run_s,
        jobs_per_s: jobs / run_s,
        wait_median_ms,
        wait_p99_ms,
        server_cpu_us: (after.0 - before.0) * 1e6 / jobs,
        workers_cpu_us: (after.1 - before.1) * 1e6 / jobs,
        idle_memory,
        peak_memory: memory(server.process())?,
    };
    if load.json {
        say(&serde_json::to_string(&figures)?);
    } else {
        show(&load, &figures);
    }
    Ok(())
}

fn show(load: &Load, figures: &Figures) {
    let Load { workers, jobs, job_ms, .. } = load;
    let Figures { submission_s, arrival_s, run_s, jobs_per_s, .. } = figures;
    let Figures { wait_median_ms, wait_p99_ms, server_cpu_us, workers_cpu_us, .. } = figures;
    let [peak, idle] = [figures.peak_memory, figures.idle_memory].map(|bytes| bytes >> 20);
    say(&format!(
        "{workers} workers, {jobs} jobs of {job_ms} ms: {run_s:.2} s, {jobs_per_s:.0} jobs a second
end of a step to the next launch: median {wait_median_ms:.2} ms, 99th percentile {wait_p99_ms:.2} ms
processor time a job: server {server_cpu_us:.0} us, workers {workers_cpu_us:.0} us
memory of the server: peak {peak} MiB; {idle} MiB before the first job
submission {submission_s:.2} s, arrival of all workers {arrival_s:.2} s"
    ));
}

/// The median and the 99th percentile, in milliseconds.
fn waits_of(line: &str) -> Result<[f64; 2], Failure> {
    let numbers: Result<Vec<f64>, _> = line.split(' ').map(str::parse).collect();
    let numbers: Result<[f64; 2], _> = numbers?.try_into();
    Ok(numbers.map_err(|_| "two numbers were to come")?)
}

fn check(report: &WorkflowReport, jobs: u32) -> Result<(), Failure> {
    let completed = report.counts.get(&JobStatus::Completed).copied().unwrap_or(0);
    if report.state == RunState::Ended && completed == jobs + 1 {
        return Ok(());
    }
    Err(format!("{completed} of {} jobs completed: {:?}", jobs + 1, report.state).into())
}

struct NoSources;

impl Sources for NoSources {
    fn read(&self, _: &str) -> Result<Vec<u8>, String> {
        Err("no such file".to_owned())
    }
}

fn request(load_of: &Load) -> Result<SubmitRequest, Failure> {
    let spec = format!(
        "name: load
slurm_schedulers: [{{name: cpu, account: a, walltime: '10:00:00'}}]
resource_requirements: [{{name: one, num_cpus: 1, memory: 1m, runtime: PT1M}}]
actions:
- {{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: cpu,
    num_allocations: {}}}
jobs:
- {{name: gate, command: gate, resource_requirements: one}}
- {{name: 'job_{{i}}', command: 'true {{i}}', resource_requirements: one, depends_on: [gate],
    parameters: {{i: '1:{}'}}}}",
        load_of.workers, load_of.jobs
    );
    let context = Context { user: None, sources: &NoSources };
    let workflow = load(spec.as_bytes(), None, &context).map_err(|_| "the spec is refused")?;
    Ok(SubmitRequest {
        workflow: workflow.workflow,
        submission_dir: "/".to_owned(),
        spec_path: None,
        env: std::env::vars().map(|(name, value)| (name.into(), value.into())).collect(),
        umask: 0o022,
    })
}

/// Waits until all allocations stand there. That a process which is needed for it ends is an error.
async fn all_are(
    stage: AllocationStage,
    dir: &StateDir,
    count: u32,
    needed: &mut Part,
) -> Result<(), Failure> {
    let access = Access::open(dir).await?;
    let all = async {
        loop {
            let allocations = access.allocations(None).await?;
            let there = allocations.iter().filter(|allocation| allocation.stage == stage);
            if there.count() == count as usize {
                return Ok(());
            }
            if needed.child.try_wait()?.is_some() {
                return Err(needed.line()?.into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await?
}

/// The largest resident memory of a process so far, in bytes (proc(5), `VmHWM`).
fn memory(process: u32) -> Result<u64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line.ok_or("no VmHWM")?.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}

/// Processor time of server and workers so far, in seconds (proc(5), fields 14 and 15 of `stat`).
fn cpu(server: &Part, workers: &Part) -> Result<(f64, f64), Failure> {
    let ticks = |part: &Part| -> Result<f64, Failure> {
        let path = format!("/proc/{}/stat", part.process());
        let stat = std::fs::read_to_string(Path::new(&path))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split(' ').collect();
        let [user, system] = [12, 13].map(|index| fields.get(index).copied().unwrap_or("0"));
        Ok(user.parse::<f64>()? + system.parse::<f64>()?)
    };
    // 100 ticks a second on every Linux that torc runs on (sysconf(3), _SC_CLK_TCK).
    Ok((ticks(server)? / 100.0, ticks(workers)? / 100.0))
}

/// Each worker is a connection at both ends, and a journal.
fn open_many_files() -> Result<(), Failure> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}
