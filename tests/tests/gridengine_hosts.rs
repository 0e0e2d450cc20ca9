//! Allocations of several hosts on a real Grid Engine: jobs on one host and on several, and what goes wrong.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use torc_tests::{
    GridEngine, GridEngineSite as Site, check_ranks, compile_allreduce_with, nodes, outcome,
    processes, text,
};

/// An allocation of four hosts, with two slots on each.
const FOUR_HOSTS: &str = "nodes: 4, pe: torc2, slots_per_node: 2, walltime: '00:10:00'";

/// What jobs ask for; comes after them.
const KINDS: &str = "
resource_requirements:
- {name: one, num_cpus: 1, memory: 200m, runtime: PT5M}
- {name: whole, num_cpus: 2, memory: 1g, runtime: PT5M}
- {name: two, num_cpus: 2, num_nodes: 2, ntasks_per_node: 2, memory: 1g, runtime: PT5M}
- {name: four, num_cpus: 2, num_nodes: 4, ntasks_per_node: 1, memory: 1g, runtime: PT5M}";

/// Jobs of a whole host that wait until the file `go` is there.
const WHOLE: &str = "- {name: 'j{i}', command: 'until test -e go; do sleep 0.1; done', resource_requirements: whole, \
                     parameters: {i: '1:4'}}";

/// A job on two hosts whose ranks wait for the file `go`, each in a process that is called after it.
const RANKS: &str = "- {name: ranks, resource_requirements: two,
   command: 'mpiexec.hydra sh -c \"hostname >> begun; until test -e go; do sleep 0.1; done\" $PWD/rank'}";

/// The worker of a host of a site's only workflow.
fn worker_on(site: &Site<'_>, host: &str) -> Pid {
    let scratch = site.place.join("torc_output").join("scratch");
    let pattern = format!("torc node-worker .*--scratch {}/.*--host {host} ", scratch.display());
    let is_torc = |pid: &Pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim() == "torc"
    };
    // Its keeper is the same program.
    processes(&pattern).into_iter().filter(is_torc).min().expect("a worker is there")
}

/// What is left of the crew of a site, and of its jobs.
fn left(site: &Site<'_>) -> Vec<Pid> {
    let scratch = site.place.join("torc_output").join("scratch");
    let all = processes(".").into_iter();
    let is_of_crew = |pid: &Pid| {
        let about = |what: &str| fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
        let text = [about("cmdline"), about("environ")].concat();
        String::from_utf8_lossy(&text).contains(&*scratch.to_string_lossy())
    };
    all.filter(is_of_crew).collect()
}

#[track_caller]
fn until_nothing_is_left(site: &Site<'_>) {
    site.cluster.until("the end of all processes", || left(site).is_empty().then_some(()));
}

/// Waits until the four ranks of [`RANKS`] run; their hosts.
#[track_caller]
fn until_ranks_run(site: &Site<'_>) -> Vec<String> {
    site.cluster.until("all ranks", || {
        let begun = fs::read_to_string(site.place.join("begun")).unwrap_or_default();
        let hosts: Vec<String> = begun.lines().map(str::to_owned).collect();
        (hosts.len() == 4).then_some(hosts)
    })
}

/// The processes of [`RANKS`], and the one that started them.
fn ranks_of(site: &Site<'_>) -> Vec<Pid> {
    processes(&format!(
        "{}/rank$",
        site.place.path().canonicalize().expect("it is there").display()
    ))
}

#[track_caller]
fn until_lost(site: &Site<'_>, job: &str) {
    site.cluster.until("the end of a job", || {
        let attempts = site.place.attempts(job);
        attempts.iter().any(|attempt| outcome(attempt) == "lost").then_some(())
    });
}

#[test]
fn jobs_on_one_host_and_on_several_share_an_allocation() {
    let Some(cluster) = GridEngine::acquire() else { return };
    let mpi =
        "export OMPI_MCA_btl=tcp,self OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1";
    let jobs = format!(
        "- {{name: 's{{i:02d}}', command: 'hostname; sleep 0.3', resource_requirements: one, parameters: {{i: '1:16'}}}}
- {{name: hydra2, command: 'mpiexec.hydra ./allreduce', resource_requirements: two}}
- {{name: hydra4, command: 'mpiexec.hydra ./allreduce', resource_requirements: four}}
- {{name: open2, command: '{mpi}; mpirun.openmpi ./allreduce-open', resource_requirements: two}}
- {{name: open4, command: '{mpi}; mpirun.openmpi ./allreduce-open', resource_requirements: four}}
- {{name: told, command: 'echo $TORC_NODELIST $TORC_NUM_NODES $NHOSTS $NSLOTS; cut -d\" \" -f1,2 $PE_HOSTFILE; \
cat $TORC_HOSTFILE', resource_requirements: two}}{KINDS}"
    );
    let site = Site::new(&cluster, FOUR_HOSTS, &jobs);
    compile_allreduce_with(&site.place, "openmpi");
    fs::rename(site.place.join("allreduce"), site.place.join("allreduce-open"))
        .expect("it is there");
    compile_allreduce_with(&site.place, "mpich");
    site.start().wait().expect(0).says("21 completed");
    let mut hosts = BTreeSet::new();
    for attempt in site.place.results().iter().filter(|attempt| nodes(attempt).len() == 1) {
        let output = fs::read_to_string(text(attempt, "stdout")).expect("it has output");
        assert_eq!(output.trim(), nodes(attempt)[0], "a job runs where it was placed");
        hosts.insert(output.trim().to_owned());
    }
    assert_eq!(hosts.into_iter().collect::<Vec<_>>(), ["ge1", "ge2", "ge3", "ge4"]);
    for (job, ranks) in [("hydra2", 4), ("hydra4", 4), ("open2", 4), ("open4", 4)] {
        check_ranks(&site.place.attempts(job)[0], ranks);
    }
    let told = &site.place.attempts("told")[0];
    let [first, second] = nodes(told)[..] else { panic!("two hosts") };
    let expected = format!("{first},{second} 2 2 4\n{first} 2\n{second} 2\n{first}\n{second}\n");
    assert_eq!(fs::read_to_string(text(told, "stdout")).expect("it has output"), expected);
    assert_eq!(site.cause(), "completed");
    until_nothing_is_left(&site);
}

#[test]
fn a_job_on_several_hosts_has_them_to_itself_and_ends_with_its_ranks() {
    let Some(cluster) = GridEngine::acquire() else { return };
    let jobs = format!(
        "{RANKS}
- {{name: 'j{{i}}', command: 'until test -e go; do sleep 0.1; done', resource_requirements: whole, \
parameters: {{i: '1:3'}}, depends_on: [first]}}
- {{name: first, command: 'until test -s begun; do sleep 0.1; done', resource_requirements: one}}{KINDS}"
    );
    let site = Site::new(&cluster, FOUR_HOSTS, &jobs);
    let waiting = site.start();
    let begun = until_ranks_run(&site);
    // The gang, and two of three jobs of a whole host.
    site.until_running(3);
    let ranks = site.place.attempts("ranks")[0].clone();
    let own: BTreeSet<&str> = nodes(&ranks).into_iter().collect();
    assert_eq!(begun.iter().map(String::as_str).collect::<BTreeSet<_>>(), own);
    for job in ["j1", "j2", "j3"] {
        for attempt in site.place.attempts(job) {
            assert!(!own.contains(nodes(&attempt)[0]), "{attempt}");
        }
    }
    assert_eq!(ranks_of(&site).len(), 4 + 1);
    let starter = ranks_of(&site).into_iter().find(|pid| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.contains("mpiexec"))
    });
    kill(starter.expect("it is there"), Signal::SIGKILL).expect("it runs");
    site.cluster.until("the end of the gang", || {
        site.place.attempts("ranks").iter().any(|one| outcome(one) == "signaled").then_some(())
    });
    assert_eq!(ranks_of(&site), [], "its end is told when nothing of it is left on any host");
    site.place.write("go", "");
    waiting.wait().expect(1).says("4 completed").says("1 failed");
}

#[test]
fn a_worker_that_is_killed_costs_what_ran_on_its_host() {
    let Some(cluster) = GridEngine::acquire() else { return };
    let site = Site::new(&cluster, FOUR_HOSTS, &format!("{WHOLE}{KINDS}"));
    let waiting = site.start();
    site.until_running(4);
    let job = ["j1", "j2", "j3", "j4"].into_iter().find(|job| {
        // Not the first host of the allocation: losing that ends it.
        nodes(&site.place.attempts(job)[0])[0] != first_host(&site)
    });
    let job = job.expect("four hosts");
    let host = nodes(&site.place.attempts(job)[0])[0].to_owned();
    kill(worker_on(&site, &host), Signal::SIGKILL).expect("it is there");
    until_lost(&site, job);
    site.place.torc(&["nodes", "1"]).expect(0).says(&host).says("its worker");
    site.place.write("go", "");
    waiting.wait().expect(0).says("4 completed");
    let attempts = site.place.attempts(job);
    assert_eq!((attempts.len(), site.place.results().len()), (2, 5));
    assert_ne!(nodes(&attempts[1])[0], host, "the host is not used any more");
    until_nothing_is_left(&site);
}

/// The host that the worker of the allocation is on.
fn first_host(site: &Site<'_>) -> String {
    let handle = site.allocation()["handle"].as_str().expect("it has one").to_owned();
    let jobs = site.cluster.run("qstat", &["-u", "root"]).stdout;
    let line = jobs.lines().find(|line| line.trim().starts_with(&handle)).expect("it runs");
    let queue = line.split_whitespace().find(|word| word.contains('@')).expect("it has a queue");
    queue.split('@').nth(1).expect("and a host").to_owned()
}

#[test]
fn an_allocation_that_is_deleted_leaves_nothing_on_any_host() {
    let Some(cluster) = GridEngine::acquire() else { return };
    let jobs = format!(
        "{RANKS}
- {{name: 'j{{i}}', command: 'until test -e go; do sleep 0.1; done', resource_requirements: whole, \
parameters: {{i: '1:2'}}}}{KINDS}"
    );
    let site = Site::new(&cluster, FOUR_HOSTS, &jobs);
    let waiting = site.start();
    until_ranks_run(&site);
    site.until_running(3);
    cluster.run("qdel", &[text(&site.allocation(), "handle")]).expect(0);
    waiting.wait().expect(1).says("3 ready");
    until_nothing_is_left(&site);
    let outcomes = site.place.results();
    assert!(outcomes.iter().all(|attempt| outcome(attempt) == "lost"), "{outcomes:?}");
}

#[test]
fn exit_codes_are_those_of_the_jobs() {
    let Some(cluster) = GridEngine::acquire() else { return };
    let jobs = format!(
        "- {{name: fails, command: 'exit 7', resource_requirements: one}}
- {{name: killed, command: 'kill -9 $$', resource_requirements: one}}
- {{name: gang, command: 'mpiexec.hydra sh -c \"exit 3\"', resource_requirements: four}}
- {{name: stranger, command: '$HYDRA_LAUNCHER_EXEC ge9 hostname', resource_requirements: two}}{KINDS}"
    );
    let site = Site::new(&cluster, FOUR_HOSTS, &jobs);
    site.start().wait().expect(1).says("4 failed");
    let end = |job: &str| {
        let attempt = site.place.attempts(job).pop().expect("it ran");
        (outcome(&attempt).to_owned(), attempt["return_code"].as_i64())
    };
    assert_eq!(end("fails"), ("exited".to_owned(), Some(7)));
    assert_eq!(end("killed"), ("signaled".to_owned(), Some(137)));
    assert_eq!(end("gang"), ("exited".to_owned(), Some(3)));
    assert_eq!(end("stranger"), ("exited".to_owned(), Some(5)));
    let words = fs::read_to_string(text(&site.place.attempts("stranger")[0], "stderr"));
    assert!(words.expect("it has output").contains("ge9 is none of this job's nodes"));
}

#[test]
fn what_a_parallel_environment_cannot_give_is_refused_at_once() {
    let Some(cluster) = GridEngine::acquire() else { return };
    let refused = |fields: &str, words: &str| {
        let site = Site::new(&cluster, fields, &format!("{WHOLE}{KINDS}"));
        site.start().wait().expect(2).says(words);
    };
    refused(
        "nodes: 4, pe: fill, slots_per_node: 2, walltime: '00:10:00'",
        "`pe: fill` cannot give each of 4 hosts 2 slots: its allocation_rule is $fill_up, and has to be 2",
    );
    refused(
        "nodes: 2, pe: smp, slots_per_node: 2, walltime: '00:10:00'",
        "its allocation_rule is $pe_slots",
    );
    refused("pe: torc8, slots_per_node: 2, walltime: '00:10:00'", "has to be 2, or $pe_slots");
    refused(
        "pe: nosuch, slots_per_node: 2, walltime: '00:10:00'",
        "there is no parallel environment `nosuch`",
    );
}
