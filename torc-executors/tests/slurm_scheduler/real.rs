//! What a real Slurm does with what it is told, and what is made of what it says.

use std::fs;
use std::time::Duration;

use serde_json::json;
use torc_core::time::Timestamp;
use torc_core::traits::{
    AllocationEnd, AllocationState, NodeShape, Scheduler, SchedulerError, Shapes,
};
use torc_executors::clock;
use torc_executors::slurm::duration::TimeLimit;

use crate::cluster::Cluster;
use crate::site::{handle, wait, with};

fn ended(cause: AllocationEnd, reason: &str) -> AllocationState {
    AllocationState::Ended { cause, reason: reason.to_owned() }
}

#[test]
fn an_allocation_is_what_was_asked_for_from_submission_to_end() {
    let Some(cluster) = Cluster::acquire() else { return };
    let folder = cluster.folder.path().join("my work %j");
    fs::create_dir(&folder).unwrap();
    let script = "printf '%s\\n' \"$0\" \"$1\" \"$OWN\" \"$SLURM_SUBMIT_DIR\" \"$PWD\" \"$(umask)\" \
                  \"$SBATCH_PARTITION$SQUEUE_FORMAT$TZ\" \"$(env | grep -c ^SLURM_CONF=)\"; \
                  mkfifo go; read -r _ <go";
    let mut request = cluster.request(script);
    request.command.extend(["it's \"$0\"".to_owned(), "two\nlines".to_owned()]);
    request.name = "a \"name\" \\ with #all 'sorts' of $things".to_owned();
    request.working_dir = folder.to_str().unwrap().to_owned();
    request.output = folder.join("out %j.log").to_str().unwrap().to_owned();
    request.umask = Some(0o27);
    request.env.extend([
        ("OWN".into(), "the submitter's".into()),
        ("SLURM_JOB_ID".into(), "1".into()),
        ("SBATCH_PARTITION".into(), "nowhere".into()),
    ]);
    let comment = "--comment=\"it's \\\"mine\\\" \\\\ #1\" --hold";
    request.settings = json!({"account": "science", "partition": "main", "qos": "fast",
        "ntasks_per_node": 2, "extra": comment, "defaults": {"mail_type": "NONE", "nice": 5}});
    wait(async {
        let submitted = cluster.submit(&request).await;
        // By whom it is held depends on when the queue was last looked through.
        let is_held = |state: &AllocationState| {
            matches!(state, AllocationState::Pending { reason, expected_start: None }
                if reason.starts_with("JobHeld"))
        };
        submitted.until(is_held).await;
        check_facts(&cluster, &submitted.handle.0, &request.name, &submitted.key).await;
        assert_eq!(
            cluster.scheduler.find(&submitted.key).await.unwrap().as_ref(),
            Some(&submitted.handle)
        );
        assert_eq!(cluster.scheduler.find(&submitted.key[1..]).await.unwrap(), None);
        cluster.ask("scontrol", &["release", &submitted.handle.0]).await;
        submitted.until_running().await;
        check_end(&submitted.state().await);
        let go = folder.join("go");
        while !go.exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        fs::write(&go, "go\n").unwrap();
        assert_eq!(submitted.until_ended().await, ended(AllocationEnd::Completed, "COMPLETED"));
        assert_eq!(
            cluster.scheduler.find(&submitted.key).await.unwrap().as_ref(),
            Some(&submitted.handle)
        );
    });
    let folder = folder.to_str().unwrap();
    let expected =
        format!("it's \"$0\"\ntwo\nlines\nthe submitter's\n{folder}\n{folder}\n0027\n\n1\n");
    assert_eq!(fs::read_to_string(request.output).unwrap(), expected);
}

/// What Slurm itself says about the allocation.
async fn check_facts(cluster: &Cluster, id: &str, name: &str, key: &str) {
    let facts = cluster.ask("scontrol", &["show", "job", id]).await;
    for fact in [
        format!("JobName={name}\n"),
        format!("Comment=it's \"mine\" \\ #1 {key} \n"),
        "Account=science QOS=fast".to_owned(),
        "Nice=5".to_owned(),
        "Requeue=0".to_owned(),
        "TimeLimit=00:10:00".to_owned(),
        "Partition=main".to_owned(),
        "NumNodes=1-1".to_owned(),
        "NtasksPerN:B:S:C=2:0:*:*".to_owned(),
        "OverSubscribe=NO".to_owned(),
        "MinMemoryNode=0".to_owned(),
    ] {
        assert!(facts.contains(&fact), "{fact} is not in\n{facts}");
    }
}

/// Ten minutes from the start, which is a moment ago, in whatever zone the user lives.
fn check_end(state: &AllocationState) {
    let AllocationState::Running { ends_at: Some(end) } = state else { panic!("{state:?}") };
    let left = end.since(clock::now());
    assert!(left > Duration::from_secs(300) && left <= Duration::from_secs(600), "{left:?}");
}

#[test]
fn an_exclusive_allocation_has_all_of_its_node() {
    let Some(cluster) = Cluster::acquire() else { return };
    wait(async {
        let submitted = cluster.submit(&cluster.request("true")).await;
        submitted.until_ended().await;
        let facts = cluster.ask("scontrol", &["show", "job", "-d", &submitted.handle.0]).await;
        assert!(facts.contains("TRES=cpu=8,mem=32G,node=1,billing=8,gres/gpu=2"), "{facts}");
    });
}

#[test]
fn how_an_allocation_ended_is_told() {
    let Some(cluster) = Cluster::acquire() else { return };
    wait(async {
        let mut failing = cluster.request("exit 3");
        failing.name = "failing".to_owned();
        let mut stopped = cluster.request("sleep 300");
        stopped.name = "stopped".to_owned();
        let failing = cluster.submit(&failing).await;
        let stopped = cluster.submit(&stopped).await;
        stopped.until_running().await;
        cluster.scheduler.cancel(&stopped.handle).await.unwrap();
        let expected = [
            ended(AllocationEnd::Failed, "FAILED: NonZeroExitCode"),
            ended(AllocationEnd::Cancelled, "CANCELLED"),
            AllocationState::Unknown,
            AllocationState::Unknown,
        ];
        failing.until_ended().await;
        stopped.until_ended().await;
        let asked = [
            failing.handle.clone(),
            stopped.handle.clone(),
            handle("2000000000"),
            handle("4000000000"),
        ];
        assert_eq!(cluster.scheduler.observe(&asked).await.unwrap(), expected);
        assert_eq!(cluster.scheduler.observe(&asked[2..3]).await.unwrap(), expected[2..3]);
        cluster.scheduler.cancel(&stopped.handle).await.unwrap();
        cluster.scheduler.cancel(&handle("2000000000")).await.unwrap();
    });
}

#[test]
fn an_allocation_waits_for_another_to_end_however_it_does() {
    let Some(cluster) = Cluster::acquire() else { return };
    wait(async {
        let mut first = with(cluster.request("true"), json!({"account": "science", "extra": "-H"}));
        first.name = "first".to_owned();
        let first = cluster.submit(&first).await;
        let mut second = cluster.request("true");
        second.after = Some(first.handle.clone());
        // The user's own dependency, on what Slurm has long forgotten, is met.
        second.settings = json!({"account": "science", "extra": "-d afterany:4000000"});
        let second = cluster.submit(&second).await;
        let waits = |state: &AllocationState| matches!(state, AllocationState::Pending { reason, .. } if reason == "Dependency");
        second.until(waits).await;
        cluster.scheduler.cancel(&first.handle).await.unwrap();
        assert_eq!(second.until_ended().await, ended(AllocationEnd::Completed, "COMPLETED"));
    });
}

#[test]
fn what_slurm_does_not_accept_is_refused_in_its_words() {
    let Some(cluster) = Cluster::acquire() else { return };
    let check = |settings, words: &str| {
        let request = with(cluster.request("true"), settings);
        match wait(cluster.scheduler.submit(&request, "key")) {
            Err(SchedulerError::Refused(said)) => assert!(said.contains(words), "{said}"),
            other => panic!("{other:?}"),
        }
    };
    check(json!({"account": "nope"}), "Invalid account");
    check(json!({"account": "science", "partition": "nope"}), "invalid partition specified: nope");
    check(json!({"account": "science", "qos": "nope"}), "Invalid qos");
    check(
        json!({"account": "science", "mem": "900G"}),
        "Memory specification can not be satisfied",
    );
    check(json!({"account": "science", "mem": "1.5G"}), "Invalid --mem specification");
    check(
        json!({"account": "science", "gres": "gpu:9"}),
        "Requested node configuration is not available",
    );
    check(json!({"account": "science", "extra": "--bogus"}), "unrecognized option '--bogus'");
    check(json!({"account": "science", "extra": "-C nope"}), "Invalid feature specification");
    check(json!({"account": "science", "extra": "--mem-per-cpu=1 --mem=1"}), "mutually exclusive");
    let mut request = cluster.request("true");
    request.working_dir = "/nowhere/at/all".to_owned();
    let found = wait(cluster.scheduler.submit(&request, "key"));
    assert!(
        matches!(found, Err(SchedulerError::Refused(words)) if words.contains("/nowhere/at/all"))
    );
}

#[test]
fn the_cluster_is_described() {
    let Some(cluster) = Cluster::acquire() else { return };
    wait(async {
        let partitions = cluster.scheduler.partitions().await.unwrap();
        let names: Vec<(&str, bool)> =
            partitions.iter().map(|one| (one.name.as_str(), one.is_default)).collect();
        assert_eq!(names, [("main", true), ("threads", false)]);
        let main = &partitions[0];
        assert_eq!((main.nodes(), main.max_nodes, main.takes_requests()), (4, None, true));
        assert_eq!(main.time_limit, TimeLimit::For(Duration::from_secs(86_400)));
        assert_eq!(main.default_time, TimeLimit::For(Duration::from_secs(1800)));
        assert!(main.usable_nodes() <= 4);
        let shape = |cpus, threads_per_core, gpus, count| NodeShape {
            cpus,
            threads_per_core,
            memory: 32 << 30,
            gpus,
            count,
        };
        let shapes = async |settings| {
            cluster.scheduler.shapes(&with(cluster.request(""), settings)).await.unwrap()
        };
        let (main, threads) = (shape(8, 1, 2, 4), shape(16, 2, 0, 2));
        let known = |shape: &NodeShape| Shapes::Known(vec![shape.clone()]);
        assert_eq!(shapes(json!({})).await, known(&main));
        assert_eq!(shapes(json!({"partition": "threads"})).await, known(&threads));
        assert_eq!(shapes(json!({"extra": "-p threads"})).await, known(&threads));
        assert_eq!(shapes(json!({"partition": "nope"})).await, Shapes::Unknown);
        let both = Shapes::Known(vec![main, threads]);
        assert_eq!(shapes(json!({"partition": "threads,main"})).await, both);
        let dialect = cluster.scheduler.dialect().await.unwrap();
        let said = cluster.ask("sbatch", &["--version"]).await;
        assert!(said.contains(&dialect.version().to_string()), "{said}");
    });
}

#[test]
fn those_that_wait_before_it_are_counted() {
    let Some(cluster) = Cluster::acquire() else { return };
    wait(async {
        // More nodes than there are: these wait for ever.
        let mut request = cluster.request("true");
        request.nodes = 9;
        request.name = "one".to_owned();
        let first = cluster.submit(&request).await;
        request.name = "two".to_owned();
        let second = cluster.submit(&request).await;
        let waits = |state: &AllocationState| matches!(state, AllocationState::Pending { reason, .. } if reason == "PartitionNodeLimit");
        second.until(waits).await;
        let of_first = cluster.scheduler.ahead_of(&first.handle).await.unwrap().unwrap();
        let of_second = cluster.scheduler.ahead_of(&second.handle).await.unwrap().unwrap();
        assert_eq!((of_second.ahead, of_second.others), (of_first.ahead + 1, of_first.others));
        assert_eq!(
            (of_second.partition.as_str(), of_second.reason.as_str()),
            ("main", "PartitionNodeLimit")
        );
        assert!(of_second.priority <= of_first.priority && of_second.priority > 0);
        assert_eq!(cluster.scheduler.ahead_of(&handle("2000000000")).await.unwrap(), None);
    });
}

#[test]
fn what_the_queue_has_forgotten_the_accounting_knows() {
    let Some(cluster) = Cluster::acquire() else { return };
    wait(async {
        let submitted = cluster.submit(&cluster.request("exit 3")).await;
        submitted.until_ended().await;
        // A queue that has forgotten; how soon a real one does is its administrator's choice.
        let forgetful = cluster.with_faults(&[("squeue", "")]);
        let asked = std::slice::from_ref(&submitted.handle);
        // It takes a moment until the accounting has heard.
        let mut state = AllocationState::Unknown;
        while state == AllocationState::Unknown {
            state = forgetful.observe(asked).await.unwrap().remove(0);
        }
        assert!(
            matches!(state, AllocationState::Ended { cause: AllocationEnd::Failed, .. }),
            "{state:?}"
        );
        let mut found = None;
        while found.is_none() {
            found = forgetful.find(&submitted.key).await.unwrap();
        }
        assert_eq!(found.as_ref(), Some(&submitted.handle));
        assert_eq!(forgetful.find("another-key").await.unwrap(), None);
    });
}

#[test]
fn times_are_points_in_time_wherever_the_user_lives() {
    let Some(cluster) = Cluster::acquire() else { return };
    wait(async {
        let extra = json!({"account": "science", "extra": "--begin=now+1hour"});
        let submitted = cluster.submit(&with(cluster.request("true"), extra)).await;
        let begins = |state: &AllocationState| matches!(state, AllocationState::Pending { reason, .. } if reason == "BeginTime");
        let state = submitted.until(begins).await;
        let AllocationState::Pending { expected_start: Some(Timestamp(start)), .. } = state else {
            panic!("{state:?}");
        };
        let wait = Timestamp(start).since(clock::now());
        assert!(wait > Duration::from_secs(3000) && wait <= Duration::from_secs(3600), "{wait:?}");
    });
}
