//! One step, from torc's side: it is prepared and started, asked to end, and its end is told.
//!
//! Owns: what an end means, and when somebody who was asked to end is killed. Does not know: how a step is enclosed.

use std::ffi::CString;
use std::fs::{OpenOptions, remove_file};
use std::io::{PipeWriter, Read, Write, pipe};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::sched::CpuSet;
use torc_plugin::Host;
use torc_plugin::messages::{Event, Limits, Outcome, Step, Usage};

use crate::Steps;
use crate::inside::{self, KILL, Report, World};

/// Why a step was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Cancelled,
    TimeUp,
    Killed,
}

/// A step that is ready to be started.
pub(crate) struct Enclosure {
    command: Command,
    world: World,
}

impl Enclosure {
    /// Looks at all that can be wrong with a step before there is a process of it.
    pub(crate) fn prepare(step: &Step, private: Arc<[CString]>) -> Result<Self, String> {
        let [node] = step.nodes.as_slice() else {
            return Err("a job on several nodes cannot be enclosed: this plugin has one".to_owned());
        };
        let folder = Path::new(&step.working_dir);
        if let Some(hidden) = private.iter().find(|private| is_below(folder, private)) {
            return Err(format!(
                "the working folder {} would be hidden, since each job has {} to itself; submit from elsewhere, or \
                 set `private` of the plugin to other folders",
                folder.display(),
                hidden.to_string_lossy()
            ));
        }
        if !folder.is_dir() {
            return Err(format!("the working folder {} is not there", folder.display()));
        }
        let (program, arguments) = step.argv.split_first().ok_or("there is no command")?;
        let mut command = Command::new(program);
        command.args(arguments).envs(&step.env).current_dir(folder).stdin(Stdio::null());
        command.stdout(output(step.stdio.stdout.as_deref())?);
        command.stderr(output(step.stdio.stderr.as_deref())?);
        let mut cores = CpuSet::new();
        for &core in &node.cores {
            cores.set(core as usize).map_err(|error| format!("CPU {core}: {error}"))?;
        }
        let cores = (!node.cores.is_empty()).then_some(cores);
        Ok(Self { command, world: World::new(private, cores, step.limits.memory) })
    }

    /// Starts it. From then on one end is told, and `steps` is relieved of it.
    pub(crate) fn launch(
        mut self,
        step: Step,
        host: Host,
        steps: Arc<Steps>,
    ) -> Result<Arc<Launched>, String> {
        let failed = |what: &str, error: std::io::Error| format!("{what}: {error}");
        let (inner_orders, orders) = pipe().map_err(|error| failed("a pipe", error))?;
        let (mut reports, inner_report) = pipe().map_err(|error| failed("a pipe", error))?;
        let (world, program) = (self.world, step.argv[0].clone());
        let (for_orders, for_report) = (inner_orders.as_raw_fd(), inner_report.as_raw_fd());
        // SAFETY: `enter` makes system calls only, and takes no memory.
        unsafe { self.command.pre_exec(move || inside::enter(&world, for_orders, for_report)) };
        let spawned = self.command.spawn();
        drop((inner_orders, inner_report));
        let child = spawned.map_err(|error| match Report::read(&mut reports) {
            Report::Failed(what) => failed(&what, error),
            _ => failed(&program, error),
        })?;
        let state = State { stop: None, kill_at: None, is_over: false };
        let limits = step.limits.clone();
        let launched = Arc::new(Launched {
            limits,
            orders: Mutex::new(orders),
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        host.emit(&Event::Started { step: step.id, at: now() });
        let (mindful, waiting) = (Arc::clone(&launched), Arc::clone(&launched));
        thread::spawn(move || mindful.mind_time());
        thread::spawn(move || {
            let ended = waiting.wait(child, reports);
            let (outcome, usage) = (ended.outcome(&step), ended.usage);
            steps.remove(step.id);
            host.emit(&Event::Ended { step: step.id, at: now(), outcome, usage });
        });
        Ok(launched)
    }
}

fn is_below(path: &Path, private: &CString) -> bool {
    private.to_str().is_ok_and(|private| path.starts_with(private))
}

/// Where output goes. Files that the job cannot see by their names are open already.
fn output(path: Option<&str>) -> Result<Stdio, String> {
    let Some(path) = path else { return Ok(Stdio::null()) };
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.map(Stdio::from).map_err(|error| format!("the output file {path}: {error}"))
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A step that was started.
pub(crate) struct Launched {
    limits: Limits,
    /// Its first process reads signals from it, a byte each; closed, it ends.
    orders: Mutex<PipeWriter>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Why it was asked to end, first of all.
    stop: Option<Reason>,
    /// When it is killed.
    kill_at: Option<Instant>,
    is_over: bool,
}

impl Launched {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks all its processes to end, the first time; or kills them.
    pub(crate) fn stop(&self, reason: Reason) {
        let mut state = self.state();
        if state.is_over {
            return;
        }
        let is_first = state.stop.is_none();
        state.stop.get_or_insert(reason);
        if reason == Reason::Killed {
            self.send(KILL);
        } else if is_first {
            let lead = Duration::from_millis(self.limits.termination_lead);
            state.kill_at = Instant::now().checked_add(lead);
            self.send(u8::try_from(self.limits.termination_signal).unwrap_or(KILL));
        }
        self.changed.notify_all();
    }

    fn send(&self, signal: u8) {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody reads it any more once all processes have ended.
        let _ = orders.write_all(&[signal]);
    }

    /// Ends it when its time is up, and kills it when its lead is.
    fn mind_time(&self) {
        let runtime = self.limits.runtime.map(Duration::from_millis);
        let mut up_at = runtime.and_then(|runtime| Instant::now().checked_add(runtime));
        let mut state = self.state();
        while !state.is_over {
            let now = Instant::now();
            let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
            let due = match (is_due(state.kill_at), is_due(up_at)) {
                (true, _) => Some(Reason::Killed),
                (false, true) => Some(Reason::TimeUp),
                (false, false) => None,
            };
            if let Some(reason) = due {
                match reason {
                    Reason::Killed => state.kill_at = None,
                    _ => up_at = None,
                }
                drop(state);
                self.stop(reason);
                state = self.state();
                continue;
            }
            let next = state.kill_at.into_iter().chain(up_at).min();
            let wait = next.map_or(Duration::from_secs(3600), |at| at - now);
            let waited = self.changed.wait_timeout(state, wait);
            state = waited.map_or_else(|error| error.into_inner().0, |(state, _)| state);
        }
    }

    /// Waits until no process of it is left.
    fn wait(&self, mut child: Child, mut reports: impl Read) -> Ended {
        let report = Report::read(&mut reports);
        // It ends when the first process of the enclosure has, and that when no other is left.
        let _ = child.wait();
        let mut state = self.state();
        state.is_over = true;
        self.changed.notify_all();
        let (status, usage) = match report {
            Report::Ended { status, cpu_ms, peak_memory } => {
                (status, Usage { cpu_ms, peak_memory: Some(peak_memory) })
            }
            // Somebody killed the first process.
            Report::Failed(_) | Report::None => (i32::from(KILL), Usage::default()),
        };
        Ended { status: ExitStatus::from_raw(status), stop: state.stop, usage }
    }
}

/// How a step ended.
struct Ended {
    status: ExitStatus,
    stop: Option<Reason>,
    usage: Usage,
}

impl Ended {
    fn outcome(&self, step: &Step) -> Outcome {
        let code = self.status.code();
        if code == Some(0) && step.stdio.delete_on_success {
            for path in [&step.stdio.stdout, &step.stdio.stderr].into_iter().flatten() {
                // Both may be one file.
                let _ = remove_file(path);
            }
        }
        match (self.stop, code) {
            (Some(Reason::TimeUp), code) => Outcome::TimedOut { code },
            (Some(Reason::Cancelled), Some(0)) | (None, Some(0)) => success(step),
            (Some(_), _) => Outcome::Cancelled,
            (None, Some(code)) => Outcome::Exited { code },
            (None, None) => Outcome::Signaled { signal: self.status.signal().unwrap_or_default() },
        }
    }
}

/// An exit with 0, unless files are missing that the job declared.
fn success(step: &Step) -> Outcome {
    let folder = Path::new(&step.working_dir);
    let is_missing = |file: &&String| !folder.join(file).exists();
    let files: Vec<String> = step.expected_files.iter().filter(is_missing).cloned().collect();
    if files.is_empty() { Outcome::Exited { code: 0 } } else { Outcome::FilesMissing { files } }
}
