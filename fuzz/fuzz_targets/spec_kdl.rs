//! Any bytes as a spec in KDL.

#![no_main]

use torc_core::spec::Format;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| torc_fuzz::check(bytes, Format::Kdl));
