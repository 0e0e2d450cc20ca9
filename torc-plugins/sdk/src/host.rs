//! torc, as a plugin sees it.

use serde::Serialize;

use crate::abi::{ABI_MINOR, Buffer, Bytes, HostTable, status};
use crate::{Failure, Level};

/// What torc offers to one instance of a plugin. Can be copied, and used from any thread.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    table: HostTable,
    instance: u64,
}

impl Host {
    /// # Safety
    /// `table` is what torc handed to `open`.
    pub(crate) unsafe fn new(table: *const HostTable, instance: u64) -> Self {
        let mut copy = HostTable {
            struct_size: 0,
            abi_minor: ABI_MINOR,
            complete: None,
            emit: None,
            log: None,
        };
        if !table.is_null() {
            // SAFETY: its first field is there in all versions, and says how much more is; all fields may be zero.
            unsafe {
                let size = (*table).struct_size as usize;
                let size = size.min(size_of::<HostTable>());
                std::ptr::copy_nonoverlapping(table.cast::<u8>(), (&raw mut copy).cast(), size);
            }
        }
        Self { table: copy, instance }
    }

    /// Writes a line to torc's log. Never write secrets.
    pub fn log(&self, level: Level, message: &str) {
        if let Some(log) = self.table.log {
            // SAFETY: torc's function; the bytes outlive the call.
            unsafe { log(self.instance, level as i32, Bytes::lend(message.as_bytes())) };
        }
    }

    /// Tells what happened to a step: an event of the executor's interface.
    pub fn emit(&self, event: &impl Serialize) {
        let (Some(emit), Ok(event)) = (self.table.emit, serde_json::to_vec(event)) else { return };
        // SAFETY: torc's function, which releases the buffer.
        unsafe { emit(self.instance, Buffer::from_vec(event)) };
    }

    /// Answers a call that is under way. Whether anybody still waited for it.
    pub(crate) fn complete(&self, op: u64, result: Result<Vec<u8>, Failure>) -> bool {
        let Some(complete) = self.table.complete else { return false };
        let (code, bytes) = encode(result);
        // SAFETY: torc's function, which releases the buffer.
        unsafe { complete(op, code, Buffer::from_vec(bytes)) == status::OK }
    }
}

/// A result as the boundary has it.
pub(crate) fn encode(result: Result<Vec<u8>, Failure>) -> (i32, Vec<u8>) {
    match result {
        Ok(answer) => (status::OK, answer),
        Err(failure) => {
            let (code, words) = match failure {
                Failure::Invalid(words) => (status::INVALID, words),
                Failure::Transient(words) => (status::TRANSIENT, words),
                Failure::Unsupported => (status::UNSUPPORTED, String::new()),
                Failure::Fatal(words) => (status::FATAL, words),
            };
            (code, words.into_bytes())
        }
    }
}
