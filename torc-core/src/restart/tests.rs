//! Scenarios: a workflow that was run, what its spec says now, what lies on disk, and which jobs run again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::{Changed, Checklist, Plan, Reason, Revision, Wish, decide};
use crate::engine::{Engine, Event};
use crate::fingerprint::{Files, Fingerprint, LARGEST_READ};
use crate::ids::{JobId, WorkflowId};
use crate::placer::WholeNodePlacer;
use crate::resources::NodeInventory;
use crate::spec::{Context, Format, Sources, load};
use crate::time::Timestamp;
use crate::traits::{Outcome, Usage};
use crate::workflow::Workflow;

struct NoSources;

impl Sources for NoSources {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        Err(format!("there is no {path}"))
    }
}

fn spec(text: &str) -> Workflow {
    let context = Context { user: None, sources: &NoSources };
    load(text.as_bytes(), Some(Format::Yaml), &context).expect("the spec is valid").workflow
}

/// Files of a pretended folder.
#[derive(Clone, Default)]
struct Folder {
    files: BTreeMap<String, (Fingerprint, String)>,
    read: u32,
}

impl Folder {
    fn with(mut self, path: &str, modified_ms: u64, content: &str) -> Self {
        let size = content.len() as u64;
        let seen = Fingerprint { size, modified_ns: modified_ms * 1_000_000, digest: None };
        self.files.insert(path.to_owned(), (seen, content.to_owned()));
        self
    }
}

impl Files for Folder {
    fn look(&mut self, path: &str) -> Option<Fingerprint> {
        self.files.get(path).map(|(seen, _)| seen.clone())
    }

    fn digest(&mut self, path: &str) -> Option<Box<str>> {
        self.read += 1;
        self.files.get(path).map(|(_, content)| format!("digest of {content}").into())
    }
}

/// A workflow in an engine, with its log.
struct Story {
    first: Arc<Workflow>,
    engine: Engine,
    log: Vec<Event>,
    now: Timestamp,
    folder: Folder,
}

impl Story {
    fn of(text: &str) -> Self {
        let first = Arc::new(spec(text));
        let placer = Box::new(WholeNodePlacer::of(&first.header));
        let engine = Engine::new(WorkflowId(1), first.clone(), placer);
        let (log, folder) = (Vec::new(), Folder::default());
        Self { first, engine, log, now: Timestamp(1_000), folder }
    }

    fn apply(&mut self, event: Event) {
        self.engine.apply(&event).expect("the event follows");
        self.log.push(event);
    }

    fn job(&self, name: &str) -> JobId {
        let jobs = &self.engine.workflow().jobs;
        JobId::from_index(jobs.iter().position(|job| &*job.name == name).expect("a job"))
    }

    fn begin(&mut self, reset: Vec<(JobId, JobId)>) {
        self.apply(self.engine.next_run(self.now, reset));
        let node = NodeInventory {
            name: "n".into(),
            cores: (0..4).collect(),
            threads_per_core: 1,
            slots: None,
            memory: 64 << 30,
            gpus: Box::new([]),
        };
        let allocation = self.engine.number_allocation(vec![node], Arc::from([]), None);
        self.apply(Event::AllocationGranted { at: self.now, began_at: None, allocation });
    }

    /// Runs all that can run, in which these jobs fail; what the others read is seen.
    fn run_on(&mut self, failing: &[&str]) {
        loop {
            let dispatch = self.engine.dispatch(self.now, usize::MAX);
            self.log.extend(dispatch.started);
            self.log.extend(dispatch.held);
            let Some((job, attempt)) = self.engine.running().next() else { return };
            self.now = self.now + Duration::from_secs(1);
            let name = self.engine.workflow().jobs[job.index()].name.clone();
            let code = i32::from(failing.contains(&&*name));
            let (at, outcome) = (self.now, Outcome::Exited { code });
            self.apply(Event::StepEnded { job, attempt, at, outcome, usage: Usage::default() });
            self.see(job);
        }
    }

    fn see(&mut self, job: JobId) {
        let mut folder = self.folder.clone();
        let wanted = self.engine.inputs_to_see(job);
        if wanted.is_empty() {
            return;
        }
        let seen = wanted.into_iter().filter_map(|(index, path)| {
            let seen = folder.look(&path)?;
            let digest = folder.digest(&path).filter(|_| seen.size <= LARGEST_READ);
            Some((index, Fingerprint { digest, ..seen }))
        });
        let files = seen.collect();
        let latest = self.engine.latest_attempt(job).expect("it ran");
        let (run, attempt, at) = (latest.run, latest.attempt, self.now);
        self.apply(Event::InputsSeen { job, run, attempt, at, files });
    }

    fn end(&mut self) {
        let at = self.now;
        let gone: Vec<_> = self.engine.live_allocations().map(|one| one.id).collect();
        for allocation in gone {
            let (cause, reason) = (crate::traits::AllocationEnd::Unknown, String::new());
            self.apply(Event::AllocationEnded { at, allocation, cause, reason });
        }
        let complete = self.engine.counts().ended() as usize == self.engine.workflow().jobs.len();
        self.apply(Event::RunEnded { at, complete });
    }

    /// Runs the workflow once, from its beginning to its end.
    fn ran(text: &str, failing: &[&str]) -> Self {
        Self::of(text).ran_in(Folder::default(), failing)
    }

    fn ran_in(mut self, folder: Folder, failing: &[&str]) -> Self {
        self.folder = folder;
        self.begin(self.engine.unfinished_jobs());
        self.run_on(failing);
        self.end();
        self
    }

    fn plan(&self, text: Option<&str>, all: bool) -> (Option<Revision>, Plan) {
        let revision = text.map(|text| Revision::between(self.engine.workflow(), &spec(text)));
        let applied = revision
            .as_ref()
            .map(|revision| revision.applied_to(self.engine.workflow()).expect("it fits"));
        let workflow = applied.as_ref().unwrap_or(self.engine.workflow());
        let evidence = Checklist::of(&self.engine, workflow).evidence(&mut self.folder.clone());
        let wish = Wish { revision: revision.as_ref().zip(applied.as_ref()), all };
        let plan = decide(&self.engine, wish, &evidence);
        (revision, plan)
    }

    /// The plan as lines `name: reasons`.
    #[track_caller]
    fn expect(&self, text: Option<&str>, all: bool, expected: &[&str]) {
        let (revision, plan) = self.plan(text, all);
        let applied = revision.map(|new| new.applied_to(self.engine.workflow()).expect("it fits"));
        let workflow = applied.as_ref().unwrap_or(self.engine.workflow());
        let lines = plan.jobs.iter().map(|again| {
            let reasons: Vec<String> = again.reasons.iter().map(word).collect();
            format!("{}: {}", workflow.jobs[again.job.index()].name, reasons.join(", "))
        });
        assert_eq!(lines.collect::<Vec<_>>(), expected);
    }

    /// Does what a restart does, and checks that a replay leads to the same.
    fn restart(&mut self, text: Option<&str>, all: bool) {
        let (revision, plan) = self.plan(text, all);
        if let Some(revision) = revision {
            self.apply(Event::Redefined { at: self.now, revision: Box::new(revision) });
        }
        self.begin(plan.reset());
        let text = serde_json::to_string(&self.log).expect("events serialize");
        let events: Vec<Event> = serde_json::from_str(&text).expect("events read back");
        let placer = Box::new(WholeNodePlacer::of(&self.first.header));
        let again = Engine::replay(WorkflowId(1), self.first.clone(), placer, events)
            .expect("the log replays");
        assert_eq!(again.workflow(), self.engine.workflow());
        assert_eq!(again.counts(), self.engine.counts());
        assert_eq!(again.snapshot(), self.engine.snapshot());
        assert_eq!(again.attempts(), self.engine.attempts());
        let report = |engine: &Engine| engine.workflow_report(self.now, true, &[]);
        assert_eq!(report(&again), report(&self.engine));
    }

    fn statuses(&self) -> String {
        let jobs = self.engine.workflow().jobs.iter().enumerate();
        let word = |(index, job): (usize, &crate::workflow::Job)| {
            format!("{}={}", job.name, self.engine.status(JobId::from_index(index)))
        };
        jobs.map(word).collect::<Vec<_>>().join(" ")
    }
}

fn word(reason: &Reason) -> String {
    match reason {
        Reason::EnvChanged { names } => format!("env {}", names.join(" ")),
        Reason::RequirementsChanged { changes } => {
            let word = |change: &Changed| format!("{} {}>{}", change.field, change.from, change.to);
            changes.iter().map(word).collect::<Vec<_>>().join(" ")
        }
        Reason::DependenciesChanged { added, removed } => {
            format!("dependencies +{} -{}", added.join(" "), removed.join(" "))
        }
        Reason::UserDataChanged { name } => format!("data {name}"),
        Reason::InputChanged { file } => format!("input {file}"),
        Reason::InputAdded { file } => format!("added {file}"),
        Reason::InputGone { file } => format!("no input {file}"),
        Reason::OutputGone { file } => format!("no output {file}"),
        Reason::After { job } => format!("after {job}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

const CHAIN: &str = "
name: w
jobs:
  - {name: a, command: x}
  - {name: b, command: x, depends_on: [a]}
  - {name: c, command: x, depends_on: [b]}
  - {name: d, command: x}";

#[test]
fn what_failed_runs_again_with_all_that_depends_on_it_and_nothing_else() {
    let story = Story::ran(CHAIN, &["b"]);
    story.expect(None, false, &["b: failed", "c: canceled, after b"]);
    let (_, plan) = story.plan(None, false);
    assert_eq!((plan.kept, plan.reset()), (2, vec![(JobId(2), JobId(3))]));
    assert!(Story::ran(CHAIN, &[]).plan(None, false).1.is_empty());
    Story::ran(CHAIN, &["a"]).expect(
        None,
        true,
        &["a: failed", "b: canceled, after a", "c: canceled, after b", "d: all"],
    );
}

#[test]
fn the_same_spec_changes_nothing() {
    let story = Story::ran(CHAIN, &[]);
    let (revision, plan) = story.plan(Some(CHAIN), false);
    let revision = revision.expect("there is a spec");
    assert_eq!((revision.jobs.len(), revision.removed.len()), (0, 0));
    assert!(plan.is_empty(), "{plan:?}");
    assert!(revision.is_nothing_for(&story.engine));
    let less = CHAIN.replace("\n  - {name: d, command: x}", "");
    let less = Revision::between(story.engine.workflow(), &spec(&less));
    assert_eq!((less.jobs.len(), less.removed.len()), (0, 1));
    assert!(!less.is_nothing_for(&story.engine), "a job is gone, however it is defined");
}

#[test]
fn what_is_defined_otherwise_runs_again_with_all_that_depends_on_it() {
    #[track_caller]
    fn check(old: &str, new: &str, expected: &[&str]) {
        let full = |text: &str| {
            format!(
                "name: w\n{text}\nresource_requirements: [{{name: r, num_cpus: 2, memory: 2g}}]\n"
            )
        };
        Story::ran(&full(old), &[]).expect(Some(&full(new)), false, expected);
    }
    let jobs = |fields: &str| {
        format!("jobs: [{{name: a, {fields}}}, {{name: b, command: y, depends_on: [a]}}]")
    };
    let old = jobs("command: x");
    let again = |reason: &str| vec![format!("a: {reason}"), "b: after a".to_owned()];
    let case = |fields: &str, reason: &str| {
        let expected = again(reason);
        check(&old, &jobs(fields), &expected.iter().map(String::as_str).collect::<Vec<_>>());
    };
    case("command: z", "commandchanged");
    case("command: x, invocation_script: nice", "commandchanged");
    case("command: x, env: {V: '1'}", "env V");
    case(
        "command: x, resource_requirements: r",
        "num_cpus 1>2 memory its share>2g runtime unknown>01:00:00",
    );
    check(&old, &jobs("command: x, priority: 5"), &[]);
    check(&old, &jobs("command: x, labels: [big]"), &[]);
    check(&old, &format!("env: {{V: '1'}}\n{old}"), &["a: env V", "b: env V"]);
    check(
        &old,
        &format!("execution_config: {{launcher: {{argv: [nice, '{{command}}']}}}}\n{old}"),
        &["a: launcherchanged", "b: launcherchanged"],
    );
    let apart = "jobs: [{name: a, command: x}, {name: b, command: y}]";
    check(&old, apart, &["b: dependencies + -a"]);
    check(apart, &old, &["b: dependencies +a -"]);
}

#[test]
fn requirements_are_compared_by_what_they_are_not_by_their_names() {
    let with = |name: &str, memory: &str| {
        format!(
            "name: w\nresource_requirements: [{{name: {name}, memory: {memory}}}]\n\
             jobs: [{{name: a, command: x, resource_requirements: {name}}}]"
        )
    };
    let story = Story::ran(&with("r", "2g"), &[]);
    story.expect(Some(&with("other", "2048m")), false, &[]);
    story.expect(Some(&with("r", "4g")), false, &["a: memory 2g>4g"]);
}

#[test]
fn user_data_that_a_job_reads_counts_and_other_does_not() {
    let with = |value: u32| {
        format!(
            "name: w\nuser_data: [{{name: read, data: {value}}}, {{name: unread, data: {value}}}]\n\
             jobs: [{{name: a, command: x, input_user_data: [read]}}, {{name: b, command: x}}]"
        )
    };
    let story = Story::ran(&with(1), &[]);
    story.expect(Some(&with(1)), false, &[]);
    story.expect(Some(&with(2)), false, &["a: data read"]);
}

#[test]
fn a_value_that_was_set_after_a_job_had_begun_counts_if_it_is_another() {
    let text = "name: w\nuser_data: [{name: read, data: 1}]\n\
                jobs: [{name: a, command: x, input_user_data: [read]}, {name: b, command: x}]";
    let mut story = Story::ran(text, &[]);
    let set = |story: &mut Story, value: u32| {
        story.now = Timestamp(story.now.0 + 1);
        let set = story.engine.set_user_data("read", value.into(), None, story.now);
        story.log.push(set.expect("it can be set"));
    };
    set(&mut story, 1);
    story.expect(None, false, &[]);
    set(&mut story, 2);
    set(&mut story, 2);
    story.expect(None, false, &["a: data read"]);
    let reordered = "name: w\nuser_data: [{name: other}, {name: read, data: 1}]\n\
                     jobs: [{name: a, command: x, input_user_data: [read]}, {name: b, command: x}]";
    story.expect(Some(reordered), false, &["a: data read"]);
}

const FILES: &str = "
name: w
files: [{name: in, path: in.txt}, {name: mid, path: mid.txt}, {name: out, path: out.txt}]
jobs:
  - {name: make, command: x, input_files: [in], output_files: [mid]}
  - {name: use, command: x, input_files: [mid], output_files: [out]}
  - {name: apart, command: x}";

fn folder() -> Folder {
    let folder = Folder::default().with("in.txt", 500, "in");
    folder.with("mid.txt", 900, "mid").with("out.txt", 900, "out")
}

#[test]
fn files_that_are_as_they_were_are_no_reason_and_are_not_read() {
    let mut story = Story::of(FILES).ran_in(folder(), &[]);
    story.expect(None, false, &[]);
    let list = Checklist::of(&story.engine, story.engine.workflow());
    list.evidence(&mut story.folder);
    assert_eq!(story.folder.read, 0);
    story.folder = story.folder.with("in.txt", 9_999, "in");
    let mut touched = story.folder.clone();
    assert_eq!(list.evidence(&mut touched).of(JobId(1)), []);
    assert_eq!(touched.read, 1, "its time alone differs");
}

#[test]
fn other_content_of_an_input_and_a_missing_output_run_their_jobs_again() {
    let mut story = Story::of(FILES).ran_in(folder(), &[]);
    story.folder = folder().with("in.txt", 9_999, "IN");
    story.expect(None, false, &["make: input in.txt", "use: after make"]);
    story.folder = folder().with("mid.txt", 9_999, "longer");
    story.expect(None, false, &["use: input mid.txt"]);
    story.folder = folder();
    story.folder.files.remove("mid.txt");
    story.expect(None, false, &["make: no output mid.txt", "use: no input mid.txt"]);
    story.folder = folder();
    story.folder.files.remove("out.txt");
    story.expect(None, false, &["use: no output out.txt"]);
}

#[test]
fn a_file_too_large_to_be_read_counts_as_changed_when_its_time_differs() {
    let mut large = folder();
    large.files.get_mut("in.txt").expect("it is there").0.size = LARGEST_READ + 1;
    let mut story = Story::of(FILES).ran_in(large.clone(), &[]);
    story.expect(None, false, &[]);
    large.files.get_mut("in.txt").expect("it is there").0.modified_ns += 1;
    story.folder = large;
    story.expect(None, false, &["make: input in.txt", "use: after make"]);
}

#[test]
fn where_nobody_has_looked_a_file_that_is_newer_than_the_end_of_its_job_counts_as_changed() {
    let mut story = Story::of(FILES).ran_in(folder(), &[]);
    story.log.retain(|event| !matches!(event, Event::InputsSeen { .. }));
    let placer = Box::new(WholeNodePlacer::of(&story.first.header));
    let replayed =
        Engine::replay(WorkflowId(1), story.first.clone(), placer, story.log.iter().cloned());
    story.engine = replayed.expect("a log of before replays");
    story.expect(None, false, &[]);
    let make = story.engine.latest_attempt(JobId(1)).and_then(|one| one.end.as_ref());
    let ended = make.expect("it has ended").at.0;
    story.folder = folder().with("in.txt", ended + 1, "in");
    story.expect(None, false, &["make: input in.txt", "use: after make"]);
}

#[test]
fn an_input_that_a_job_did_not_have_is_a_reason() {
    let story = Story::of(FILES).ran_in(folder(), &[]);
    let more = FILES.replace("input_files: [mid]", "input_files: [mid, in]");
    story.expect(Some(&more), false, &["use: added in.txt"]);
}

const CHANGED: &str = "
name: w
resource_requirements: [{name: r, num_cpus: 2, memory: 1g}]
jobs:
  - {name: new, command: x, depends_on: [a]}
  - {name: d, command: x}
  - {name: a, command: x}
  - {name: b, command: other, resource_requirements: r, depends_on: [a]}";

#[test]
fn jobs_keep_their_numbers_when_others_come_and_go() {
    let mut story = Story::ran(CHAIN, &["b"]);
    let requirements = "num_cpus 1>2 memory its share>1g runtime unknown>01:00:00";
    let b = format!("b: failed, commandchanged, {requirements}");
    story.expect(Some(CHANGED), false, &[&b, "new: neverran"]);
    story.restart(Some(CHANGED), false);
    assert_eq!(story.statuses(), "a=completed b=ready c=disabled d=completed new=ready");
    assert_eq!(story.job("new"), JobId(5));
    assert_eq!(story.engine.request_of(JobId(2)).cpus, 2);
    story.run_on(&[]);
    story.end();
    assert_eq!(story.statuses(), "a=completed b=completed c=disabled d=completed new=completed");
    story.expect(Some(CHANGED), false, &[]);

    // What comes back begins anew.
    let back = CHANGED.replace("  - {name: a,", "  - {name: c, command: x}\n  - {name: a,");
    story.expect(Some(&back), false, &["c: neverran"]);
    story.restart(Some(&back), false);
    assert_eq!(story.statuses(), "a=completed b=completed c=ready d=completed new=completed");
}

#[test]
fn parts_of_a_family_that_do_not_follow_one_another_keep_its_name() {
    let with = |range: &str, more: &str| {
        format!(
            "name: w\njobs:\n  - {{name: 'n{{i}}', command: x, parameters: {{i: '{range}'}}}}\n{more}"
        )
    };
    let mut story = Story::ran(&with("1:2", "  - {name: last, command: x}"), &[]);
    story.restart(Some(&with("1:4", "  - {name: last, command: x}")), false);
    assert_eq!(story.statuses(), "n1=completed n2=completed last=completed n3=ready n4=ready");
    let header = &story.engine.workflow().header;
    let families = (1..=5).map(|job| header.family_of(JobId(job)).map(|family| &*family.name));
    let expected = [Some("n{i}"), Some("n{i}"), None, Some("n{i}"), Some("n{i}")];
    assert_eq!(families.collect::<Vec<_>>(), expected);
}

#[test]
fn what_is_left_out_stays_out_and_what_needs_it_is_left_as_it_is() {
    let mut story = Story::ran(CHAIN, &["b"]);
    let event = story.engine.disabling(story.now, &[JobId(2)]).expect("it can be");
    story.apply(event.expect("it was not"));
    story.expect(None, false, &[]);
    story.expect(None, true, &["a: all", "d: all"]);
    story.expect(Some(CHANGED), false, &["new: neverran"]);
    story.restart(Some(CHANGED), false);
    assert_eq!(story.statuses(), "a=completed b=disabled c=disabled d=completed new=ready");
}

#[test]
fn what_has_not_begun_and_needs_what_is_left_out_is_canceled_so_that_the_run_can_end() {
    let mut story = Story::of(CHAIN);
    let event = story.engine.disabling(story.now, &[JobId(2)]).expect("it can be");
    story.apply(event.expect("it was not"));
    assert_eq!(story.plan(None, false).1.barred, [JobId(3)]);
    story.expect(None, false, &["a: neverran", "d: neverran"]);
    story.restart(None, false);
    assert_eq!(story.statuses(), "a=ready b=disabled c=canceled d=ready");
}

#[test]
fn an_interrupted_run_goes_on_unless_what_has_completed_is_to_run_again() {
    let mut story = Story::of(FILES);
    story.folder = folder();
    story.begin(story.engine.unfinished_jobs());
    let dispatch = story.engine.dispatch(story.now, usize::MAX);
    story.log.extend(dispatch.started);
    let make = story.job("make");
    let (attempt, at) = (crate::ids::AttemptId(1), story.now);
    let outcome = Outcome::Exited { code: 0 };
    story.apply(Event::StepEnded { job: make, attempt, at, outcome, usage: Usage::default() });
    story.see(make);
    story.expect(None, false, &["use: unfinished", "apart: unfinished"]);
    assert!(story.plan(None, false).1.goes_on);
    assert!(!story.plan(None, true).1.goes_on);
    assert!(story.plan(Some(FILES), false).1.goes_on, "nothing is different");
    story.folder = folder().with("in.txt", 9_999, "IN");
    assert!(!story.plan(None, false).1.goes_on);
    story.expect(None, false, &["make: input in.txt", "use: unfinished", "apart: unfinished"]);
}

#[test]
fn a_workflow_is_not_defined_anew_during_a_run_nor_by_what_leads_nowhere() {
    let mut story = Story::of(CHAIN);
    let revision = Revision::between(story.engine.workflow(), &spec(CHANGED));
    let event = Event::Redefined { at: story.now, revision: Box::new(revision.clone()) };
    story.begin(story.engine.unfinished_jobs());
    story.engine.apply(&event).expect_err("it runs");
    story.run_on(&[]);
    story.end();
    let mut gap = revision.clone();
    gap.jobs.last_mut().expect("there is a new one").0 = JobId(9);
    let event = Event::Redefined { at: story.now, revision: Box::new(gap) };
    story.engine.apply(&event).expect_err("there is a gap");
    let mut dangling = revision;
    dangling.jobs[0].1.requirements = 7;
    let event = Event::Redefined { at: story.now, revision: Box::new(dangling) };
    story.engine.apply(&event).expect_err("there are no such requirements");
    assert_eq!(**story.engine.workflow(), *story.first);
}

/// A spec of some of eight jobs, each with one of two commands, which may depend on those before it.
fn specs() -> impl Strategy<Value = String> {
    let job = (any::<bool>(), any::<bool>(), any::<bool>(), any::<u8>());
    prop::collection::vec(job, 8).prop_map(|jobs| {
        let is_there = |index: usize| jobs[index].0 || index == 0;
        let mut text = "name: w\njobs:\n".to_owned();
        // The order of a spec says nothing about the numbers that its jobs have.
        for index in (0..8).rev().filter(|index| is_there(*index)) {
            let (_, other, minds, before) = jobs[index];
            let names = (0..index).filter(|at| is_there(*at) && before & (1 << at) != 0);
            let names: Vec<String> = names.map(|at| format!("j{at}")).collect();
            text += &format!(
                "  - {{name: j{index}, command: {}, cancel_on_blocking_job_failure: {minds}, \
                 depends_on: [{}]}}\n",
                if other { "x" } else { "y" },
                names.join(", "),
            );
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_specs_follow_one_another_jobs_keep_their_numbers_and_a_replay_is_the_same(
        first in specs(),
        rounds in prop::collection::vec((prop::option::of(specs()), any::<bool>(), any::<u8>()), 1..5),
    ) {
        let mut story = Story::ran(&first, &["j1", "j4"]);
        let mut numbers: BTreeMap<String, JobId> = BTreeMap::new();
        for (text, all, failing) in rounds {
            let (revision, plan) = story.plan(text.as_deref(), all);
            let old = story.engine.workflow().clone();
            let new = match &revision {
                Some(revision) => revision.applied_to(&old).expect("it fits"),
                None => (*old).clone(),
            };
            let is_removed = |job: JobId| match &revision {
                Some(revision) => revision.is_removed()(job),
                None => story.engine.is_removed(job),
            };
            let again: Vec<JobId> = plan.jobs.iter().map(|again| again.job).collect();
            for (job, number) in new.jobs.iter().zip(1..).map(|(job, number)| (job, JobId(number))) {
                let known = *numbers.entry(job.name.to_string()).or_insert(number);
                prop_assert_eq!(known, number);
                let follows = job.depends_on.iter().any(|before| again.contains(before));
                let is_again = again.contains(&number);
                let is_kept = number.index() < old.jobs.len()
                    && !is_removed(number)
                    && story.engine.status(number) == crate::engine::JobStatus::Completed;
                prop_assert!(!follows || is_again || plan.barred.contains(&number)
                    || !is_kept, "{} is left as it is", job.name);
            }
            prop_assert!(plan.jobs.iter().all(|again| !again.reasons.is_empty()));
            if plan.is_empty() {
                continue;
            }
            story.restart(text.as_deref(), all);
            let names: Vec<String> =
                (0..8).filter(|at| failing & (1 << at) != 0).map(|at| format!("j{at}")).collect();
            story.run_on(&names.iter().map(String::as_str).collect::<Vec<_>>());
            story.end();
            prop_assert_eq!(story.engine.counts().ended() as usize, new.jobs.len());
            if let Some(text) = text {
                let spec = spec(&text);
                let revision = Revision::between(story.engine.workflow(), &spec);
                prop_assert!(revision.is_nothing_for(&story.engine));
            }
        }
    }
}
