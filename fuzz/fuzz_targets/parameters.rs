//! Any texts as values of parameters, and as what they are put into: names, commands, regexes, a table.

#![no_main]

use serde_json::json;
use torc_core::spec::Format;
use torc_fuzz::{OneFile, check_with, fields};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some([first, second, mode, name, command, regex, variable, table]) = fields(bytes) else { return };
    if [first, second].iter().any(|values| may_be_long(values)) {
        return;
    }
    let mut item = json!({
        "name": name, "command": command, "env": {"V": command}, "labels": [second],
        "parameters": {"second": second}, "use_parameters": ["first"],
    });
    match mode {
        "" => {}
        "table" => item["parameters_file"] = json!(format!("t.{mode}")),
        other if other.starts_with('.') => item["parameters_file"] = json!(format!("t{other}")),
        other => item["parameter_mode"] = json!(other),
    }
    let mut spec = json!({
        "name": "w", "parameters": {"first": first},
        "jobs": [item, {"name": "last", "command": "x", "depends_on_regexes": [regex]}],
    });
    if !variable.is_empty() {
        spec["variables"] = json!({"v": variable});
    }
    let spec = spec.to_string();
    let workflow = check_with(spec.as_bytes(), Format::Json, OneFile(Some(table)));
    let again = check_with(spec.as_bytes(), Format::Json, OneFile(Some(table)));
    assert_eq!(workflow, again, "the same text is the same workflow");
});

/// Whether values can be many more than their text is long: a range in small steps, or to a large number.
fn may_be_long(values: &str) -> bool {
    let lower = values.to_ascii_lowercase();
    values.contains(':') && (lower.contains('e') || lower.contains(".0"))
}
