//! The batch script of an allocation, and the arguments that sbatch gets with it.
//!
//! Pure. Whatever the values hold, the script has exactly the options that were meant, and it runs the
//! request's command with exactly its arguments. What sbatch does with `#SBATCH` lines was tried on it:
//! it splits them as a shell would, but takes a backslash for an escape in single quotes, too.

use serde_json::Value;
use torc_core::traits::{AllocationHandle, AllocationRequest};

use super::duration;
use super::settings::{LONGEST_OPTION, ScriptError, SettingsProblem, SlurmSettings};

/// A batch script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// It, for sbatch's standard input.
    pub text: String,
    /// What sbatch is started with.
    pub args: Vec<String>,
}

/// The script for a request that is marked with `key`.
///
/// # Errors
/// When its settings, its command or the key cannot be given to sbatch. The message names the request.
pub fn render(request: &AllocationRequest, key: &str) -> Result<Script, ScriptError> {
    let settings = SlurmSettings::of(request)?;
    let named = |problem| ScriptError { name: request.name.clone(), problem };
    check_key(key).map_err(named)?;
    let last = Last::of(request, &settings, key).map_err(named)?;
    let text = text(request, &settings, &last).map_err(named)?;
    // Said once more here: the accounting keeps this line, but no comment unless it is told to
    // (slurm.conf(5), AccountingStoreFlags).
    let mut args = vec!["--parsable".to_owned()];
    args.extend(last.marks().map(|(name, value)| format!("--{name}={value}")));
    Ok(Script { text, args })
}

/// Whether scripts can be made from what a spec says about the scheduler with this name.
///
/// # Errors
/// As [`render`], where it is the settings that cannot be given to sbatch.
pub fn check(name: &str, settings: &Value) -> Result<(), ScriptError> {
    let read = SlurmSettings::read(name, settings)?;
    let after = read.serialize_allocations.then(|| AllocationHandle("1".to_owned()));
    let request = AllocationRequest {
        name: "torc".to_owned(),
        nodes: read.nodes,
        walltime: Some(read.walltime),
        settings: settings.clone(),
        command: vec!["torc".to_owned()],
        working_dir: "/".to_owned(),
        output: "/".to_owned(),
        env: Vec::new(),
        umask: None,
        after,
    };
    let named = |error: ScriptError| ScriptError { name: name.to_owned(), ..error };
    render(&request, "key").map(|_| ()).map_err(named)
}

fn check_key(key: &str) -> Result<(), SettingsProblem> {
    let may_be = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@+=".contains(&byte);
    let is_key = !key.is_empty() && key.bytes().all(may_be);
    if is_key { Ok(()) } else { Err(SettingsProblem::BadKey(key.to_owned())) }
}

/// What torc's own work rests on: it stands last, so that nothing overrides it.
struct Last {
    comment: String,
    dependency: Option<String>,
}

impl Last {
    fn of(
        request: &AllocationRequest,
        settings: &SlurmSettings,
        key: &str,
    ) -> Result<Self, SettingsProblem> {
        let own = |option| settings.given(option).and_then(|given| given.value);
        // A site may read the user's own words in a comment, so they stay.
        let comment: Vec<String> = own("comment").into_iter().chain([key.to_owned()]).collect();
        let after = request.after.as_ref().map(|allocation| format!("afterany:{allocation}"));
        let dependency = match (own("dependency"), after) {
            (Some(own), Some(_)) if own.contains('?') => {
                return Err(SettingsProblem::EitherDependency(own));
            }
            (Some(own), Some(after)) => Some(format!("{own},{after}")),
            (own, after) => own.or(after),
        };
        Ok(Self { comment: comment.join(" "), dependency })
    }

    fn marks(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let dependency = self.dependency.as_deref().map(|value| ("dependency", value));
        [("comment", self.comment.as_str())].into_iter().chain(dependency)
    }
}

fn text(
    request: &AllocationRequest,
    settings: &SlurmSettings,
    last: &Last,
) -> Result<String, SettingsProblem> {
    let mut lines = vec!["#!/bin/sh".to_owned()];
    let mut options = own(request, settings);
    let is_torcs = |name: &str| name == "comment" || name == "dependency";
    for (name, value) in &settings.defaults {
        let is_own = options.iter().any(|(own, _)| own == name);
        // The scheduler's own word counts, also where that word is `exclusive: false`.
        let is_decided = name == "exclusive" && settings.exclusive.is_some();
        let may_override = matches!(name.as_str(), "chdir" | "output" | "export");
        if !is_torcs(name) && !is_decided && (!is_own || may_override) {
            options.retain(|(own, _)| own != name);
            options.push((name.clone(), value.clone()));
        }
    }
    for (name, value) in &options {
        lines.push(line(name, value.as_deref())?);
    }
    if !settings.extra.is_empty() {
        lines.push(extra_line(&settings.extra)?);
    }
    lines.push(line("no-kill", None)?);
    lines.push(line("no-requeue", None)?);
    for (name, value) in last.marks() {
        lines.push(line(name, Some(value))?);
    }
    lines.push(String::new());
    if let Some(umask) = request.umask {
        lines.push(format!("umask {umask:04o}"));
    }
    lines.push(exec(&request.command)?);
    lines.push(String::new());
    Ok(lines.join("\n"))
}

/// The options that the request and the scheduler's own fields ask for.
fn own(request: &AllocationRequest, settings: &SlurmSettings) -> Vec<(String, Option<String>)> {
    let mut options = vec![("job-name".to_owned(), Some(request.name.clone()))];
    let mut add = |name: &str, value: Option<String>| options.push((name.to_owned(), value));
    for (name, value) in &settings.own {
        add(name, Some(value.clone()));
    }
    add("nodes", Some(request.nodes.to_string()));
    if let Some(walltime) = request.walltime {
        add("time", Some(duration::render(walltime)));
    }
    if settings.is_exclusive() {
        add("exclusive", None);
        // An exclusive job has all CPUs, but only the memory that it asks for (sbatch(1)).
        if !settings.says_memory() {
            add("mem", Some("0".to_owned()));
        }
    }
    add("chdir", Some(request.working_dir.clone()));
    add("output", Some(file_name_pattern(&request.output)));
    add("export", Some("ALL".to_owned()));
    options
}

/// A path as sbatch's pattern for a file name that stands for just that path. A backslash anywhere turns
/// the replacing of `%` off, and is itself removed (sbatch(1), FILENAME PATTERN).
fn file_name_pattern(path: &str) -> String {
    if path.contains('\\') { path.replace('\\', "\\\\") } else { path.replace('%', "%%") }
}

fn line(name: &str, value: Option<&str>) -> Result<String, SettingsProblem> {
    let Some(value) = value else { return Ok(format!("#SBATCH --{name}")) };
    let value = quote(value).map_err(|problem| problem.of(name))?;
    Ok(format!("#SBATCH --{name}={value}"))
}

fn extra_line(words: &[String]) -> Result<String, SettingsProblem> {
    let mut found = String::from("#SBATCH");
    for word in words {
        let quoted = match word.split_once('=') {
            Some((option, value)) if option.starts_with("--") && is_plain(option) => {
                quote(value).map(|value| format!("{option}={value}"))
            }
            _ => quote(word),
        };
        found.push(' ');
        found.push_str(&quoted.map_err(|problem| problem.of("extra"))?);
    }
    Ok(found)
}

enum QuoteProblem {
    ControlCharacter,
    TooLong,
}

impl QuoteProblem {
    fn of(self, name: &str) -> SettingsProblem {
        match self {
            Self::ControlCharacter => SettingsProblem::ControlCharacter(name.to_owned()),
            Self::TooLong => SettingsProblem::TooLong(name.to_owned()),
        }
    }
}

fn is_plain(word: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-&|[]{}!*?".contains(&byte);
    // sbatch ends where an argument begins with a colon.
    !word.is_empty() && !word.starts_with(':') && word.bytes().all(plain)
}

/// A value that sbatch reads back as it is.
fn quote(word: &str) -> Result<String, QuoteProblem> {
    if word.chars().any(|c| c.is_control() && c != '\t') {
        return Err(QuoteProblem::ControlCharacter);
    }
    if word.len() > LONGEST_OPTION {
        return Err(QuoteProblem::TooLong);
    }
    if is_plain(word) {
        return Ok(word.to_owned());
    }
    Ok(format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"")))
}

fn exec(command: &[String]) -> Result<String, SettingsProblem> {
    if command.is_empty() {
        return Err(SettingsProblem::NoCommand);
    }
    let words = shlex::try_join(command.iter().map(String::as_str));
    Ok(format!("exec {}", words.map_err(|_| SettingsProblem::ZeroByte)?))
}

#[cfg(test)]
mod tests;
