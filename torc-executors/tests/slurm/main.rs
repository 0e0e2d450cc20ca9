//! The Slurm executor: against a fake Slurm everywhere, and on a real cluster where there is one.
//!
//! A program of its own, because it must be able to become a keeper, and because it submits itself: a
//! test on the cluster is a batch job that runs this program once more, inside its allocation. A cluster
//! is there when `SLURM_CONF` is set and sinfo answers; `tests/slurm/up` makes one.

mod cluster;
mod deaths;
mod endings;
mod fakes;
mod gangs;
mod launches;
mod sights;
mod site;
mod stops;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// The suites of tests that run inside an allocation.
const INSIDE: [(&str, &[site::Test]); 6] = [
    ("launches", launches::TESTS),
    ("sights", sights::TESTS),
    ("endings", endings::TESTS),
    ("stops", stops::TESTS),
    ("gangs", gangs::TESTS),
    ("deaths", deaths::TESTS),
];

fn main() -> ExitCode {
    if let Some(code) = torc_executors::keeper::run_if_asked() {
        return code;
    }
    if let Some(code) = deaths::victim_if_asked() {
        return code;
    }
    if let Some(code) = cluster::run_inside_if_asked(&INSIDE) {
        return code;
    }
    let arguments = Arguments::from_args();
    let mut trials: Vec<Trial> = fakes::TESTS
        .iter()
        .map(|&(name, test)| {
            Trial::test(format!("fakes::{name}"), move || {
                test();
                Ok(())
            })
        })
        .collect();
    for (suite, tests) in INSIDE {
        trials.extend(tests.iter().map(move |test| {
            let name = format!("{suite}::{}", test.name);
            let wanted = name.clone();
            Trial::test(name, move || cluster::submit(&wanted, test).map_err(Into::into))
        }));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
