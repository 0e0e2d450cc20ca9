//! `torc exec`: commands without a spec. One is written here, and run as any other.

use serde_json::{Map, Value as Json, json};
use torc_server::state_dir::StateDir;

use super::run::{self, How};
use crate::args::{ExecArgs, Format, ResourceArgs};
use crate::exit::{Exit, Failure};
use crate::spec_file;

/// The name of what each job takes, and of when it is tried again.
const EACH: &str = "each";

pub(crate) async fn execute(
    args: &ExecArgs,
    dir: StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    let spec = spec_file::written("the spec of torc exec", spec(args)?);
    let resources = with_jobs_at_once(args);
    let how = How { resources: &resources, plugins: &args.plugins, resume: args.resume };
    run::run(spec, how, dir, format).await
}

/// Where nothing says how large jobs are, there are so many places for them.
fn with_jobs_at_once(args: &ExecArgs) -> ResourceArgs {
    let mut resources = args.resources.clone();
    if let Some(jobs) = args.jobs {
        if args.size.is_given() {
            resources.max_parallel_jobs = Some(jobs.get());
        } else {
            resources.slots = Some(jobs);
        }
    }
    resources
}

/// The text of the spec, in JSON.
fn spec(args: &ExecArgs) -> Result<String, Failure> {
    let mut jobs = jobs(args)?;
    let mut spec = json!({"name": args.name});
    let needs = requirements(args);
    if !needs.is_empty() {
        let mut needs = Json::Object(needs);
        needs["name"] = EACH.into();
        spec["resource_requirements"] = json!([needs]);
        jobs.iter_mut().for_each(|job| job["resource_requirements"] = EACH.into());
    }
    if args.size.timeout.is_some() {
        spec["execution_config"] = json!({"enforce_runtime": true});
    }
    if let Some(retries) = args.retries {
        let rule = json!({"match_all_exit_codes": true, "max_retries": retries});
        spec["failure_handlers"] = json!([{"name": EACH, "rules": [rule]}]);
        jobs.iter_mut().for_each(|job| job["failure_handler"] = EACH.into());
    }
    spec["jobs"] = jobs.into();
    // It is text, numbers and flags.
    Ok(format!("{spec:#}\n"))
}

fn requirements(args: &ExecArgs) -> Map<String, Json> {
    let size = &args.size;
    let fields = [
        ("num_cpus", size.cpus.map(Json::from)),
        ("memory", size.memory.clone().map(Json::from)),
        ("num_gpus", size.gpus.map(Json::from)),
        ("runtime", size.timeout.map(|time| format!("PT{}S", time.as_secs().max(1)).into())),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn jobs(args: &ExecArgs) -> Result<Vec<Json>, Failure> {
    match (&args.commands, &args.command[..]) {
        (Some(file), _) => {
            let (bytes, source) = spec_file::bytes(file)?;
            let text = std::str::from_utf8(&bytes).map_err(|error| {
                let line =
                    bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
                Failure::new(
                    Exit::SpecInvalid,
                    format!("{}:{line}: this is not UTF-8 text", source.name),
                )
            })?;
            let jobs: Vec<Json> = commands(text).collect();
            if jobs.is_empty() {
                let message = format!("there are no commands in {}", source.name);
                return Err(Failure::new(Exit::SpecInvalid, message));
            }
            Ok(jobs)
        }
        (None, []) => {
            let message = "there is nothing to run: give -C FILE, or a command after `--`, as in \
                           `torc exec --param i=1:100 -- ./work {i}`";
            Err(Failure::new(Exit::Usage, message))
        }
        (None, words) => Ok(vec![with_parameters(args, words)]),
    }
}

/// A job for each line that has a command, named by the line.
fn commands(text: &str) -> impl Iterator<Item = Json> {
    let lines = text.trim_start_matches('\u{feff}').lines().enumerate();
    lines
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| json!({"name": format!("line_{number}"), "command": line}))
}

fn with_parameters(args: &ExecArgs, words: &[String]) -> Json {
    let command = match words {
        [command] => command.clone(),
        words => words.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" "),
    };
    let mut name = "job".to_owned();
    let mut parameters = Map::new();
    for (parameter, values) in &args.parameters {
        name += &format!("_{{{parameter}}}");
        parameters.insert(parameter.clone(), values.as_str().into());
    }
    let mut job = json!({"name": name, "command": command});
    if !parameters.is_empty() {
        job["parameters"] = parameters.into();
        job["parameter_mode"] = if args.zip { "zip" } else { "product" }.into();
    }
    job
}

/// A word as the shell takes it for one. What is safe stays as it is, parameters among it.
fn shell_word(word: &str) -> String {
    let is_safe = |letter: char| letter.is_alphanumeric() || "-_./:=@%+,".contains(letter);
    if !word.is_empty() && word.chars().all(is_safe) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_commands_but_for_comments() {
        let text = "\u{feff}echo 1\r\n\n  # no\n  a | b # yes\n";
        let jobs: Vec<Json> = commands(text).collect();
        assert_eq!(
            jobs,
            [
                json!({"name": "line_1", "command": "echo 1"}),
                json!({"name": "line_4", "command": "a | b # yes"}),
            ]
        );
    }

    #[test]
    fn words_stay_words() {
        assert_eq!(shell_word("a/b-c.d:e=f"), "a/b-c.d:e=f");
        assert_eq!(shell_word("{i}"), "'{i}'");
        assert_eq!(shell_word(""), "''");
        assert_eq!(shell_word("it's $x"), r"'it'\''s $x'");
    }
}
