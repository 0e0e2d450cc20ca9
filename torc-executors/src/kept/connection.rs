//! The torc side of the connection to a keeper, and the books of the steps that it was given.
//!
//! Orders are written at once by whoever gives them, without waiting: what the socket does not take
//! is kept for the watching task. Nothing is ever written in part and forgotten, so a caller that is
//! cancelled cannot spoil the stream.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::UnixStream;
use tokio::sync::Notify;
use torc_core::ids::StepId;
use torc_core::time::Timestamp;
use torc_core::traits::{ExecutorError, Outcome, StepEvent, StepEvents, Usage};

use super::hostfiles::Hostfiles;
use super::memory::{Sample, Subject};
use crate::keeper::wire::{self, Order, Report, StepKey};

/// Who is told of what the keeper reports. Called from any thread; must not block.
pub(crate) trait Audience: Send + Sync {
    /// A step's main process started, or the step ended.
    fn emit(&self, event: StepEvent);

    /// A launcher said these lines on standard error. They come before the end of its step.
    fn hear(&self, step: StepId, at: Timestamp, lines: Vec<String>);
}

/// Whoever is told of steps needs no more where main processes are the jobs themselves.
impl Audience for Arc<dyn StepEvents> {
    fn emit(&self, event: StepEvent) {
        (**self).emit(event);
    }

    fn hear(&self, step: StepId, _at: Timestamp, lines: Vec<String>) {
        tracing::warn!(%step, ?lines, "a job's standard error is passed on for no reason");
    }
}

/// What is done about the memory of a step's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Nothing: they are not the job's.
    Unmeasured,
    /// It is measured, and the step is ended when it uses more bytes than this, if that is said.
    Measured(Option<u64>),
}

/// A step that the keeper has and that has not ended.
#[derive(Debug)]
pub(crate) struct Held {
    id: StepId,
    pid: Option<i32>,
    memory: Memory,
    peak_memory: Option<u64>,
    has_hostfile: bool,
}

/// What the keeper was given.
#[derive(Debug, Default)]
struct Books {
    steps: HashMap<StepKey, Held>,
    keys: HashMap<StepId, StepKey>,
    last_key: StepKey,
    /// What is in the books may end; nothing is to be added.
    is_winding_up: bool,
    /// Why nothing can be launched any more.
    gone: Option<String>,
}

/// What came of entering a step into the books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It is in them now, by this number.
    New(StepKey),
    /// It was in them already.
    Known,
    /// Nothing is launched any more.
    TooLate,
}

/// A connection to a keeper, shared by the executor and the task that watches it.
pub(crate) struct Connection {
    /// The socket.
    pub(super) stream: UnixStream,
    /// The keeper's process id.
    pub(crate) keeper: i32,
    /// Where hostfiles are.
    pub(crate) hostfiles: Hostfiles,
    /// Tells the watching task that something is unsent.
    pub(super) has_unsent: Notify,
    /// Tells that the books have become empty.
    has_emptied: Notify,
    is_closing: AtomicBool,
    unsent: Mutex<Vec<u8>>,
    books: Mutex<Books>,
    audience: Arc<dyn Audience>,
}

/// What must hold of the guarded data holds after each statement, so a panic elsewhere is no reason
/// to stop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    /// A connection without steps.
    pub(super) fn new(
        stream: UnixStream,
        keeper: i32,
        hostfiles: Hostfiles,
        audience: Arc<dyn Audience>,
    ) -> Self {
        Self {
            stream,
            keeper,
            hostfiles,
            has_unsent: Notify::new(),
            has_emptied: Notify::new(),
            is_closing: AtomicBool::new(false),
            unsent: Mutex::default(),
            books: Mutex::default(),
            audience,
        }
    }

    /// Enters a step into the books.
    ///
    /// # Errors
    /// When the keeper is gone.
    pub(crate) fn enter(
        &self,
        id: StepId,
        memory: Memory,
        has_hostfile: bool,
    ) -> Result<Entry, ExecutorError> {
        let mut books = lock(&self.books);
        if let Some(reason) = &books.gone {
            return Err(ExecutorError::Gone(reason.clone()));
        }
        if books.keys.contains_key(&id) {
            return Ok(Entry::Known);
        }
        if books.is_winding_up {
            return Ok(Entry::TooLate);
        }
        books.last_key += 1;
        let key = books.last_key;
        books.keys.insert(id, key);
        let held = Held { id, pid: None, memory, peak_memory: None, has_hostfile };
        books.steps.insert(key, held);
        Ok(Entry::New(key))
    }

    /// From now on nothing is entered into the books; returns what is in them.
    pub(crate) fn wind_up(&self) -> Vec<StepKey> {
        let mut books = lock(&self.books);
        books.is_winding_up = true;
        books.steps.keys().copied().collect()
    }

    /// Returns once nothing is in the books.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.has_emptied.notified();
            tokio::pin!(emptied);
            // From here on no change is missed.
            emptied.as_mut().enable();
            if lock(&self.books).steps.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Takes a step out of the books.
    pub(crate) fn leave(&self, key: StepKey) -> Option<Held> {
        let mut books = lock(&self.books);
        let held = books.steps.remove(&key)?;
        books.keys.remove(&held.id);
        let is_last = books.steps.is_empty();
        drop(books);
        if is_last {
            self.has_emptied.notify_waiters();
        }
        if held.has_hostfile {
            self.hostfiles.remove(held.id);
        }
        Some(held)
    }

    /// The number of a step that has not ended.
    pub(crate) fn key(&self, id: StepId) -> Option<StepKey> {
        lock(&self.books).keys.get(&id).copied()
    }

    /// Fails when nothing can be launched any more.
    ///
    /// # Errors
    /// Then.
    pub(crate) fn check(&self) -> Result<(), ExecutorError> {
        match &lock(&self.books).gone {
            Some(reason) => Err(ExecutorError::Gone(reason.clone())),
            None => Ok(()),
        }
    }

    /// Sends an order: one write, unless the socket is full.
    ///
    /// # Errors
    /// When the keeper is gone, or the order cannot be written down.
    pub(crate) fn send(&self, order: &Order) -> Result<(), String> {
        let mut frame = Vec::with_capacity(1024);
        wire::append(&mut frame, order).map_err(|error| error.to_string())?;
        let mut unsent = lock(&self.unsent);
        let written = if unsent.is_empty() { self.write(&frame)? } else { 0 };
        if written < frame.len() {
            unsent.extend_from_slice(&frame[written..]);
            self.has_unsent.notify_one();
        }
        Ok(())
    }

    /// Whether some orders wait for the socket.
    pub(super) fn is_behind(&self) -> bool {
        !lock(&self.unsent).is_empty()
    }

    /// Sends what the socket takes now of the orders that wait. A keeper that is gone takes none of them: that is
    /// for the reading side to find.
    pub(super) fn catch_up(&self) {
        let mut unsent = lock(&self.unsent);
        match self.write(&unsent) {
            Ok(written) => drop(unsent.drain(..written)),
            Err(_) => unsent.clear(),
        }
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, String> {
        match self.stream.try_write(bytes) {
            Ok(written) => Ok(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Takes note of a report and passes it on.
    pub(super) fn take(&self, report: Report) {
        match report {
            Report::Started { key, at, pid } => {
                let step = lock(&self.books).steps.get_mut(&key).map(|held| {
                    held.pid = Some(pid);
                    held.id
                });
                if let Some(step) = step {
                    self.audience.emit(StepEvent::Started { step, at });
                }
            }
            Report::Said { key, at, lines } => {
                let step = lock(&self.books).steps.get(&key).map(|held| held.id);
                if let Some(step) = step {
                    self.audience.hear(step, at, lines);
                }
            }
            Report::Ended { key, at, outcome, cpu_ms } => self.end(key, at, outcome, cpu_ms),
            Report::Ready => {}
            Report::Failed(reason) => tracing::error!(reason, "the keeper of jobs failed"),
        }
    }

    fn end(&self, key: StepKey, at: Timestamp, outcome: Outcome, cpu_ms: u64) {
        if let Some(held) = self.leave(key) {
            let usage = Usage { cpu_ms, peak_memory: held.peak_memory };
            self.audience.emit(StepEvent::Ended { step: held.id, at, outcome, usage });
        }
    }

    /// Reports that a step, which is not in the books, could not be launched.
    pub(crate) fn refuse(&self, step: StepId, at: Timestamp, outcome: Outcome) {
        self.audience.emit(StepEvent::Ended { step, at, outcome, usage: Usage::default() });
    }

    /// From now on nothing can be launched.
    pub(super) fn give_up(&self, reason: &str) {
        lock(&self.books).gone.get_or_insert_with(|| reason.to_owned());
    }

    /// Ends all steps in the books with this outcome.
    pub(super) fn end_all(&self, at: Timestamp, outcome: &Outcome) {
        let mut keys: Vec<StepKey> = lock(&self.books).steps.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            self.end(key, at, outcome.clone(), 0);
        }
    }

    /// The steps whose memory can be measured.
    pub(super) fn subjects(&self) -> Vec<Subject> {
        let books = lock(&self.books);
        let running = books.steps.iter();
        running
            .filter_map(|(&key, held)| match held.memory {
                Memory::Measured(limit) => Some(Subject { key, pid: held.pid?, limit }),
                Memory::Unmeasured => None,
            })
            .collect()
    }

    /// Whether a step runs that is to be measured.
    pub(super) fn is_busy(&self) -> bool {
        let is_subject = |held: &Held| held.pid.is_some() && held.memory != Memory::Unmeasured;
        lock(&self.books).steps.values().any(is_subject)
    }

    /// Notes measurements, and has the steps ended that use too much.
    pub(super) fn take_samples(&self, samples: &[Sample]) {
        for sample in samples {
            if let Some(held) = lock(&self.books).steps.get_mut(&sample.key) {
                held.peak_memory = held.peak_memory.max(Some(sample.used));
            }
            if sample.is_over {
                // An error means that the keeper is gone, and all jobs with it.
                let _ = self.send(&Order::OverMemory { key: sample.key, used: sample.used });
            }
        }
    }

    /// Tells the keeper to end everything, and itself.
    pub(crate) fn close(&self) {
        self.give_up("it was shut down");
        self.is_closing.store(true, Ordering::Release);
        // An error means that the keeper is gone already.
        let _ =
            nix::sys::socket::shutdown(self.stream.as_raw_fd(), nix::sys::socket::Shutdown::Write);
    }

    /// Whether the keeper was told to end.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }
}
