//! Settings of plugins are looked at before anything of a plugin is opened, by the schema that it has for them.

use serde_json::{Value, json};
use torc_tests::{Ended, Place, PluginFolder, Started};

/// A launcher, placer and scheduler that leaves a mark when it is opened.
const PROGRAM: &str = r#"#!/usr/bin/env python3
import json, sys
for line in sys.stdin:
    said = json.loads(line)
    answer = {"op": said["op"], "status": "ok", "result": None}
    if said["method"] == "describe":
        answer["result"] = {"name": "site", "version": "1", "abi": [1, 0], "info": {"schema": SCHEMA},
            "interfaces": ["torc.launcher/1", "torc.placer/1", "torc.scheduler/1"]}
    elif said["method"] == "open":
        open("MARK", "a").write(json.dumps(said["request"]["config"]) + "\n")
    elif said["method"] == "plan":
        answer["result"] = {"argv": said["request"]["step"]["argv"]}
    else:
        answer["status"] = "invalid"
        answer["error"] = "no more"
    print(json.dumps(answer), flush=True)
"#;

struct Site {
    place: Place,
    folder: PluginFolder,
}

impl Site {
    fn with(spec: &str, schema: &Value) -> Self {
        let place = Place::with(spec);
        let folder = PluginFolder::of(&place);
        let mark = place.join("opened");
        let program = PROGRAM.replace("MARK", mark.to_str().expect("a path"));
        let schema = schema.to_string().replace("false", "False").replace("true", "True");
        folder.write_program("site", &program.replace("SCHEMA", &schema));
        Self { place, folder }
    }

    #[track_caller]
    fn refused(&self, args: &[&str], exit: i32) -> Ended {
        let ended = self.place.torc(args).expect(exit);
        assert!(!self.place.join("opened").exists(), "the plugin was not opened");
        ended
    }
}

fn schema() -> Value {
    json!({"type": "object", "additionalProperties": false, "properties": {
        "queue": {"type": "string", "description": "where it waits"},
        "hosts": {"type": "array", "items": {"type": "object", "additionalProperties": false,
            "required": ["name"], "properties": {"name": {"type": "string"}, "slots": {"type": "integer"}}}}}})
}

const YAML: &str = "name: w
execution_config: {mode: direct, launcher: site}
jobs: [{name: a, command: 'true'}]
plugins:
- name: site
  qeue: long
  hosts:
  - {name: n1, slots: 4}
  - {nam: n2, slots: many}
";

#[test]
fn each_fault_has_its_place_in_yaml() {
    let site = Site::with(YAML, &schema());
    for args in [["run", "w.yaml"], ["validate", "w.yaml"], ["submit", "w.yaml"]] {
        let ended = site.refused(&args, 2);
        for words in [
            "error[plugin::settings]: plugin `site`: there is no setting `qeue`",
            "w.yaml:6:3",
            "  qeue: long",
            "^^^^ unknown setting",
            "did you mean `queue`?",
            "plugin `site`: the setting `hosts[1].name` is needed",
            "w.yaml:9:5",
            "there is no setting `hosts[1].nam`",
            "w.yaml:9:6",
            "plugin `site`: `hosts[1].slots` must be a whole number",
            "w.yaml:9:22",
            "^^^^ this is a string",
            "4 errors in w.yaml",
        ] {
            ended.says(words);
        }
    }
    assert!(!site.place.join("torc_output").exists(), "nothing was stored");
    let good = YAML.replace("qeue", "queue").replace("nam:", "name:").replace("many", "2");
    site.place.write("w.yaml", good);
    site.place.torc(&["validate", "w.yaml"]).expect(0).says("w.yaml is valid");
    site.place.torc(&["run", "w.yaml"]).expect(0).says("1 completed");
    let given =
        r#"{"queue": "long", "hosts": [{"name": "n1", "slots": 4}, {"name": "n2", "slots": 2}]}"#;
    assert_eq!(site.place.read("opened").trim(), given);
}

#[test]
fn each_fault_has_its_place_in_json() {
    let site = Site::with("", &schema());
    let spec = "{\"name\": \"w\", \"jobs\": [{\"name\": \"a\", \"command\": \"true\"}],
 \"execution_config\": {\"placer\": \"site\"},
 \"plugins\": [{\"name\": \"site\", \"queue\": 7,
   \"hosts\": [{\"name\": \"n\", \"slots\": 1.5}]}]}";
    site.place.write("w.json", spec);
    let found = site.refused(&["run", "w.json", "--format", "json"], 2).json();
    let problems = found["problems"].as_array().expect("a list");
    let places = problems.iter().map(|one| (one["line"].clone(), one["column"].clone()));
    assert_eq!(places.collect::<Vec<_>>(), [(json!(3), json!(40)), (json!(4), json!(37))]);
    assert_eq!(problems[0]["code"], "plugin::settings");
    assert_eq!(problems[0]["message"], "plugin `site`: `queue` must be a string");
    assert_eq!(problems[0]["help"], "where it waits");
    assert_eq!(problems[1]["label"], "this is a number: 1.5");
}

#[test]
fn the_settings_of_a_source_of_allocations_are_those_of_its_entry() {
    let spec = "name: w
jobs: [{name: a, command: 'true', scheduler: s}]
schedulers:
- {name: s, type: site, walltime: '00:10:00', labels: [x], qeue: long}
actions:
- {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: s, scheduler_type: site}
";
    let site = Site::with(spec, &schema());
    let ended = site.refused(&["submit", "w.yaml"], 2);
    ended.says("plugin `site`: there is no setting `qeue`").says("w.yaml:4:60");
    assert!(!site.place.join("torc_output").exists(), "no server was started for that");
    // Under `torc run` this machine stands for it.
    let here = spec.replace(", labels: [x]", "");
    site.place.write("w.yaml", &here);
    site.place.torc(&["run", "w.yaml"]).expect(0);
    assert!(!site.place.join("opened").exists());

    // Where only the server finds the plugin, it refuses by the same schema.
    site.place.write("w.yaml", spec);
    let config = site.place.read("config.toml");
    let (trusted, _) = config.split_once("path = ").expect("it has one");
    site.place.write("config.toml", trusted);
    let mut command = site.place.command(&["serve", "--idle-exit", "0s"]);
    command.env("TORC_PLUGIN_PATH", site.folder.path());
    let mut server = Started::start(command);
    server.wait_until_it_says("serving");
    let ended = site.place.torc(&["submit", "w.yaml"]).expect(2);
    ended.says("the plugin `site` does not take these settings: there is no setting `qeue`");
    site.place.torc(&["serve", "--stop"]).expect(0);
    server.wait();
}

#[test]
fn a_plugin_that_needs_settings_and_has_none_is_shown_where_it_is_named() {
    let mut needs = schema();
    needs["required"] = json!(["queue"]);
    let spec = "name: w\nexecution_config: {launcher: site}\njobs: [{name: a, command: 'true'}]\n";
    let site = Site::with(spec, &needs);
    let ended = site.refused(&["run", "w.yaml"], 2);
    ended.says("the setting `queue` is needed").says("w.yaml:2:30").says("where it waits");
}

#[test]
fn a_schema_that_is_none_is_an_error_that_names_the_plugin() {
    let spec = "name: w\nexecution_config: {launcher: site}\njobs: [{name: a, command: 'true'}]\n";
    for (schema, words) in [
        (
            json!({"properties": {"n": {"type": "int"}}}),
            "`/properties/n/type` is \"int\", and not one of ",
        ),
        (
            json!({"properties": {"n": {"$ref": "https://example.org/s.json"}}}),
            "Retrieval is disabled",
        ),
        (json!({"$ref": "file:///etc/hostname"}), "Retrieval is disabled"),
    ] {
        let site = Site::with(spec, &schema);
        let ended = site.refused(&["run", "w.yaml"], 5);
        ended.says("error[plugin::schema]: plugin `site`: the schema of its settings is none: ");
        ended.says(words).says("tell its author").says("w.yaml:2:30");
        let checked = site.place.torc(&["plugin", "check", "site"]).expect(1);
        checked.says("settings schema");
        checked.says("the plugin `site` is not opened: the schema of its settings is none");
        assert!(!site.place.join("opened").exists(), "it was not opened for the check either");
    }
}

#[test]
fn validate_says_which_settings_it_could_not_look_at() {
    let site = Site::with(&YAML.replace("site", "nobody"), &schema());
    let ended = site.place.torc(&["validate", "w.yaml"]).expect(0);
    ended.says(
        "warning[plugin::settings-unknown]: the settings of the plugin `nobody` were not looked at",
    );
    ended.says("there is no plugin `nobody`").says("w.yaml is valid").says("w.yaml:5:9");
    site.place.write("w.yaml", YAML.replace("launcher: site", "mode: direct"));
    let _ = site.place.torc(&["validate", "w.yaml"]).expect(3);
    site.place.write("w.yaml", YAML.replace(", launcher: site", ""));
    let ended = site.place.torc(&["validate", "w.yaml"]).expect(0);
    ended.says("warning[spec::unused-plugin]: the settings of the plugin `site` are not used");
    ended.says("w.yaml:5:9").says("nothing in this spec names it");
}
