//! The MPI program of the tests, and what its ranks say.

use std::process::Command;

use serde_json::Value;

use crate::{Place, checkout, nodes};

/// Compiles the MPI program with MPICH into the place, as `allreduce`.
///
/// # Panics
/// When it cannot be compiled.
#[track_caller]
pub fn compile_allreduce(place: &Place) {
    compile_allreduce_with(place, "mpich");
}

/// The same with the MPI library of this name, as Debian has it.
///
/// # Panics
/// When it cannot be compiled.
#[track_caller]
pub fn compile_allreduce_with(place: &Place, library: &str) {
    let compiled = Command::new(format!("mpicc.{library}"))
        .arg("-o")
        .arg(place.join("allreduce"))
        .arg(checkout().join("tests/slurm/allreduce.c"))
        .status()
        .expect("the compiler starts");
    assert!(compiled.success());
}

/// So many ranks found each other, equally many on each node of the attempt.
///
/// # Panics
/// When they did not.
#[track_caller]
pub fn check_ranks(attempt: &Value, ranks: usize) {
    let output = std::fs::read_to_string(attempt["stdout"].as_str().expect("a path"))
        .expect("it has output");
    let lines: Vec<&str> = output.lines().filter(|line| line.contains("rank")).collect();
    assert_eq!(lines.len(), ranks, "{output}");
    let size = format!(" of {ranks} on ");
    let total = format!(" sum {}", ranks * (ranks - 1) / 2);
    assert!(lines.iter().all(|line| line.contains(&size) && line.ends_with(&total)), "{output}");
    let nodes = nodes(attempt);
    for node in &nodes {
        let here = lines.iter().filter(|line| line.contains(&format!(" on {node} "))).count();
        assert_eq!(here, ranks / nodes.len(), "{output}");
    }
}
