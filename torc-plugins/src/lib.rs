//! The plugin boundary: where a site's own launchers, schedulers, placers and executors will be
//! loaded from shared libraries and started as processes.
//!
//! This release loads none. A spec that names a plugin is accepted with a warning that says so
//! (`spec::not-run-here`). A Rust program can bring its own parts already, by implementing the traits
//! of [`torc_core::traits`].
