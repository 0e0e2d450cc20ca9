//! Standard output and standard error, which can be gone or full at any moment without harm to a run.
//!
//! The macros of the standard library panic then. Here what cannot be said on standard error is
//! dropped; a reader of standard output that went away is remembered, so that a command can stop;
//! any other failure to write a result is remembered and becomes the exit code.

use std::fmt;
use std::io::{ErrorKind, Write};
use std::sync::Mutex;

/// How standard output stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Everything was written so far.
    Open,
    /// Whoever read it has gone away, as `head` does.
    Unread,
    /// It could not be written, in the operating system's words.
    Failed(String),
}

static OUTPUT: Mutex<Output> = Mutex::new(Output::Open);

/// Writes a line on standard output.
macro_rules! outln {
    ($($text:tt)*) => { $crate::out::print_line(format_args!($($text)*)) };
}

/// Writes a line on standard error.
macro_rules! errln {
    ($($text:tt)*) => { $crate::out::say_line(format_args!($($text)*)) };
}

pub(crate) use {errln, outln};

pub(crate) fn print_line(text: fmt::Arguments<'_>) {
    let mut out = anstream::stdout().lock();
    note(writeln!(out, "{text}"));
}

pub(crate) fn say_line(text: fmt::Arguments<'_>) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Writes bytes on standard output as they are.
pub(crate) fn pass_on(bytes: &[u8]) {
    note(std::io::stdout().lock().write_all(bytes));
}

/// Hands everything that was written to the operating system.
pub(crate) fn flush() {
    note(std::io::stdout().lock().flush());
}

/// How standard output stands.
pub(crate) fn state() -> Output {
    OUTPUT.lock().map_or(Output::Open, |output| output.clone())
}

fn note(written: std::io::Result<()>) {
    let Err(error) = written else { return };
    let Ok(mut output) = OUTPUT.lock() else { return };
    if *output == Output::Open {
        *output = match error.kind() {
            ErrorKind::BrokenPipe => Output::Unread,
            _ => Output::Failed(error.to_string()),
        };
    }
}
