//! The sources of the SDK, as they are given to authors: no registry has to have them.

/// Where each lies below the folder of the SDK, and what it has in it.
pub(super) const SOURCES: &[(&str, &str)] = &[
    ("src/abi.rs", include_str!("../../sdk/src/abi.rs")),
    ("src/buffer.rs", include_str!("../../sdk/src/buffer.rs")),
    ("src/host.rs", include_str!("../../sdk/src/host.rs")),
    ("src/interfaces.rs", include_str!("../../sdk/src/interfaces.rs")),
    ("src/lib.rs", include_str!("../../sdk/src/lib.rs")),
    ("src/messages/executor.rs", include_str!("../../sdk/src/messages/executor.rs")),
    ("src/messages/launcher.rs", include_str!("../../sdk/src/messages/launcher.rs")),
    ("src/messages/mod.rs", include_str!("../../sdk/src/messages/mod.rs")),
    ("src/messages/placer.rs", include_str!("../../sdk/src/messages/placer.rs")),
    ("src/messages/scheduler.rs", include_str!("../../sdk/src/messages/scheduler.rs")),
    ("src/messages/step.rs", include_str!("../../sdk/src/messages/step.rs")),
    ("src/messages/text.rs", include_str!("../../sdk/src/messages/text.rs")),
    ("src/shim.rs", include_str!("../../sdk/src/shim.rs")),
];

/// The boundary for C and C++.
pub(super) const HEADER: &str = include_str!("../../sdk/include/torc_plugin.h");
