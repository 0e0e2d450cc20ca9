//! Looking at the input files of jobs that have completed, beside everything else.
//!
//! Owns the thread that reads them, which there is only where jobs declare input files. Does not know what it is
//! good for. Invariant: no job waits for it, and the end of a run only for a bounded time.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use torc_core::engine::Event;
use torc_core::fingerprint::{Files, Fingerprint, LARGEST_READ};
use torc_core::ids::{AttemptId, JobId, RunId};

use super::Driver;
use crate::clock::now;
use crate::disk::Disk;
use crate::handle::{Handle, Input};

/// How long files are read after the last job has ended. What is not read by then is known by size and time.
const GRACE: Duration = Duration::from_secs(5);

/// How long after that the answer is waited for: a file system that hangs holds up no run.
const LAST_WORD: Duration = Duration::from_secs(1);

/// The input files of one attempt.
struct Order {
    attempt: (JobId, RunId, AttemptId),
    files: Vec<(u32, Arc<str>)>,
}

/// Where files are looked at.
#[derive(Default)]
pub(super) struct InputLook {
    orders: Option<Sender<Order>>,
    /// Orders without an answer.
    open: usize,
    /// When no file is read any more.
    until: Arc<OnceLock<Instant>>,
}

impl Driver {
    /// Has the input files of a job looked at, if it has completed and has any.
    pub(super) fn look_at_inputs(&mut self, job: JobId) {
        let files = self.engine.inputs_to_see(job);
        let latest = self.engine.latest_attempt(job).filter(|_| !files.is_empty());
        let Some(attempt) = latest.map(|latest| (job, latest.run, latest.attempt)) else { return };
        if self.input_look.orders.is_none() {
            self.input_look.orders = self.begin_looking();
        }
        let order = Order { attempt, files };
        if self.input_look.orders.as_ref().is_some_and(|orders| orders.send(order).is_ok()) {
            self.input_look.open += 1;
        }
    }

    fn begin_looking(&self) -> Option<Sender<Order>> {
        let (orders, inbox) = channel();
        let (driver, until) = (self.handle.clone(), self.input_look.until.clone());
        let disk = Disk::at(&self.context.submission_dir);
        let thread = std::thread::Builder::new().name("torc-inputs".to_owned());
        match thread.spawn(move || look(&inbox, disk, &driver, &until)) {
            Ok(_) => Some(orders),
            Err(error) => {
                tracing::warn!(%error, "input files are not looked at");
                None
            }
        }
    }

    /// Input files of a job were looked at.
    pub(super) fn take_inputs(&mut self, seen: Event) {
        self.input_look.open -= 1;
        self.apply(seen);
    }

    /// Whether files are still looked at that completed jobs have read, and are waited for. From the first time
    /// that this is asked there is not much time left for it.
    pub(super) fn is_looking(&self) -> bool {
        let until = self.input_look.until.get_or_init(|| Instant::now() + GRACE);
        self.input_look.open > 0 && Instant::now() < *until + LAST_WORD
    }

    /// When they are not waited for any more.
    pub(super) fn looks_until(&self) -> Option<tokio::time::Instant> {
        let until = *self.input_look.until.get()? + LAST_WORD;
        (self.input_look.open > 0 && Instant::now() < until).then_some(until.into())
    }
}

fn look(orders: &Receiver<Order>, mut disk: Disk, driver: &Handle, until: &OnceLock<Instant>) {
    let mut known = HashMap::new();
    while let Ok(Order { attempt: (job, run, attempt), files }) = orders.recv() {
        let seen = files.into_iter().filter_map(|(index, path)| {
            Some((index, look_at(&path, &mut disk, &mut known, until)?))
        });
        let files = seen.collect();
        driver.tell(Input::InputsSeen(Event::InputsSeen { job, run, attempt, at: now(), files }));
    }
}

/// What a file is like. It is read at most once, however many jobs have it as an input.
fn look_at(
    path: &Arc<str>,
    disk: &mut Disk,
    known: &mut HashMap<Arc<str>, Fingerprint>,
    until: &OnceLock<Instant>,
) -> Option<Fingerprint> {
    let seen = disk.look(path)?;
    if let Some(same) = known.get(path).filter(|before| before.looks_like(&seen)) {
        return Some(same.clone());
    }
    let is_read = seen.size <= LARGEST_READ;
    let digest = is_read.then(|| disk.digest_before(path, || until.get().copied())).flatten();
    let seen = Fingerprint { digest, ..seen };
    known.insert(path.clone(), seen.clone());
    Some(seen)
}
