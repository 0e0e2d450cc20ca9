//! torc
fn main() {}
