//! Allocations of several hosts from a plugin of any batch system: what it has to tell, and what comes of it. This
//! machine pretends to be all of them.

use serde_json::Value;
use torc_tests::{Ended, Place, PluginFolder, RUN_PATIENCE, Started, nodes, processes, text};

/// Gives an allocation at once, whose command is told what the spec says.
const PRETEND: &str = r#"#!/usr/bin/env python3
import json, subprocess, sys

running = {}

def state(name):
    code = running[name].poll() if name in running else None
    if name not in running:
        return {"state": "unknown"}
    if code is None:
        return {"state": "running", "ends_at": None}
    return {"state": "ended", "cause": "failed" if code else "completed", "reason": f"code {code}"}

def submit(request):
    name = str(len(running) + 1)
    env = {**dict(request["env"]), "TORC_ALLOCATION_HANDLE": name, **request["settings"]["told"]}
    output = open(request["output"], "ab")
    running[name] = subprocess.Popen(request["command"], cwd=request["working_dir"], env=env,
                                     stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    return name

def cancel(name):
    if name in running:
        running[name].kill()

for line in sys.stdin:
    said = json.loads(line)
    request = said["request"]
    result = {
        "describe": lambda: {"name": "pretend", "version": "1", "abi": [1, 0],
                             "interfaces": ["torc.scheduler/1"], "info": {}},
        "open": lambda: None,
        "shapes": lambda: "unknown",
        "find": lambda: None,
        "submit": lambda: submit(request["request"]),
        "observe": lambda: [state(name) for name in request["allocations"]],
        "cancel": lambda: cancel(request["allocation"]),
    }[said["method"]]()
    print(json.dumps({"op": said["op"], "status": "ok", "result": result}), flush=True)
"#;

/// A folder with a workflow of these jobs in an allocation of three hosts, whose worker is told this.
struct Site {
    place: Place,
    _plugins: PluginFolder,
}

impl Site {
    fn new(told: &str, jobs: &str) -> Self {
        let place = Place::with(&format!(
            "name: w
schedulers: [{{name: p, type: pretend, nodes: 3, walltime: '00:05:00', told: {{{told}}}}}]
actions:
- {{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: p, scheduler_type: pretend}}
compute_node_wait_for_new_jobs_seconds: 1
resource_requirements:
- {{name: one, num_cpus: 1, memory: 100m, runtime: PT1M}}
- {{name: three, num_cpus: 1, num_nodes: 3, memory: 100m, runtime: PT1M}}
jobs:
{jobs}"
        ));
        let polls = [("TORC_SLURM_SHORTEST_POLL", "1s"), ("TORC_SLURM_LONGEST_POLL", "2s")];
        place.set_env(polls.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let plugins = PluginFolder::of(&place);
        plugins.write_program("pretend", PRETEND);
        Self { place, _plugins: plugins }
    }

    fn submit(&self) -> Ended {
        Started::start_for(self.place.command(&["submit", "w.yaml", "--wait"]), RUN_PATIENCE).wait()
    }

    fn output(&self, attempt: &Value) -> String {
        std::fs::read_to_string(text(attempt, "stdout")).expect("it has output")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.place.command(&["serve", "--stop"]).output();
    }
}

const HOSTS: &str = "TORC_ALLOCATION_HOSTS: 'a:1,b:1,c:1'";
const START: &str = r#"TORC_ALLOCATION_START: '["env", "PRETENDED={host}", "{command}"]'"#;

#[test]
fn jobs_run_on_all_hosts_of_an_allocation_and_what_they_start_there_ends_with_them() {
    let site = Site::new(
        &format!("{HOSTS}, {START}"),
        r#"- {name: 's{i}', command: 'echo $TORC_NODELIST $PRETENDED; sleep 0.5', resource_requirements: one,
   parameters: {i: '1:3'}}
- name: gang
  resource_requirements: three
  env: {SAID: 'it''s "so"'}
  command: |
    for host in a b c; do
        $HYDRA_LAUNCHER_EXEC $host 'echo "on ${PRETENDED-the first}: $SAID in $PWD"; exit 3' || echo failed
    done
    $HYDRA_LAUNCHER_EXEC -n b "touch begun; exec sleep 600 < $PWD/w.yaml" &
    until test -e begun; do sleep 0.1; done
    $HYDRA_LAUNCHER_EXEC d true || exit 4"#,
    );
    site.submit().expect(1).says("3 completed").says("1 failed");
    let mut hosts = Vec::new();
    for attempt in site.place.results().iter().filter(|attempt| nodes(attempt).len() == 1) {
        let host = nodes(attempt)[0].to_owned();
        // The worker on the first is not started by the plugin's words.
        let pretended = if host == "a" { String::new() } else { format!(" {host}") };
        assert_eq!(site.output(attempt), format!("{host}{pretended}\n"));
        hosts.push(host);
    }
    hosts.sort_unstable();
    assert_eq!(hosts, ["a", "b", "c"]);
    let gang = &site.place.attempts("gang")[0];
    let folder = site.place.path().canonicalize().expect("it is there");
    let said = |on: &str| format!("on {on}: it's \"so\" in {}\nfailed\n", folder.display());
    assert_eq!(site.output(gang), ["the first", "b", "c"].map(said).concat());
    assert_eq!(gang["return_code"], 4, "d is none of its hosts");
    let sleeping = processes("^sleep 600").into_iter().filter(|pid| {
        std::fs::read_link(format!("/proc/{pid}/fd/0"))
            .is_ok_and(|input| input.starts_with(&folder))
    });
    assert_eq!(sleeping.count(), 0);
}

#[test]
fn what_a_plugin_has_not_told_is_named_in_the_log_of_the_allocation() {
    let check = |told: &str, words: &str| {
        let site = Site::new(told, "- {name: a, command: 'true', resource_requirements: one}");
        site.submit().expect(1);
        let log = site.place.read("torc_output/job_stdio/allocation_wf1_al1.log");
        assert!(log.contains(words), "{log}");
    };
    check(HOSTS, "the allocation has 3 hosts, and TORC_ALLOCATION_START is not set");
    check(
        &format!("{HOSTS}, TORC_ALLOCATION_START: '[\"rsh\", \"{{command}}\"]'"),
        "TORC_ALLOCATION_START is `[\"rsh\", \"{command}\"]`: it has no `{host}`",
    );
    check(START, "the allocation is to have 3 hosts, and this worker knows 1");
    check(
        &format!("{START}, TORC_ALLOCATION_HOSTS: 'a,b c,d'"),
        "TORC_ALLOCATION_HOSTS is `a,b c,d`, which the plugin of the scheduler must set right: `b c` is to be",
    );
}
