//! The boundary itself, version 1: what a library exports, and what torc hands to it.
//!
//! The same as `include/torc_plugin.h`, which says what each field is for; a test of the host compiles that header
//! and compares sizes and places. Invariants: structures grow at their ends only; the first 24 bytes of
//! [`Descriptor`] never change.

use std::ffi::{c_char, c_void};

/// What a descriptor begins with.
pub const MAGIC: [u8; 8] = *b"TORCPLG\0";
/// Libraries of another major version are not loaded.
pub const ABI_MAJOR: u32 = 1;
/// Grows with each field that is added.
pub const ABI_MINOR: u32 = 0;
/// The name of the object that a library exports.
pub const SYMBOL: &str = "torc_plugin_v1";
/// No message is longer, in bytes.
pub const LONGEST_MESSAGE: usize = 64 * 1024 * 1024;

/// Names of the interfaces, with their versions.
pub mod interface {
    /// Launchers.
    pub const LAUNCHER: &str = "torc.launcher/1";
    /// Executors.
    pub const EXECUTOR: &str = "torc.executor/1";
    /// Schedulers.
    pub const SCHEDULER: &str = "torc.scheduler/1";
    /// Placers.
    pub const PLACER: &str = "torc.placer/1";
}

/// What a call came to, as a number.
pub mod status {
    /// It was done.
    pub const OK: i32 = 0;
    /// It is under way.
    pub const PENDING: i32 = 1;
    /// It cannot be done, however often it is asked for.
    pub const INVALID: i32 = 2;
    /// It may be done later.
    pub const TRANSIENT: i32 = 3;
    /// There is no such method.
    pub const UNSUPPORTED: i32 = 4;
    /// The plugin is broken, but was caught.
    pub const PANIC: i32 = 5;
    /// Nobody waits for this answer.
    pub const STALE: i32 = 6;
    /// The plugin cannot go on.
    pub const FATAL: i32 = 7;
}

/// Borrowed bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    /// May be null when there are none.
    pub ptr: *const u8,
    /// How many.
    pub len: usize,
}

/// Owned bytes: whoever receives them releases them, once.
#[repr(C)]
#[derive(Debug)]
pub struct Buffer {
    /// May be null when there are none.
    pub ptr: *const u8,
    /// How many.
    pub len: usize,
    /// Whatever `release` needs.
    pub owner: *mut c_void,
    /// `None`: there is nothing to be released.
    pub release: Option<unsafe extern "C" fn(buffer: *mut Buffer)>,
}

/// What torc offers.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HostTable {
    /// Bytes of this structure.
    pub struct_size: u32,
    /// torc's own minor version.
    pub abi_minor: u32,
    /// Answers a call that is under way.
    pub complete: Option<unsafe extern "C" fn(op: u64, status: i32, result: Buffer) -> i32>,
    /// Tells what happened to a step.
    pub emit: Option<unsafe extern "C" fn(instance: u64, event: Buffer)>,
    /// Writes to the log.
    pub log: Option<unsafe extern "C" fn(instance: u64, level: i32, message: Bytes)>,
}

/// Makes an instance.
pub type Open = unsafe extern "C" fn(
    host: *const HostTable,
    instance: u64,
    config: Bytes,
    this: *mut *mut c_void,
    error: *mut Buffer,
) -> i32;
/// Calls a method.
pub type Call = unsafe extern "C" fn(
    this: *mut c_void,
    op: u64,
    method: Bytes,
    request: Bytes,
    deadline_ms: u64,
    out: *mut Buffer,
) -> i32;
/// Ends an instance.
pub type Close = unsafe extern "C" fn(this: *mut c_void, grace_ms: u64) -> i32;

/// What a plugin offers for one interface.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Vtable {
    /// Bytes of this structure.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Makes an instance.
    pub open: Option<Open>,
    /// Calls a method.
    pub call: Option<Call>,
    /// Ends an instance.
    pub close: Option<Close>,
}

/// One interface of a plugin.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct InterfaceEntry {
    /// Its name, which ends with NUL.
    pub id: *const c_char,
    /// What is offered for it.
    pub vtable: *const Vtable,
}

/// What a library exports as [`SYMBOL`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`ABI_MAJOR`] that it was built for.
    pub abi_major: u32,
    /// [`ABI_MINOR`] that it was built for.
    pub abi_minor: u32,
    /// Bytes of this structure.
    pub struct_size: u32,
    /// How many interfaces there are.
    pub interface_count: u32,
    /// The interfaces.
    pub interfaces: *const InterfaceEntry,
    /// The plugin's name, which ends with NUL.
    pub name: *const c_char,
    /// Its version, which ends with NUL.
    pub version: *const c_char,
    /// What is told of it, a JSON object that ends with NUL; null: nothing.
    pub info: *const c_char,
}

// SAFETY: all that it points to is constant and lives as long as the library.
unsafe impl Sync for Descriptor {}
// SAFETY: the same.
unsafe impl Sync for InterfaceEntry {}
