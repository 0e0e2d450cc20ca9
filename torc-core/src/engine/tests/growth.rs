//! Jobs that are added to a workflow: what waits for what, what cannot be added, and that a replay has them, too.

use std::sync::Arc;

use super::{Run, node, placer};
use crate::engine::{Added, Engine, Event, JobStatus, NotAdded, Phase, Written};
use crate::ids::{JobId, WorkflowId};
use crate::spec::{Context, Sources, load};
use crate::traits::Outcome;
use crate::workflow::Workflow;

struct NoSources;

impl Sources for NoSources {
    fn read(&self, _: &str) -> Result<Vec<u8>, String> {
        Err("there is none".to_owned())
    }
}

fn spec(text: &str) -> Workflow {
    let context = Context { user: None, sources: &NoSources };
    let text = format!("name: w\ndynamic_jobs: {{max_iterations: 2}}\n{text}");
    load(text.as_bytes(), None, &context).expect("a valid spec").workflow
}

impl Run {
    pub(super) fn add(&mut self, text: &str, by: Option<JobId>) -> Result<Added, NotAdded> {
        let written = Written { text: text.as_bytes(), format: None, sources: &NoSources, by };
        let added = self.engine.add_jobs(written, self.now)?;
        self.log.extend(added.event.clone());
        Ok(added)
    }

    /// Adds jobs, written in one line, from a running job; the names of those that are new.
    fn add_by(&mut self, by: &str, jobs: &str) -> Vec<String> {
        let by = self.job(by);
        let added = self.add(&format!("jobs: [{jobs}]"), Some(by)).expect("they can be added");
        added.new.into_iter().map(|job| self.name(job)).collect()
    }

    fn check_replayed(&self) {
        let again = self.replayed();
        assert_eq!(**again.workflow(), **self.engine.workflow());
        assert_eq!(again.snapshot(), self.engine.snapshot());
        assert_eq!(again.counts(), self.engine.counts());
        assert_eq!(
            again.workflow_report(self.now, true, &[]),
            self.engine.workflow_report(self.now, true, &[])
        );
    }

    fn dependencies(&self, name: &str) -> Vec<String> {
        let job = &self.engine.workflow().jobs[self.job(name).index()];
        job.depends_on.iter().map(|job| self.name(*job)).collect()
    }
}

const MAP: &str = "
files: [{name: out, path: out}]
jobs:
  - {name: split, command: c}
  - {name: gather, command: c, depends_on_regexes: ['^part_'], depends_on: [split]}
  - {name: read, command: c, input_files: [out], depends_on: [split]}
  - {name: apart, command: c}";

#[test]
fn added_jobs_wait_for_the_one_that_adds_them_and_others_for_them() {
    let mut run = Run::begin(spec(MAP), vec![node("n", 4)]);
    assert_eq!(run.dispatch(), ["split", "apart"]);
    let parts = "{name: 'part_{i}', command: 'c {i}', parameters: {i: '1:2'}}, {name: write, command: c, output_files: [out]}";
    assert_eq!(run.add_by("split", parts), ["part_1", "part_2", "write"]);
    assert_eq!(run.dependencies("part_1"), ["split"]);
    assert_eq!(run.dependencies("gather"), ["split", "part_1", "part_2"]);
    assert_eq!(run.dependencies("read"), ["split", "write"]);
    assert_eq!(
        run.statuses(),
        "split=pending gather=blocked read=blocked apart=pending part_1=blocked part_2=blocked write=blocked"
    );
    run.check_replayed();
    run.exit("split", 0);
    assert_eq!(run.dispatch(), ["part_1", "part_2", "write"]);
    run.exit("write", 0);
    run.exit("part_1", 0);
    assert_eq!(run.dispatch(), ["read"]);
    run.exit("part_2", 1);
    assert_eq!(run.status("gather"), JobStatus::Canceled);
    run.check_replayed();
    assert_eq!(run.engine.workflow().header.families.len(), 1);
}

#[test]
fn the_same_jobs_are_added_once_and_others_of_their_names_never() {
    let mut run = Run::begin(spec(MAP), vec![node("n", 4)]);
    run.dispatch();
    let job = "{name: part_1, command: c, depends_on: [apart], env: {A: '1'}}";
    assert_eq!(run.add_by("split", job), ["part_1"]);
    let before = run.log.len();
    assert!(run.add_by("split", job).is_empty());
    assert!(run.add_by("apart", job).is_empty(), "whoever asks");
    assert_eq!(run.log.len(), before);
    assert_eq!(run.add_by("split", &format!("{job}, {{name: part_2, command: c}}")), ["part_2"]);
    let mut refused = |job: &str, field: &str| {
        let error = run.add(&format!("jobs: [{job}]"), None).expect_err("it is another job");
        let NotAdded::Rejected(rejected) = error else { panic!("{error}") };
        let messages: Vec<_> = rejected.problems.iter().map(|one| one.message.clone()).collect();
        let name = job.split([' ', ',']).nth(1).unwrap_or_default();
        assert_eq!(messages, [format!("there is a job `{name}` already, with another `{field}`")]);
    };
    refused("{name: part_1, command: d, depends_on: [apart], env: {A: '1'}}", "command");
    refused("{name: part_1, command: c, depends_on: [apart], env: {A: '2'}}", "env");
    refused("{name: part_1, command: c, env: {A: '1'}}", "depends_on");
    refused(
        "{name: part_1, command: c, depends_on: [apart], env: {A: '1'}, priority: 1}",
        "priority",
    );
    refused(
        "{name: part_1, command: c, depends_on: [apart], env: {A: '1'}, input_files: [out]}",
        "input_files",
    );
    refused("{name: apart, command: d}", "command");
    assert!(run.add("jobs: [{name: apart, command: c}]", None).expect("the same").new.is_empty());
}

#[test]
fn what_cannot_be_added_changes_nothing() {
    let mut run = Run::begin(spec(MAP), vec![node("n", 4)]);
    run.dispatch();
    let before = (run.statuses(), run.engine.workflow().clone());
    let mut refused = |text: &str, expected: &str| {
        let said = match run.add(text, Some(JobId(1))).expect_err("it cannot be added") {
            NotAdded::Rejected(rejected) => {
                let said = rejected.problems.iter().map(|one| one.message.clone());
                said.collect::<Vec<_>>().join("\n")
            }
            other => other.to_string(),
        };
        assert!(said.contains(expected), "{said}");
    };
    refused("jobs: [{name: x, command: c, depends_on: [y]}]", "there is no job named `y`");
    refused(
        "jobs: [{name: part_1, command: c, depends_on: [gather]}]",
        "jobs wait for each other: gather -> part_1 -> gather",
    );
    refused("jobs: [{name: x, command: c}, {name: x, command: c}]", "two jobs named `x`");
    refused(
        "jobs: [{name: split, command: c}, {name: split, command: c}]",
        "two jobs named `split`",
    );
    refused("jobs: [{name: x, command: c}]\nactions: []", "`actions` cannot be added");
    refused("jobs: [{name: x, command: c, nme: 1}]", "nme");
    refused(
        "files: [{name: out, path: other}]\njobs: []",
        "a file `out` already, and it is another",
    );
    refused(
        "jobs: [{name: x, command: c, output_files: [out]}, {name: y, command: c, output_files: [out]}]",
        "written by two jobs",
    );
    refused(
        "resource_requirements: [{name: wide, num_cpus: 9}]\n\
         jobs: [{name: ok, command: c}, {name: x, command: c, resource_requirements: wide}]",
        "job `x` can never run here",
    );
    refused("", "the spec is empty");
    refused("\u{0}", "NUL");
    assert_eq!((run.statuses(), run.engine.workflow().clone()), before);
    let by_nobody = run.add("jobs: [{name: x, command: c}]", Some(JobId(99))).expect_err("none");
    assert_eq!(by_nobody, NotAdded::UnknownJob(JobId(99)));
}

#[test]
fn iterations_are_bounded_and_a_spec_without_a_bound_allows_none() {
    let mut run = Run::begin(spec(MAP), vec![node("n", 4)]);
    run.dispatch();
    run.add_by("split", "{name: one, command: c}");
    run.add_by("one", "{name: two, command: c}");
    let two = run.job("two");
    let refused = run.add("jobs: [{name: three, command: c}]", Some(two)).expect_err("too late");
    assert_eq!(refused, NotAdded::TooLate { iteration: 3, most: 2 });
    assert_eq!(
        run.add("jobs: [{name: three, command: c}]", None).expect("from outside").iteration,
        1
    );
    // What is there already may be added again by anybody.
    assert!(run.add("jobs: [{name: three, command: c}]", Some(two)).is_ok());
    let mut fixed = spec(MAP);
    fixed.header.max_dynamic_iterations = None;
    let mut run = Run::begin(fixed, vec![node("n", 4)]);
    let refused = run.add("jobs: [{name: x, command: c}]", None).expect_err("not allowed");
    assert!(refused.to_string().contains("dynamic_jobs: {max_iterations"), "{refused}");
}

#[test]
fn jobs_that_have_begun_wait_for_nothing_new() {
    let text = "jobs:\n  - {name: a, command: c}\n  - {name: b, command: c, depends_on_regexes: ['^n']}\n  \
                - {name: c, command: c, depends_on_regexes: ['^n'], resource_requirements: wide}\n\
                resource_requirements: [{name: wide, num_cpus: 2}]";
    let mut run = Run::begin(spec(text), vec![node("n", 2)]);
    // One of them begins, and the other is ready.
    let begun = run.dispatch();
    let waits = if begun == ["c"] { "b" } else { "c" };
    let other = if begun == ["c"] { "c" } else { "b" };
    run.add("jobs: [{name: n1, command: c}]", None).expect("it can be added");
    assert_eq!((run.dependencies(waits), run.dependencies(other)), (vec!["n1".to_owned()], vec![]));
    assert_eq!(run.status(waits), JobStatus::Blocked);
    run.check_replayed();
}

#[test]
fn actions_wait_for_the_jobs_that_they_select_of_the_new() {
    let text = "jobs: [{name: part_0, command: c}, {name: x, command: c}]\nactions:\n  \
                - {trigger_type: on_jobs_complete, job_name_regexes: ['^part_'], action_type: run_commands, commands: [c]}\n  \
                - {trigger_type: on_jobs_complete, jobs: [part_0], action_type: run_commands, commands: [c]}";
    let mut run = Run::begin(spec(text), vec![node("n", 2)]);
    run.dispatch();
    run.add_by("x", "{name: part_1, command: c}");
    run.exit("part_0", 0);
    assert_eq!(run.act().0, ["action 1"]);
    run.exit("x", 0);
    run.dispatch();
    run.exit("part_1", 0);
    assert_eq!(run.act().0, ["action 0"]);
    run.check_replayed();
}

#[test]
fn jobs_are_added_before_between_and_after_runs() {
    let submitted = Arc::new(spec(MAP));
    let engine = Engine::new(WorkflowId(1), submitted.clone(), placer());
    let mut run = Run { engine, submitted, log: Vec::new(), now: crate::time::Timestamp(1_000) };
    run.add("jobs: [{name: early, command: c}]", None).expect("it can be added");
    assert_eq!(run.status("early"), JobStatus::Uninitialized);
    run.start();
    run.apply(Event::CancelRequested { at: run.now, jobs: None });
    run.apply(Event::RunEnded { at: run.now, complete: true });
    run.add("jobs: [{name: part_1, command: c}]", None).expect("it can be added");
    assert_eq!(run.engine.phase(), Phase::Ended { complete: false });
    assert_eq!(run.dependencies("gather"), ["split", "part_1"]);
    run.check_replayed();
    run.start();
    assert_eq!(run.status("part_1"), JobStatus::Ready);
    run.check_replayed();
}

#[test]
fn an_addition_from_elsewhere_that_does_not_fit_is_refused() {
    let mut run = Run::begin(spec(MAP), vec![node("n", 4)]);
    run.dispatch();
    let added = run.add("jobs: [{name: part_1, command: c}]", None).expect("it can be added");
    let Some(Event::JobsAdded { at, addition }) = added.event else { panic!("{added:?}") };
    let refused = |run: &mut Run, spoil: &dyn Fn(&mut crate::addition::Addition)| {
        let mut addition = addition.clone();
        spoil(&mut addition);
        let before = run.engine.workflow().clone();
        run.engine.apply(&Event::JobsAdded { at, addition }).expect_err("it does not fit");
        assert_eq!(*run.engine.workflow(), before);
    };
    refused(&mut run, &|one| one.jobs[0].requirements = 9);
    refused(&mut run, &|one| one.jobs[0].depends_on = [JobId(99)].into());
    refused(&mut run, &|one| one.relinked[0].job = JobId(1));
    refused(&mut run, &|one| one.relinked[0].job = JobId(99));
    refused(&mut run, &|one| one.selected = vec![(0, vec![JobId(1)])]);
    refused(&mut run, &|one| one.by = Some(JobId(99)));
}

#[test]
fn a_run_goes_on_with_what_was_added() {
    let mut run = Run::begin(spec(MAP), vec![node("n", 4)]);
    run.dispatch();
    run.add_by("split", "{name: part_1, command: c}");
    run.apply(Event::StopRequested { at: run.now });
    run.end("split", Outcome::Cancelled);
    run.end("apart", Outcome::Cancelled);
    run.add("jobs: [{name: part_2, command: c}]", None).expect("it can be added");
    assert_eq!(run.dispatch(), [""; 0]);
    run.apply(Event::RunResumed { at: run.now });
    run.check_replayed();
    assert!(run.dispatch().contains(&"part_2".to_owned()));
}
