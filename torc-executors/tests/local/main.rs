//! The Local executor and its keeper, with real processes.
//!
//! A program of its own, because it must be able to become a keeper: see `run_if_asked`. Where a
//! test must know that processes are gone, all of them hold the writing end of a pipe.

mod deaths;
mod endings;
mod launches;
mod leftovers;
mod resources;
mod sights;
mod site;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    if let Some(code) = torc_executors::keeper::run_if_asked() {
        return code;
    }
    if let Some(code) = deaths::victim_if_asked() {
        return code;
    }
    let arguments = Arguments::from_args();
    let suites = [
        ("launches", launches::TESTS),
        ("sights", sights::TESTS),
        ("endings", endings::TESTS),
        ("leftovers", leftovers::TESTS),
        ("resources", resources::TESTS),
        ("deaths", deaths::TESTS),
    ];
    let trials = suites.into_iter().flat_map(|(suite, tests)| {
        tests.iter().map(move |&(name, test)| {
            Trial::test(format!("{suite}::{name}"), move || {
                test();
                Ok(())
            })
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
