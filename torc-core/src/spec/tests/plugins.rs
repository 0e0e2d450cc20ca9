//! What a spec gives to plugins, with its places.

use super::load_bytes;
use crate::diagnostics::Span;
use crate::spec::Format;
use crate::spec::PathStep::{Field, Item};

/// The text at the place of a value of the settings, and at that of the field's name.
#[track_caller]
fn check_places(text: &str, format: Format) {
    let loaded = load_bytes(text.as_bytes(), Some(format)).expect("it is a spec");
    let field = |name: &str| Field(name.to_owned());
    let at = |span: Span| text[span.start..span.end].trim_matches('"').to_owned();
    let [executor, launcher, placer, scheduler] = loaded.plugin_uses.as_slice() else {
        panic!("{:?}", loaded.plugin_uses)
    };
    assert_eq!(at(executor.place(&[])), "enclosed");
    let way = [field("hosts"), Item(1), field("name")];
    assert_eq!(at(launcher.place(&way)), "n2");
    assert_eq!(at(launcher.place_of_field(&way[..2], "name")), "name");
    assert_eq!(at(launcher.place(&[])), "flux", "what is nowhere is where its plugin is named");
    assert!(
        at(launcher.place(&[field("hosts"), Item(7)])).contains("n2"),
        "or what it is to be in"
    );
    assert_eq!(launcher.settings["hosts"][1]["name"], "n2");
    assert_eq!(at(placer.place(&[field("x")])), "site", "it has no settings");
    assert_eq!(at(scheduler.place(&[field("pe")])), "smp");
    assert_eq!(at(scheduler.place(&[])), "ge");
    let names: Vec<&String> = scheduler.settings.keys().collect();
    assert_eq!(names, ["pe"], "torc's own are not the plugin's");
}

#[test]
fn what_plugins_are_given_is_known_with_its_place() {
    let yaml = "name: w
jobs: [{name: a, command: x}]
execution_config: {mode: enclosed, launcher: flux, placer: site}
schedulers:
- {name: s, type: ge, nodes: 1, walltime: '01:00:00', labels: [a], pe: smp, queue: null}
plugins:
- name: flux
  hosts:
  - {name: n1}
  - name: \"n2\"
";
    check_places(yaml, Format::Yaml);
    let json = r#"{"name": "w", "jobs": [{"name": "a", "command": "x"}],
        "execution_config": {"mode": "enclosed", "launcher": "flux", "placer": "site"},
        "schedulers": [{"name": "s", "type": "ge", "pe": "smp", "serialize_allocations": true}],
        "plugins": [{"name": "flux", "hosts": [{"name": "n1"}, {"name": "n2"}]}]}"#;
    check_places(json, Format::Json);
}
