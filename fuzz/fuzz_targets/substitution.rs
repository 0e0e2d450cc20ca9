//! Any text as a command and a script, with files and user data to refer to.

#![no_main]

use serde_json::json;
use torc_core::spec::Format;
use torc_fuzz::{OneFile, check_with, fields};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some([command, script, name, path, data]) = fields(bytes) else { return };
    let spec = json!({
        "name": "w",
        "files": [{"name": "f", "path": "f.txt"}, {"name": name, "path": path}],
        "user_data": [{"name": "u", "data": data}, {"name": name}],
        "jobs": [{"name": "j", "command": command, "invocation_script": script}],
    });
    let Some(workflow) = check_with(spec.to_string().as_bytes(), Format::Json, OneFile(None)) else { return };
    let refers = ["${files.", "${user_data."].iter().any(|begin| command.contains(begin) || script.contains(begin));
    let job = &workflow.jobs[0];
    if !refers {
        assert!(job.data.is_none(), "no reference, no relation");
        assert!(job.command.ends_with(command), "what is the shell's stays as it is");
    }
});
