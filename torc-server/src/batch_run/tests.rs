//! Batch jobs that come one after the other, with a scheduler of which the test says where they stand.

use std::sync::Mutex;

use async_trait::async_trait;
use torc_core::spec::{Context, Sources, load};
use torc_core::time::Timestamp;
use torc_core::traits::{AllocationEnd, Shapes};

use super::*;

/// Knows one request, by its key.
#[derive(Default)]
struct Queue {
    asked: Mutex<Option<(String, AllocationRequest)>>,
    state: Mutex<Option<AllocationState>>,
}

impl Queue {
    fn say(&self, state: AllocationState) {
        *self.state.lock().expect("nobody panicked") = Some(state);
    }

    /// The command of the last request.
    fn command(&self) -> Vec<String> {
        let asked = self.asked.lock().expect("nobody panicked");
        asked.as_ref().expect("it was asked").1.command.clone()
    }
}

#[async_trait]
impl Scheduler for Queue {
    async fn shapes(&self, _: &AllocationRequest) -> Result<Shapes, SchedulerError> {
        Ok(Shapes::Unknown)
    }

    async fn submit(
        &self,
        request: &AllocationRequest,
        key: &str,
    ) -> Result<AllocationHandle, SchedulerError> {
        let asked = Some((key.to_owned(), request.clone()));
        *self.asked.lock().expect("nobody panicked") = asked;
        Err(SchedulerError::Unavailable("no answer".to_owned()))
    }

    async fn find(&self, key: &str) -> Result<Option<AllocationHandle>, SchedulerError> {
        let asked = self.asked.lock().expect("nobody panicked");
        let is_known = asked.as_ref().is_some_and(|(known, _)| known == key);
        Ok(is_known.then(|| AllocationHandle("41".to_owned())))
    }

    async fn observe(
        &self,
        allocations: &[AllocationHandle],
    ) -> Result<Vec<AllocationState>, SchedulerError> {
        let state = self.state.lock().expect("nobody panicked").clone();
        Ok(vec![state.unwrap_or(AllocationState::Unknown); allocations.len()])
    }

    async fn cancel(&self, _: &AllocationHandle) -> Result<(), SchedulerError> {
        Ok(())
    }
}

struct NoSources;

impl Sources for NoSources {
    fn read(&self, _: &str) -> Result<Vec<u8>, String> {
        Err("there are none".to_owned())
    }
}

fn workflow() -> Workflow {
    let spec = "name: w
execution_config: {mode: direct}
resource_requirements: [{name: huge, num_cpus: 1000, memory: 1g, runtime: PT1M}]
slurm_schedulers: [{name: other, account: a}, {name: cpu, account: a, mem: 2g}]
actions:
- {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: other}
- {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: cpu, max_parallel_jobs: 4}
jobs: [{name: j, command: 'true', resource_requirements: huge, scheduler: other}]";
    let context = Context { user: None, sources: &NoSources };
    load(spec.as_bytes(), None, &context).expect("it is valid").workflow
}

/// Submits a run for a state directory.
async fn submit(
    dir: &StateDir,
    queue: &Queue,
    beginning: Beginning,
) -> Result<AllocationHandle, BatchRunError> {
    let (workflow, submitter) = (workflow(), Submitter { env: Vec::new(), umask: 0o022 });
    let run = BatchRun {
        workflow: &workflow,
        scheduler: &workflow.header.schedulers[1],
        spec: "/here/w.yaml",
        beginning,
        program: "/bin/torc",
        options: &["--plugin-path=/site".to_owned()],
        output_dir: "/here/out",
        submission_dir: "/here",
        submitter: &submitter,
        mark: "7",
    };
    run.submit(dir, queue).await
}

#[tokio::test]
async fn the_command_says_what_the_run_begins_with_and_which_scheduler_it_stands_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = StateDir::at(folder.path()).expect("a path");
    let queue = Queue::default();
    let handle = submit(&dir, &queue, Beginning::Anew).await.expect("it is found by its key");
    assert_eq!(handle.0, "41");
    let rest = "--output-dir /here/out --scheduler=cpu --plugin-path=/site";
    assert_eq!(queue.command().join(" "), format!("/bin/torc run /here/w.yaml {rest}"));
    submit(&dir, &queue, Beginning::GoOn(WorkflowId(3))).await.expect("as before");
    assert_eq!(queue.command().join(" "), format!("/bin/torc restart 3 {rest}"));
}

#[tokio::test]
async fn a_second_one_is_refused_while_the_first_waits_or_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = StateDir::at(folder.path()).expect("a path");
    let queue = Queue::default();
    queue.say(AllocationState::Configuring);
    refuse_second(&dir, &queue).await.expect("there was no first");
    submit(&dir, &queue, Beginning::Anew).await.expect("it is found by its key");
    let (reason, expected_start) = ("Priority".to_owned(), None);
    for (state, words) in [
        (
            AllocationState::Pending { reason, expected_start },
            "waits in the queue (Priority); it has",
        ),
        (AllocationState::Configuring, "is running; it has"),
        (AllocationState::Running { ends_at: Some(Timestamp(1)) }, "is running; it has"),
        (AllocationState::Suspended, "is suspended; it has"),
        (AllocationState::Headless, "is running; it has"),
        (AllocationState::Unclear { words: "NEW".to_owned() }, "is NEW; it has"),
    ] {
        queue.say(state);
        let refused = refuse_second(&dir, &queue).await.expect_err("it is there").to_string();
        assert!(refused.contains("Slurm job 41,") && refused.contains(words), "{refused}");
    }
    let cause = AllocationEnd::TimedOut;
    for state in [
        AllocationState::Completing,
        AllocationState::Ended { cause, reason: "TIMEOUT".to_owned() },
        AllocationState::Unknown,
    ] {
        queue.say(state);
        refuse_second(&dir, &queue).await.expect("it is over");
    }
    queue.say(AllocationState::Suspended);
    std::fs::write(dir.batch_run(), "torc-run-8").expect("it is written");
    refuse_second(&dir, &queue).await.expect("the scheduler does not know it");
    let other = StateDir::at(&folder.path().join("other")).expect("a path");
    refuse_second(&other, &queue).await.expect("that is another one's");
}
