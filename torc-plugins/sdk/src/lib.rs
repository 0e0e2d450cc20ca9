//! For authors of plugins for torc: a launcher, an executor, a scheduler or a placer as a shared library.
//!
//! Implement [`Launcher`], [`Executor`], [`Scheduler`] or [`Placer`], and name the type in [`torc_plugin!`]:
//!
//! ```
//! use torc_plugin::{Failure, Host, Launcher, Settings, messages::{LaunchPlan, Step}, torc_plugin};
//!
//! /// Starts every step through `nice`.
//! struct Nice;
//!
//! impl Launcher for Nice {
//!     fn open(_: Settings, _: Host) -> Result<Self, Failure> {
//!         Ok(Self)
//!     }
//!
//!     fn plan(&mut self, step: &Step, _: &str) -> Result<LaunchPlan, Failure> {
//!         let nice = ["nice", "-n", "10"].map(str::to_owned);
//!         Ok(LaunchPlan { argv: nice.into_iter().chain(step.argv.clone()).collect(), ..LaunchPlan::default() })
//!     }
//! }
//!
//! torc_plugin! {
//!     name: "nice",
//!     version: "1.0.0",
//!     info: r#"{"description": "starts every step through nice"}"#,
//!     interfaces: { launcher: Nice }
//! }
//! # fn main() {}
//! ```
//!
//! What each of these has to do, when it is called and what follows from its answers, is said once for all forms of
//! plugins: in `torc_core::traits` of torc's sources, and message by message in its docs/plugins.md. A [`Failure`] of
//! each kind is told of there, too: which is tried again, and which is not.
//!
//! A panic does not leave the plugin, as long as it is built with `panic = "unwind"`, as Rust does unless it is told
//! otherwise: torc reports it with the plugin's name, and opens a new instance for the next call. An instance is called
//! from one thread at a time, and not from always the same one.
//!
//! All that is said is JSON: [`messages`] has it typed. An [`Interface`] implemented by hand sees the bytes, and may
//! answer later, from any thread ([`Call::later`]).

pub mod abi;
mod buffer;
mod host;
mod interfaces;
pub mod messages;
mod shim;

use std::time::Duration;

use serde_json::{Map, Value};

pub use buffer::TooLong;
pub use host::Host;
pub use interfaces::{
    Executor, ExecutorOf, Launcher, LauncherOf, Placer, PlacerOf, Scheduler, SchedulerOf,
};
#[doc(hidden)]
pub use shim::vtable;

/// The settings of an instance, from the spec or the configuration. They were checked against the plugin's schema.
pub type Settings = Map<String, Value>;

/// A call did not come to what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The request cannot be met, however often it is made. Why, in words for people.
    Invalid(String),
    /// It may be met later. Why.
    Transient(String),
    /// There is no such method.
    Unsupported,
    /// Nothing can be done any more: this instance is not called again. Why.
    Fatal(String),
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Level {
    /// Something does not work.
    Error = 1,
    /// Something may not work.
    Warn = 2,
    /// Something of note.
    Info = 3,
    /// For whoever looks for a fault.
    Debug = 4,
}

/// An interface as bytes: what the typed traits are made into.
pub trait Interface: Send + Sized {
    /// Makes an instance.
    ///
    /// # Errors
    /// When it cannot work with these settings, or not here.
    fn open(settings: Settings, host: Host) -> Result<Self, Failure>;

    /// Does what a method says. `request` is JSON, and so is the answer.
    ///
    /// # Errors
    /// See [`Failure`].
    fn call(&mut self, method: &str, request: &[u8], call: Call) -> Result<Reply, Failure>;

    /// Ends; what is under way may go on for so long.
    fn close(self, grace: Duration);
}

/// What comes of a call at once.
#[derive(Debug)]
pub enum Reply {
    /// The answer, JSON.
    Now(Vec<u8>),
    /// It comes through the [`Completion`] of [`Call::later`].
    Later,
}

/// One call.
#[derive(Debug)]
pub struct Call {
    op: u64,
    deadline: Duration,
    host: Host,
}

impl Call {
    /// How long torc waits for the answer.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// To answer later; [`Interface::call`] has to return [`Reply::Later`]. Not for launchers and placers.
    pub fn later(self) -> Completion {
        Completion { op: self.op, host: self.host, is_open: true }
    }
}

/// Answers a call, once. One that is dropped without an answer has failed.
#[derive(Debug)]
pub struct Completion {
    op: u64,
    host: Host,
    is_open: bool,
}

impl Completion {
    /// Gives the answer, JSON. Whether torc still waited for it.
    pub fn complete(mut self, result: Result<Vec<u8>, Failure>) -> bool {
        self.is_open = false;
        self.host.complete(self.op, result)
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if self.is_open {
            let words = "the plugin let go of the call without an answer".to_owned();
            self.host.complete(self.op, Err(Failure::Invalid(words)));
        }
    }
}

/// Exports the plugin of a library: of `launcher`, `executor`, `scheduler` and `placer` those that there are, each with
/// the type that implements its trait; after the word `raw` one that implements [`Interface`] itself.
#[macro_export]
macro_rules! torc_plugin {
    (
        name: $name:expr,
        version: $version:expr,
        info: $info:expr,
        interfaces: { $($($kind:ident)+ : $type:ty),+ $(,)? } $(,)?
    ) => {
        /// What torc looks for in the library.
        #[unsafe(no_mangle)]
        #[allow(non_upper_case_globals)]
        pub static torc_plugin_v1: $crate::abi::Descriptor = {
            static INTERFACES: &[$crate::abi::InterfaceEntry] = &[
                $($crate::abi::InterfaceEntry {
                    id: $crate::__text!($crate::__id!($($kind)+)),
                    vtable: &const { $crate::vtable::<$crate::__wrapper!($($kind)+, $type)>() },
                }),+
            ];
            $crate::abi::Descriptor {
                magic: $crate::abi::MAGIC,
                abi_major: $crate::abi::ABI_MAJOR,
                abi_minor: $crate::abi::ABI_MINOR,
                struct_size: ::core::mem::size_of::<$crate::abi::Descriptor>() as u32,
                interface_count: INTERFACES.len() as u32,
                interfaces: INTERFACES.as_ptr(),
                name: $crate::__text!($name),
                version: $crate::__text!($version),
                info: $crate::__text!($info),
            }
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __text {
    ($text:expr) => {
        ::core::concat!($text, "\0").as_ptr().cast::<::core::ffi::c_char>()
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __id {
    (raw $kind:ident) => {
        $crate::__id!($kind)
    };
    (launcher) => {
        "torc.launcher/1"
    };
    (executor) => {
        "torc.executor/1"
    };
    (scheduler) => {
        "torc.scheduler/1"
    };
    (placer) => {
        "torc.placer/1"
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __wrapper {
    (raw $kind:ident, $type:ty) => { $type };
    (launcher, $type:ty) => { $crate::LauncherOf<$type> };
    (executor, $type:ty) => { $crate::ExecutorOf<$type> };
    (scheduler, $type:ty) => { $crate::SchedulerOf<$type> };
    (placer, $type:ty) => { $crate::PlacerOf<$type> };
}
