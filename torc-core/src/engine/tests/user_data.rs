//! User data: what is set reaches what is launched later, and is kept as long as it should be.

use serde_json::{Value, json};

use super::{Run, node, workflow};
use crate::engine::{DEEPEST_VALUE, Event, LARGEST_VALUE, LaunchContext, NotSet};
use crate::ids::JobId;
use crate::workflow::{JobData, UserData, Workflow};

fn item(name: &str, data: Option<Value>, is_ephemeral: bool) -> UserData {
    UserData { name: name.into(), data, is_ephemeral }
}

/// `a` writes `kept` and `passing`, on which `b` depends; nobody writes `free`.
fn made() -> Workflow {
    let mut made = workflow(&[("a", &[]), ("b", &["a"])]);
    let header = &mut made.header;
    header.user_data = vec![
        item("kept", Some(json!({"n": 1})), false),
        item("passing", None, true),
        item("free", None, true),
    ];
    made.jobs[0].data =
        Some(Box::new(JobData { output_user_data: [0, 1].into(), ..JobData::default() }));
    made.jobs[1].data =
        Some(Box::new(JobData { input_user_data: [0, 1, 2].into(), ..JobData::default() }));
    made.jobs[1].invocation_script = Some("with ${user_data.input.free}".into());
    made.jobs[1].command =
        "${user_data.input.kept} ${user_data.input.passing} ${user_data.output.kept} ${x}".into();
    made
}

impl Run {
    fn set(&mut self, name: &str, value: Value, by: Option<JobId>) {
        let event = self.engine.set_user_data(name, value, by, self.now).expect("it can be set");
        self.log.push(event);
    }

    /// What `bash -c` is given of a job that holds nodes.
    fn command_of(&self, name: &str) -> String {
        let dispatched = self.engine.dispatch_of(self.job(name)).expect("it holds nodes");
        let Event::Dispatched { job, attempt, placement, .. } = dispatched else { panic!() };
        let context = LaunchContext { output_dir: "/o".into(), submission_dir: "/s".into() };
        self.engine
            .step(job, attempt, &placement, &context)
            .expect("its nodes are there")
            .argv
            .remove(2)
    }

    fn values(&self) -> Vec<Value> {
        let values = |engine: &super::Engine| {
            engine.user_data_reports().into_iter().map(|one| one.value).collect::<Vec<_>>()
        };
        assert_eq!(values(&self.engine), values(&self.replayed()));
        values(&self.engine)
    }
}

#[test]
fn a_launch_has_the_values_of_its_moment() {
    let mut run = Run::begin(made(), vec![node("n", 1)]);
    run.dispatch();
    run.set("kept", json!([1, "x"]), Some(JobId(1)));
    run.set("passing", json!("${user_data.input.kept}"), Some(JobId(1)));
    run.exit("a", 0);
    run.dispatch();
    assert_eq!(
        run.command_of("b"),
        "with null [1,\"x\"] \"${user_data.input.kept}\" ${user_data.output.kept} ${x}"
    );
    let report = &run.engine.user_data_reports()[0];
    assert_eq!(
        (report.set_by.as_deref(), report.set_at),
        (Some("a"), Some(crate::time::Timestamp(1_000)))
    );
    assert_eq!(run.replayed().user_data_reports(), run.engine.user_data_reports());
}

#[test]
fn ephemeral_values_go_with_the_jobs_that_write_them() {
    let mut run = Run::begin(made(), vec![node("n", 1)]);
    run.dispatch();
    for name in ["kept", "passing", "free"] {
        run.set(name, json!(7), None);
    }
    run.exit("a", 1);
    run.apply(Event::RunEnded { at: run.now, complete: true });
    run.set("free", json!(8), None);
    assert_eq!(run.values(), [json!(7), json!(7), json!(8)]);
    run.start();
    assert_eq!(run.values(), [json!(7), Value::Null, Value::Null]);
    run.dispatch();
    run.set("passing", json!(9), None);
    run.exit("a", 0);
    run.dispatch();
    run.exit("b", 1);
    run.apply(Event::RunEnded { at: run.now, complete: true });
    run.start();
    // `a` has completed and is not run again: what it wrote is still needed.
    assert_eq!(run.values(), [json!(7), json!(9), Value::Null]);
    run.dispatch();
    run.exit("b", 1);
    let jobs = run.engine.jobs_to_put_back();
    run.apply(Event::JobsPutBack { at: run.now, jobs });
    assert_eq!(run.values(), [json!(7), json!(9), Value::Null]);
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let mut run = Run::begin(made(), vec![node("n", 1)]);
    let mut refused = |name: &str, value: Value, by| {
        let now = run.now;
        run.engine.set_user_data(name, value, by, now).expect_err("it cannot be set")
    };
    let unknown = refused("kep", json!(1), None);
    assert_eq!(
        unknown.to_string(),
        "the workflow has no user data named `kep`; did you mean `kept`?"
    );
    let large = Value::String("x".repeat(LARGEST_VALUE));
    assert!(matches!(refused("kept", large, None), NotSet::TooLarge { .. }));
    let deep = (0..=DEEPEST_VALUE).fold(Value::Null, |inner, _| json!([inner]));
    assert!(matches!(refused("kept", deep, None), NotSet::TooDeep { .. }));
    assert_eq!(refused("kept", json!(1), Some(JobId(3))), NotSet::UnknownJob(JobId(3)));
    let event = Event::UserDataSet { at: run.now, item: 3, value: json!(1), by: None };
    run.engine.apply(&event).expect_err("there is no such user data");
    assert_eq!(run.values(), [json!({"n": 1}), Value::Null, Value::Null]);
}

#[test]
fn that_a_value_was_set_says_nothing_about_the_time_of_a_run() {
    let mut run = Run::begin(made(), vec![node("n", 1)]);
    run.dispatch();
    let before = run.engine.last_event_at();
    run.later(3_600);
    run.set("kept", json!(2), None);
    assert_eq!(run.engine.last_event_at(), before);
}
