//! Whether a plugin is as it must be: a list of checks, each with what was found.
//!
//! Owns: what is looked at, of the file ([`of_file`]), of what the plugin says of itself ([`of_about`]), of how it
//! takes calls ([`of_calls`], [`of_requests`]), and of what it does ([`of_promise`]). Does not know: in which process
//! that is done, and who reads it. Invariants: [`of_file`] runs nothing of the plugin; a check that does not apply is
//! not there, and one that was not done says why.

mod kit;
mod library;
mod requests;
pub(crate) mod schema;

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::about::About;
use crate::error::{CallError, Fault, PluginError};
use crate::kind::Kind;
use crate::shelf::{Found, Plugin, Shelf};
use crate::trust::digest;

pub use kit::{Folder, Promise, Site, of_promise, promises};
pub use requests::{of_requests, requests_name};

/// A method that no interface has.
const NO_METHOD: &str = "torc.check/no-such-method";
/// How long a plugin may take to say so.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub check: String,
    /// Whether it is as it must be.
    pub verdict: Verdict,
    /// What was found, in words.
    pub found: String,
}

/// Whether something is as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is.
    Ok,
    /// It is not.
    Failed,
    /// Nobody looked.
    LeftOut,
}

impl Check {
    /// That something is as it must be.
    pub fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self { check: check.into(), verdict: Verdict::Ok, found: found.into() }
    }

    /// That it is not.
    pub fn failed(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self { check: check.into(), verdict: Verdict::Failed, found: found.into() }
    }

    /// That nobody looked, and why.
    pub fn left_out(check: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { check: check.into(), verdict: Verdict::LeftOut, found: reason.into() }
    }

    /// By what was found, good or bad.
    pub fn of(check: impl Into<String>, found: Result<String, String>) -> Self {
        match found {
            Ok(found) => Self::ok(check, found),
            Err(found) => Self::failed(check, found),
        }
    }
}

/// What can be seen of a plugin's file from outside: its name, who could change it, and of a library what is in it.
/// `own`: the program that would load it.
pub fn of_file(shelf: &Shelf, path: &Path, own: &Path) -> Vec<Check> {
    let found = Found::at(path);
    let mut checks = vec![Check::of("file name", name(path, found.as_ref()))];
    checks.extend(trust(shelf, path));
    if let Some(pin) = found.as_ref().and_then(|found| shelf.pin(&found.name)) {
        checks.push(Check::of("sha256", pinned(path, pin)));
    }
    if found.is_some_and(|found| found.is_library()) {
        checks.extend(library::checks(path, own));
    }
    checks
}

fn name(path: &Path, found: Option<&Found>) -> Result<String, String> {
    match found {
        Some(found) => Ok(format!("the plugin `{}`", found.name)),
        None => Err(format!(
            "{} is not found under any name: the file of a plugin is libtorc_NAME.so or torc-plugin-NAME, and NAME \
             has letters, digits, `-` and `_`",
            path.file_name().unwrap_or_default().to_string_lossy()
        )),
    }
}

fn trust(shelf: &Shelf, path: &Path) -> Vec<Check> {
    let wrong = shelf.trust().all_wrong(path);
    if wrong.is_empty() {
        let words = "nobody but its owner and root could change it, or swap it for another";
        return vec![Check::ok("trust", words)];
    }
    wrong.iter().map(|distrust| Check::failed("trust", distrust.to_string())).collect()
}

fn pinned(path: &Path, wanted: &str) -> Result<String, String> {
    let found = digest(path).map_err(|error| format!("it cannot be read: {error}"))?;
    if found.eq_ignore_ascii_case(wanted) {
        Ok("as the configuration says".to_owned())
    } else {
        Err(format!("it is {found}, and the configuration says {wanted}"))
    }
}

/// What a plugin says of itself.
pub fn of_about(about: &About) -> Vec<Check> {
    let mut checks = vec![Check::of("interfaces", interfaces(about))];
    if let Some(schema) = &about.schema {
        let found = match schema::fault(schema) {
            None => Ok("a JSON Schema of an object".to_owned()),
            Some(fault) => Err(fault),
        };
        checks.push(Check::of("settings schema", found));
    }
    checks
}

fn interfaces(about: &About) -> Result<String, String> {
    let all = &about.interfaces;
    if let Some(twice) = all.iter().enumerate().find(|(at, id)| all[..*at].contains(id)) {
        return Err(format!("{} is there twice", twice.1));
    }
    let (known, other): (Vec<&str>, Vec<&str>) = all
        .iter()
        .map(String::as_str)
        .partition(|id| Kind::ALL.iter().any(|kind| kind.id() == *id));
    let unknown = match other.is_empty() {
        true => String::new(),
        false => format!("this torc does not know {}", other.join(", ")),
    };
    match (known.is_empty(), other.is_empty()) {
        (true, true) => Err("it has none".to_owned()),
        (true, false) => Err(unknown),
        (false, true) => Ok(known.join(", ")),
        (false, false) => Ok(format!("{}; {unknown}, and leaves it alone", known.join(", "))),
    }
}

/// How an interface of a plugin takes calls: it opens with these settings, and does not know a method that there is
/// not. The plugin's code runs in this process.
pub fn of_calls(plugin: &Plugin, kind: Kind, settings: &Map<String, Value>) -> Vec<Check> {
    let (opens, unknown) = (format!("{} opens", kind.word()), format!("{} is strict", kind.word()));
    let answer = plugin.ask(kind, settings, NO_METHOD, b"null".to_vec(), ANSWERS_WITHIN);
    let strict =
        |found| vec![Check::ok(&*opens, "with these settings"), Check::of(&*unknown, found)];
    match answer {
        Err(PluginError::Call(CallError { method, fault, .. })) if method == NO_METHOD => {
            strict(match fault {
                Fault::Unsupported => {
                    Ok("it says of an unknown method that it is unsupported".to_owned())
                }
                fault => Err(format!(
                    "of an unknown method it has to say that it is unsupported, not: {fault}"
                )),
            })
        }
        Err(error) => vec![Check::failed(&*opens, error.to_string())],
        Ok(answer) => {
            let answer: String = answer.to_string().chars().take(200).collect();
            strict(Err(format!("it has an answer to an unknown method: {answer}")))
        }
    }
}
