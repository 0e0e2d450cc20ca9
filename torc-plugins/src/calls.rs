//! Calls that are under way, and what torc offers to a library: one table for the process.
//!
//! Owns: who waits for which answer, and where the events of an instance go. Does not know: libraries, processes,
//! JSON. Invariants: each call is answered at most once, and what nobody waits for is stale; nothing that a plugin
//! can reach panics or blocks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use torc_plugin::abi::{ABI_MINOR, Buffer, Bytes, HostTable, LONGEST_MESSAGE, status};

/// What a call came to: a number of [`status`], and bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// As the plugin gave it.
    Given(i32, Vec<u8>),
    /// It has so many bytes, which are too many.
    TooLong(usize),
    /// The process is gone, in these words.
    Gone(String),
    /// It cannot be understood, in these words.
    Garbled(String),
}

/// Is told the answer, or dropped.
pub(crate) type Waiter = Box<dyn FnOnce(Answer) + Send>;

/// What an instance tells by itself.
pub(crate) enum Told {
    /// An event, as bytes.
    Event(Vec<u8>),
    /// Its process is gone, in these words, and all that it had.
    Gone(String),
}

/// Takes what an instance tells.
pub(crate) type Events = Arc<dyn Fn(Told) + Send + Sync>;

/// What is known of an instance.
struct Known {
    plugin: Arc<str>,
    events: Option<Events>,
}

#[derive(Default)]
struct Tables {
    calls: HashMap<u64, Waiter>,
    instances: HashMap<u64, Known>,
}

static TABLES: Mutex<Option<Tables>> = Mutex::new(None);
static LAST: AtomicU64 = AtomicU64::new(0);

fn with<T>(look: impl FnOnce(&mut Tables) -> T) -> T {
    let mut tables: MutexGuard<'_, Option<Tables>> =
        TABLES.lock().unwrap_or_else(PoisonError::into_inner);
    look(tables.get_or_insert_default())
}

/// A number that nothing else has: of a call, or of an instance.
pub(crate) fn number() -> u64 {
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// Notes who waits for the answer to a call.
pub(crate) fn wait_for(op: u64, waiter: Waiter) {
    with(|tables| tables.calls.insert(op, waiter));
}

/// Whether somebody still waits for the answer.
pub(crate) fn is_awaited(op: u64) -> bool {
    with(|tables| tables.calls.contains_key(&op))
}

/// Nobody waits any more.
pub(crate) fn give_up(op: u64) {
    // What is dropped may lock, so not in here.
    drop(with(|tables| tables.calls.remove(&op)));
}

/// Hands an answer over. Whether somebody waited for it.
pub(crate) fn answer(op: u64, answer: Answer) -> bool {
    let Some(waiter) = with(|tables| tables.calls.remove(&op)) else { return false };
    waiter(answer);
    true
}

/// From now on the events and lines of an instance are those of this plugin.
pub(crate) fn introduce(instance: u64, plugin: Arc<str>, events: Option<Events>) {
    with(|tables| tables.instances.insert(instance, Known { plugin, events }));
}

/// An instance is over: what it still tells is left alone.
pub(crate) fn forget(instance: u64) {
    drop(with(|tables| tables.instances.remove(&instance)));
}

/// An instance tells something.
pub(crate) fn tell(instance: u64, told: Told) {
    let events =
        with(|tables| tables.instances.get(&instance).and_then(|known| known.events.clone()));
    match events {
        Some(events) => events(told),
        None => tracing::debug!(instance, "what a plugin tells that nobody listens to"),
    }
}

/// An instance writes to the log. `level`: 1 error, 2 warning, 3 information, else for whoever looks for faults.
pub(crate) fn log(instance: u64, level: i32, message: &str) {
    let known = with(|tables| tables.instances.get(&instance).map(|known| known.plugin.clone()));
    let plugin = known.as_deref().unwrap_or("?");
    match level {
        1 => tracing::error!(plugin, "{message}"),
        2 => tracing::warn!(plugin, "{message}"),
        3 => tracing::info!(plugin, "{message}"),
        _ => tracing::debug!(plugin, "{message}"),
    }
}

/// The table that libraries are handed.
pub(crate) static HOST: HostTable = HostTable {
    #[expect(clippy::cast_possible_truncation, reason = "a few pointers")]
    struct_size: size_of::<HostTable>() as u32,
    abi_minor: ABI_MINOR,
    complete: Some(complete),
    emit: Some(emit),
    log: Some(write_to_log),
};

unsafe extern "C" fn complete(op: u64, code: i32, result: Buffer) -> i32 {
    // SAFETY: the contract of the boundary: a buffer that is handed over is its receiver's.
    let taken = unsafe { result.take(LONGEST_MESSAGE) };
    let given = match taken {
        // One that is still under way has not been answered.
        Ok(_) if code == status::PENDING => return status::INVALID,
        Ok(bytes) => Answer::Given(code, bytes),
        Err(too_long) => Answer::TooLong(too_long.len),
    };
    if answer(op, given) { status::OK } else { status::STALE }
}

unsafe extern "C" fn emit(instance: u64, event: Buffer) {
    // SAFETY: as above.
    match unsafe { event.take(LONGEST_MESSAGE) } {
        Ok(event) => tell(instance, Told::Event(event)),
        Err(too_long) => {
            log(instance, 1, &format!("an event of {} bytes is left alone", too_long.len))
        }
    }
}

unsafe extern "C" fn write_to_log(instance: u64, level: i32, message: Bytes) {
    const LONGEST_LINE: usize = 64 * 1024;
    // SAFETY: the contract of the boundary: bytes are lent for the length of the call.
    match unsafe { message.read(LONGEST_LINE) } {
        Ok(message) => log(instance, level, &String::from_utf8_lossy(message)),
        Err(too_long) => log(instance, 2, &format!("a line of {} bytes is left out", too_long.len)),
    }
}
