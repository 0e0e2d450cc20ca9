//! Plugins that are programs: started, spoken to in lines of JSON on their standard input and output.
//!
//! Owns: the process, and the lines that it writes. Does not know: what the messages say. Invariants: a line is
//! never longer than a message may be; when a process is gone, whoever waits for it is told how it went.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use torc_plugin::abi::{ABI_MAJOR, ABI_MINOR, LONGEST_MESSAGE, status};

use crate::about::About;
use crate::calls::{self, Answer, Told};
use crate::error::{CallError, Fault, PluginError};
use crate::instance::{Backend, Killer, OPENS_WITHIN, fault_of};

/// How long the last words of a process that was killed may take to be heard.
const HEARD_WITHIN: Duration = Duration::from_secs(1);

/// What torc says.
#[derive(Serialize)]
struct Said<'a> {
    op: u64,
    method: &'a str,
    deadline_ms: u64,
    request: &'a RawValue,
}

/// What the plugin says: an answer, an event, or a line for the log.
#[derive(Deserialize)]
struct Heard {
    op: Option<u64>,
    status: Option<String>,
    result: Option<Box<RawValue>>,
    error: Option<String>,
    emit: Option<Box<RawValue>>,
    log: Option<Line>,
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    level: Option<String>,
    message: String,
}

/// What a program says of itself, as the answer to `describe`.
#[derive(Deserialize)]
struct Described {
    name: String,
    version: String,
    abi: (u32, u32),
    interfaces: Vec<String>,
    #[serde(default)]
    info: Value,
}

/// What the reader and the caller share about a process.
struct Shared {
    instance: u64,
    child: Mutex<Child>,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// Calls that it was told of and has not answered.
    open: BTreeSet<u64>,
    /// Whoever listens is being told how it went.
    is_going: bool,
    /// How it went, once that was told.
    gone: Option<String>,
}

impl Shared {
    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the process, if it has not ended.
    fn kill(&self) {
        let mut child = self.child();
        // It has ended already otherwise.
        let _ = child.kill();
        let _ = child.wait();
    }

    /// How a process went whose output is at its end.
    fn farewell(&self) -> String {
        // It ends right after, as a rule.
        for _ in 0..100 {
            if let Ok(Some(status)) = self.child().try_wait() {
                return words_of(status);
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        self.kill();
        "it closed its output, and was killed".to_owned()
    }

    /// Tells whoever listens or waits how it went, unless that was told.
    fn conclude(&self, how: &str) {
        if std::mem::replace(&mut self.state().is_going, true) {
            return;
        }
        // Before anybody can start another: what that one has is not gone.
        calls::tell(self.instance, Told::Gone(how.to_owned()));
        let open = {
            let mut state = self.state();
            state.gone = Some(how.to_owned());
            std::mem::take(&mut state.open)
        };
        self.ended.notify_all();
        for op in open {
            calls::answer(op, Answer::Gone(how.to_owned()));
        }
    }

    /// Waits until it was told how it went. Whether it was in this time.
    fn wait(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.state();
        while state.gone.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.ended.wait_timeout(state, left);
            state = waited.map_or_else(|error| error.into_inner().0, |(state, _)| state);
        }
        true
    }

    /// Ends the process, and sees to it that this is told, though others may have its output open still.
    fn put_down(&self) {
        self.kill();
        if !self.wait(HEARD_WITHIN) {
            self.conclude("it was killed");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process of a plugin.
struct Running {
    stdin: Option<ChildStdin>,
    shared: Arc<Shared>,
}

/// Calls a program.
pub(crate) struct ProcessBackend {
    program: PathBuf,
    interface: String,
    running: Option<Running>,
    /// The process that runs, for whoever has to end it from outside.
    current: Arc<Mutex<Option<Arc<Shared>>>>,
    opened_as: Option<(u64, Vec<u8>)>,
}

impl ProcessBackend {
    pub(crate) fn new(program: &Path, interface: &str) -> Self {
        Self {
            program: program.to_path_buf(),
            interface: interface.to_owned(),
            running: None,
            current: Arc::default(),
            opened_as: None,
        }
    }

    /// Starts a process and opens it.
    fn start(&mut self, instance: u64, config: &[u8]) -> Result<(), Fault> {
        let mut running = Running::start(&self.program, instance)?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(running.shared.clone());
        let config = std::str::from_utf8(config).unwrap_or("{}");
        let interface = Value::from(self.interface.as_str());
        let request =
            format!("{{\"interface\":{interface},\"instance\":{instance},\"config\":{config}}}");
        running.ask("open", request.as_bytes(), OPENS_WITHIN)?;
        self.running = Some(running);
        Ok(())
    }

    fn is_gone(&self) -> bool {
        self.running.as_ref().is_none_or(|running| running.shared.state().gone.is_some())
    }
}

impl Backend for ProcessBackend {
    fn runs_here(&self) -> bool {
        false
    }

    fn killer(&self) -> Option<Killer> {
        let current = Arc::clone(&self.current);
        Some(Arc::new(move || {
            let running = current.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(running) = running {
                running.put_down();
            }
        }))
    }

    fn open(&mut self, instance: u64, config: &[u8]) -> Result<(), Fault> {
        self.opened_as = Some((instance, config.to_vec()));
        self.start(instance, config)
    }

    fn call(
        &mut self,
        op: u64,
        method: &str,
        request: &[u8],
        deadline: Duration,
    ) -> Option<Answer> {
        if self.is_gone()
            && let Some((instance, config)) = self.opened_as.clone()
        {
            self.close(Duration::ZERO);
            if let Err(fault) = self.start(instance, &config) {
                let words = format!("it cannot be started again: {fault}");
                calls::tell(instance, Told::Gone(words.clone()));
                return Some(Answer::Gone(words));
            }
        }
        let running = self.running.as_mut()?;
        running.say(op, method, request, deadline).err().map(Answer::Gone)
    }

    fn close(&mut self, grace: Duration) {
        if let Some(running) = self.running.take() {
            running.end(grace);
        }
    }
}

impl Drop for ProcessBackend {
    fn drop(&mut self) {
        self.close(Duration::ZERO);
    }
}

/// What a program says of itself. It runs for that only.
///
/// # Errors
/// When it cannot be started, says nothing in time, or what cannot be.
pub(crate) fn describe(program: &Path) -> Result<About, PluginError> {
    let bad = |reason: String| PluginError::BadDescriptor { path: program.to_path_buf(), reason };
    let call = |fault| {
        let plugin = program.file_name().unwrap_or_default().to_string_lossy().into();
        PluginError::Call(CallError { plugin, method: "describe".to_owned(), fault })
    };
    let mut running = Running::start(program, 0).map_err(call)?;
    let answer = running.ask("describe", b"null", OPENS_WITHIN);
    running.end(Duration::ZERO);
    let described: Described = serde_json::from_slice(&answer.map_err(call)?)
        .map_err(|error| bad(format!("what it says of itself cannot be understood: {error}")))?;
    let Described { name, version, abi, interfaces, info } = described;
    if abi.0 != ABI_MAJOR {
        return Err(bad(format!(
            "it was written for version {} of the plugin boundary, and this torc has version {ABI_MAJOR}",
            abi.0
        )));
    }
    About::checked(name, version, abi, interfaces, info).map_err(bad)
}

impl Running {
    fn start(program: &Path, instance: u64) -> Result<Self, Fault> {
        let spawned = Command::new(program)
            .env("TORC_PLUGIN_ABI", format!("{ABI_MAJOR}.{ABI_MINOR}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = spawned.map_err(|error| {
            Fault::Gone(format!("{} could not be started: {error}", program.display()))
        })?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let shared = Arc::new(Shared {
            instance,
            child: Mutex::new(child),
            state: Mutex::default(),
            ended: Condvar::new(),
        });
        if let Some(stdout) = stdout {
            let theirs = Arc::clone(&shared);
            let named = std::thread::Builder::new().name("plugin's words".to_owned());
            named.spawn(move || listen(stdout, &theirs)).map_err(|error| {
                Fault::Fatal(format!("no thread could be started for it: {error}"))
            })?;
        }
        Ok(Self { stdin, shared })
    }

    /// Writes a request down.
    fn say(
        &mut self,
        op: u64,
        method: &str,
        request: &[u8],
        deadline: Duration,
    ) -> Result<(), String> {
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let request: &RawValue =
            serde_json::from_slice(request).map_err(|error| format!("torc's request: {error}"))?;
        let said = Said { op, method, deadline_ms, request };
        let mut line = serde_json::to_vec(&said).map_err(|error| error.to_string())?;
        line.push(b'\n');
        {
            let mut state = self.shared.state();
            if let Some(how) = &state.gone {
                return Err(how.clone());
            }
            state.open.insert(op);
        }
        let written = match &mut self.stdin {
            Some(stdin) => {
                stdin.write_all(&line).map_err(|error| format!("it does not listen: {error}"))
            }
            None => Err("it does not listen".to_owned()),
        };
        written.map_err(|words| {
            self.shared.state().open.remove(&op);
            // It has ended, as a rule, and how is better words.
            self.shared.wait(HEARD_WITHIN);
            self.shared.state().gone.clone().unwrap_or(words)
        })
    }

    /// Asks, and waits for the answer.
    fn ask(&mut self, method: &str, request: &[u8], deadline: Duration) -> Result<Vec<u8>, Fault> {
        let (tell, answered) = std::sync::mpsc::sync_channel(1);
        let op = calls::number();
        calls::wait_for(op, Box::new(move |answer| drop(tell.send(answer))));
        if let Err(words) = self.say(op, method, request, deadline) {
            calls::give_up(op);
            return Err(Fault::Gone(words));
        }
        match answered.recv_timeout(deadline) {
            Ok(Answer::Given(status::OK, answer)) => Ok(answer),
            Ok(answer) => Err(fault_of(answer)),
            Err(_) => {
                calls::give_up(op);
                self.shared.kill();
                Err(Fault::Late(deadline))
            }
        }
    }

    /// Lets the process end: it hears nothing more, and is killed once the time is up.
    fn end(mut self, grace: Duration) {
        drop(self.stdin.take());
        self.shared.wait(grace);
        self.shared.put_down();
    }
}

/// Hears what a process says, to its end.
fn listen(stdout: ChildStdout, shared: &Shared) {
    let mut lines = BufReader::new(stdout);
    let how = loop {
        let mut line = Vec::new();
        let most = LONGEST_MESSAGE as u64 + 1;
        match (&mut lines).take(most).read_until(b'\n', &mut line) {
            Ok(0) => break shared.farewell(),
            Err(error) => break format!("its output cannot be read: {error}"),
            Ok(_) if line.len() > LONGEST_MESSAGE => {
                shared.kill();
                break "it wrote a line of more than 64 MiB, and was killed".to_owned();
            }
            Ok(_) => {}
        }
        if let Err(words) = hear(&line, shared) {
            shared.kill();
            break format!("{words}; it was killed");
        }
    };
    shared.conclude(&how);
}

/// What follows from a line.
fn hear(line: &[u8], shared: &Shared) -> Result<(), String> {
    let shown = || String::from_utf8_lossy(&line[..line.len().min(200)]).trim_end().to_owned();
    let heard: Heard = serde_json::from_slice(line)
        .map_err(|error| format!("it wrote a line that is no message ({error}): {}", shown()))?;
    if let Some(event) = heard.emit {
        calls::tell(shared.instance, Told::Event(event.get().as_bytes().to_vec()));
    }
    if let Some(line) = heard.log {
        let level = match line.level.as_deref() {
            Some("error") => 1,
            Some("warn") => 2,
            Some("debug") => 4,
            _ => 3,
        };
        calls::log(shared.instance, level, &line.message);
    }
    let Some(op) = heard.op else { return Ok(()) };
    let words = || heard.error.unwrap_or_default().into_bytes();
    let answer = match heard.status.as_deref() {
        Some("ok") => {
            let result =
                heard.result.map_or_else(|| "null".to_owned(), |result| result.get().to_owned());
            Answer::Given(status::OK, result.into_bytes())
        }
        Some("invalid") => Answer::Given(status::INVALID, words()),
        Some("transient") => Answer::Given(status::TRANSIENT, words()),
        Some("unsupported") => Answer::Given(status::UNSUPPORTED, words()),
        Some("fatal") => Answer::Given(status::FATAL, words()),
        other => Answer::Garbled(format!("its status is {other:?}")),
    };
    let was_open = shared.state().open.remove(&op);
    if !was_open || !calls::answer(op, answer) {
        tracing::debug!(op, "an answer came too late, or twice");
    }
    Ok(())
}

/// How a process went, in words.
pub(crate) fn words_of(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it exited with code {code}"),
        (None, Some(signal)) => format!("signal {signal} ended it"),
        (None, None) => "nobody knows how it ended".to_owned(),
    }
}
