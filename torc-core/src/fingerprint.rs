//! What a file was like at a moment, as far as it takes to know later whether it has changed.
//!
//! Owns when two looks at a file are of the same content. Does not read files. Invariant: what cannot be told
//! counts as a change.

use serde::{Deserialize, Serialize};

/// Files up to this size are known by their content, larger ones by size and time of modification alone:
/// reading them would take longer than it is worth.
pub const LARGEST_READ: u64 = 64 << 20;

/// What a file was like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// In bytes.
    #[serde(rename = "s")]
    pub size: u64,
    /// When it was last modified, in nanoseconds since 1970-01-01T00:00:00Z.
    #[serde(rename = "m")]
    pub modified_ns: u64,
    /// The SHA-256 of its content in hexadecimal; `None`: it was not read.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Box<str>>,
}

impl Fingerprint {
    /// Whether the file looks as it did, so that it need not be read.
    pub fn looks_like(&self, now: &Self) -> bool {
        self.size == now.size && self.modified_ns == now.modified_ns
    }
}

/// Files, as they can be looked at.
pub trait Files {
    /// Size and time of modification of the file at this path, without its digest; `None`: it is not there.
    fn look(&mut self, path: &str) -> Option<Fingerprint>;

    /// The digest of its content, as in [`Fingerprint::digest`]; `None`: it cannot be read.
    fn digest(&mut self, path: &str) -> Option<Box<str>>;
}
