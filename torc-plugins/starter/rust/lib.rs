//! A launcher for torc: the ranks of a step are started by a program that takes their number and a file of hosts, as
//! mpiexec does. Replace what `plan` writes down by what your site needs.

use serde_json::Value;
use torc_plugin::messages::{LaunchPlan, Step};
use torc_plugin::{Failure, Host, Launcher, Settings, torc_plugin};

/// Starts steps by a program.
struct Starter {
    program: String,
}

impl Launcher for Starter {
    fn open(settings: Settings, _: Host) -> Result<Self, Failure> {
        match settings.get("program") {
            None => Ok(Self { program: "mpiexec".to_owned() }),
            Some(Value::String(program)) => Ok(Self { program: program.clone() }),
            Some(other) => Err(Failure::Invalid(format!("`program` is {other}, and has to be text"))),
        }
    }

    fn plan(&mut self, step: &Step, folder: &str) -> Result<LaunchPlan, Failure> {
        let each = step.layout.ntasks_per_node;
        let ranks = u64::from(each) * step.nodes.len() as u64;
        let hosts: String =
            step.nodes.iter().map(|node| format!("{}:{each}\n", node.name)).collect();
        let mut argv = vec![self.program.clone(), "-n".to_owned(), ranks.to_string()];
        // torc writes the files of a plan into this folder before it starts the program.
        argv.extend(["-f".to_owned(), format!("{folder}/hosts")]);
        argv.extend(step.argv.iter().cloned());
        Ok(LaunchPlan { argv, files: vec![("hosts".to_owned(), hosts)], ..LaunchPlan::default() })
    }
}

torc_plugin! {
    name: "@NAME@",
    version: "0.1.0",
    info: r#"{
        "description": "starts ranks by a program that takes -n and -f, as mpiexec does",
        "schema": {
            "type": "object",
            "properties": {"program": {"type": "string", "description": "the program; mpiexec unless it is said"}},
            "additionalProperties": false
        }
    }"#,
    interfaces: { launcher: Starter }
}
