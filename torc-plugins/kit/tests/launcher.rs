//! The checks of launchers: torc's own keeps all of them, and each finds the fault that it is for.

#[path = "found/all.rs"]
mod all;
mod found;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ThreadId};

use all::{assert_keeps, verdicts};
use found::assert_broken;
use torc_core::traits::{LaunchPlan, Launcher, LauncherError, Step};
use torc_executors::slurm::SrunLauncher;
use torc_executors::slurm::version::{Dialect, Version};
use torc_plugin_kit::{Candidate, LauncherSite};

fn srun(release: &str) -> SrunLauncher {
    let version = Version::parse(&format!("slurm {release}")).expect("a release");
    let dialect = Dialect::of(version).expect("is new enough");
    SrunLauncher { program: "/usr/bin/srun".into(), dialect, time_limit: None, shared: None }
}

#[test]
fn the_srun_launcher_keeps_every_promise() {
    for release in ["22.05.8", "24.11.0"] {
        let make = || Ok(Box::new(srun(release)) as _);
        assert_keeps(Candidate::Launcher(&LauncherSite { make: &make }), &[]);
    }
}

#[test]
fn a_check_is_run_by_its_name() {
    let make = || Ok(Box::new(srun("22.05.8")) as _);
    let site = LauncherSite { make: &make };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let run = |name| runtime.block_on(torc_plugin_kit::run(name, Candidate::Launcher(&site)));
    assert_eq!(run("launcher.simple_step"), Some(Ok(())));
    assert_eq!(run("launcher.no_such_check"), None);
    assert_eq!(run("executor.success"), None, "it is of another interface");
}

/// What is wrong with a launcher.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    QuotesIntoOneWord,
    DropsEmptyWords,
    SplitsWords,
    Forgets,
    LosesWordsOfMany,
    IsRelative,
    HasNul,
    WritesElsewhere,
    Counts,
    RefusesSilently,
    KnowsItsThread,
    PanicsInAThread,
}

/// A launcher like mpirun's, with a fault.
struct Faulty {
    fault: Fault,
    plans: AtomicUsize,
    home: ThreadId,
}

impl Launcher for Faulty {
    fn name(&self) -> &str {
        "faulty"
    }

    fn plan(&self, step: &Step, _: &str) -> Result<LaunchPlan, LauncherError> {
        if step.nodes.is_empty() || step.argv.is_empty() {
            let reason = match self.fault {
                Fault::RefusesSilently => " ".to_owned(),
                _ => "there is nothing to start".to_owned(),
            };
            return Err(LauncherError::Unsupported { launcher: "faulty".to_owned(), reason });
        }
        let plans = self.plans.fetch_add(1, Ordering::Relaxed);
        let is_away = thread::current().id() != self.home;
        let mut command = step.argv.clone();
        let mut plan = LaunchPlan::default();
        let mut program = "mpirun";
        match self.fault {
            Fault::QuotesIntoOneWord => command = vec![command.join(" ")],
            Fault::DropsEmptyWords => command.retain(|word| !word.is_empty()),
            Fault::SplitsWords => {
                let words = command.iter().flat_map(|word| word.split('\n'));
                command = words.map(str::to_owned).collect();
            }
            Fault::Forgets => drop(command.pop()),
            Fault::LosesWordsOfMany if step.nodes.len() > 100 => drop(command.pop()),
            Fault::IsRelative => program = "bin/mpirun",
            Fault::HasNul => drop(plan.env.insert("A".to_owned(), "b\0c".to_owned())),
            Fault::WritesElsewhere => plan.files.push(("../hosts".to_owned(), String::new())),
            Fault::Counts => drop(plan.env.insert("N".to_owned(), plans.to_string())),
            Fault::KnowsItsThread if is_away => {
                plan.env.insert("N".to_owned(), "another".to_owned());
            }
            Fault::PanicsInAThread if is_away => panic!("this is not where it began"),
            _ => {}
        }
        plan.argv = vec![program.to_owned(), "-n".to_owned(), step.nodes.len().to_string()];
        plan.argv.extend(command);
        Ok(plan)
    }
}

fn faulty(fault: Fault, home: ThreadId) -> Box<dyn Launcher> {
    Box::new(Faulty { fault, plans: AtomicUsize::new(0), home })
}

fn check(fault: Fault, expected: &[&str]) {
    let home = thread::current().id();
    let make = || Ok(faulty(fault, home));
    let site = LauncherSite { make: &make };
    assert_broken(&format!("{fault:?}"), &verdicts(Candidate::Launcher(&site)), expected);
}

#[test]
fn words_that_do_not_arrive_are_found() {
    check(Fault::None, &[]);
    check(Fault::DropsEmptyWords, &["launcher.argv_arrives_whole"]);
    check(Fault::SplitsWords, &["launcher.argv_arrives_whole"]);
    check(Fault::Forgets, &["launcher.simple_step", "launcher.any_number_of_ranks"]);
    check(Fault::LosesWordsOfMany, &["launcher.any_number_of_ranks"]);
}

#[test]
fn a_launcher_that_writes_the_command_elsewhere_is_not_judged_by_its_argv() {
    let home = thread::current().id();
    let make = || Ok(faulty(Fault::QuotesIntoOneWord, home));
    let site = LauncherSite { make: &make };
    assert_keeps(Candidate::Launcher(&site), &["launcher.argv_arrives_whole"]);
}

#[test]
fn plans_that_cannot_be_executed_are_found() {
    check(Fault::IsRelative, &["launcher.program_can_be_found"]);
    check(Fault::HasNul, &["launcher.plan_can_be_executed"]);
    check(Fault::WritesElsewhere, &["launcher.files_stay_inside"]);
    check(Fault::RefusesSilently, &["launcher.refusals_have_words"]);
}

#[test]
fn plans_that_differ_are_found() {
    check(Fault::Counts, &["launcher.same_step_same_plan", "launcher.many_threads"]);
    check(Fault::KnowsItsThread, &["launcher.many_threads"]);
    check(Fault::PanicsInAThread, &["launcher.many_threads"]);
}
