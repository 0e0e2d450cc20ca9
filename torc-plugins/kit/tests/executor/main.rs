//! The checks of executors: those of torc that need no cluster keep all of them, and each finds the fault that it is
//! for.
//!
//! A program of its own, because it must be able to become a keeper: see `run_if_asked`.

mod faults;
#[path = "../found/mod.rs"]
mod found;
mod own;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use torc_plugin_kit::{Interface, checks_of};

fn main() -> ExitCode {
    if let Some(code) = torc_executors::keeper::run_if_asked() {
        return code;
    }
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for check in checks_of(Interface::Executor) {
        trials.push(Trial::test(format!("local::{}", check.name), || {
            own::local(check);
            Ok(())
        }));
        trials.push(Trial::test(format!("node::{}", check.name), || {
            own::node_of_one(check);
            Ok(())
        }));
    }
    trials.extend(faults::TESTS.iter().map(|&(name, test)| {
        Trial::test(format!("faults::{name}"), move || {
            test();
            Ok(())
        })
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}
