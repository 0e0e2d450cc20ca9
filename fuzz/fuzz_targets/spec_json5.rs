//! Any bytes as a spec in JSON5.

#![no_main]

use torc_core::spec::Format;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| torc_fuzz::check(bytes, Format::Json5));
