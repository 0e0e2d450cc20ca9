//! A server with real connections and a real database, between a scheduler that grants at once and
//! workers whose steps are pretended.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod changes;
mod losses;
mod placers;
mod runs;
mod site;
