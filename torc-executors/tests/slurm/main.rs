//! The Slurm executor, and the parts of direct mode: against a fake Slurm everywhere, and on a real cluster where there is one.
//!
//! A program of its own, because it must be able to become a keeper, and because it submits itself: a
//! test on the cluster is a batch job that runs this program once more, inside its allocation. A cluster
//! is there when `SLURM_CONF` is set and sinfo answers; `tests/slurm/up` makes one.

mod cluster;
mod conformance;
mod crew;
mod deaths;
mod direct;
mod direct_fakes;
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
const INSIDE: [(&str, &[site::Test]); 8] = [
    ("launches", launches::TESTS),
    ("sights", sights::TESTS),
    ("endings", endings::TESTS),
    ("stops", stops::TESTS),
    ("gangs", gangs::TESTS),
    ("deaths", deaths::TESTS),
    ("direct", direct::TESTS),
    ("conformance", conformance::TESTS),
];

fn main() -> ExitCode {
    if let Some(code) = torc_executors::keeper::run_if_asked() {
        return code;
    }
    if let Some(code) = deaths::victim_if_asked() {
        return code;
    }
    if let Some(code) = crew::node_worker_if_asked() {
        return code;
    }
    if let Some(code) = cluster::run_inside_if_asked(&INSIDE) {
        return code;
    }
    let arguments = Arguments::from_args();
    let alone = [("fakes", fakes::TESTS), ("direct_fakes", direct_fakes::TESTS)];
    let alone = alone.into_iter().flat_map(|(suite, tests)| {
        tests.iter().map(move |&(name, test)| {
            Trial::test(format!("{suite}::{name}"), move || {
                test();
                Ok(())
            })
        })
    });
    let mut trials: Vec<Trial> = alone.collect();
    for (suite, tests) in INSIDE {
        trials.extend(tests.iter().map(move |test| {
            let name = format!("{suite}::{}", test.name);
            let wanted = name.clone();
            Trial::test(name, move || cluster::submit(&wanted, test).map_err(Into::into))
        }));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
