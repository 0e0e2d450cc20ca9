//! Whether settings are what a plugin takes, by the JSON Schema that it has for them.
//!
//! Owns: that question, and everything that is wrong, in words and with the way to each. Does not know: where the
//! settings were written. Invariants: nothing is fetched for a schema, whatever it refers to; a schema costs no more
//! than so much time and memory, however it was made.

mod size;
mod words;

use std::sync::mpsc;
use std::time::Duration;

use jsonschema::paths::LocationSegment;
use jsonschema::{PatternOptions, Validator};
use serde_json::{Map, Value};
use torc_core::spec::PathStep;

use crate::check::schema::own_words;

/// How long a schema may take. Usual ones take milliseconds.
const JUDGES_WITHIN: Duration = Duration::from_secs(5);
/// Room for a schema that goes deep: it is read by functions that call themselves.
const STACK: usize = 256 << 20;
/// Steps of a pattern on one text (fancy-regex counts them).
const MOST_STEPS_OF_A_PATTERN: usize = 100_000;
/// Bytes of a compiled pattern.
const LARGEST_PATTERN: usize = 1 << 20;
/// More than anybody reads.
const MOST_KEPT: usize = 100;

/// One thing that is wrong with settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The way to the value that it is about.
    pub at: Vec<PathStep>,
    /// The field of that value that should not be there; `None`: the value itself is meant.
    pub field: Option<String>,
    /// A sentence without a full stop. It does not name the plugin.
    pub message: String,
    /// A few words to put beside the place.
    pub label: String,
    /// What to do.
    pub help: Option<String>,
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, " ({help})"))
    }
}

/// What is wrong with settings by a schema. Without one nothing is.
///
/// # Errors
/// Why the schema itself is none, or is too much.
pub fn judge(schema: Option<&Value>, settings: &Map<String, Value>) -> Result<Vec<Wrong>, String> {
    let Some(schema) = schema else { return Ok(Vec::new()) };
    let settings = Value::Object(settings.clone());
    apart(schema, move |schema| {
        let validator = compiled(schema)?;
        if validator.is_valid(&settings) {
            return Ok(Vec::new());
        }
        let mut wrong = Vec::new();
        for error in validator.iter_errors(&settings).take(MOST_KEPT) {
            words::of(&error, schema, &mut wrong);
        }
        Ok(wrong)
    })
}

/// What is wrong with a schema, and where in it; `None`: nothing.
pub(crate) fn fault(schema: &Value) -> Option<String> {
    apart(schema, |schema| compiled(schema).map(drop)).err()
}

/// Does work on a schema in a thread that has room for it, and that nobody waits for longer than is reasonable.
fn apart<T: Send + 'static>(
    schema: &Value,
    work: impl FnOnce(&Value) -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let schema = schema.clone();
    let (tell, told) = mpsc::sync_channel(1);
    let named = std::thread::Builder::new().name("settings".to_owned()).stack_size(STACK);
    let started = named.spawn(move || {
        // Whoever asked may not wait any more.
        let _ = tell.send(size::check(&schema).and_then(|()| work(&schema)));
    });
    started.map_err(|error| format!("no thread could be started to look at it: {error}"))?;
    match told.recv_timeout(JUDGES_WITHIN) {
        Ok(answer) => answer,
        Err(mpsc::RecvTimeoutError::Timeout) => {
            Err(format!("nothing is decided by it within {} s", JUDGES_WITHIN.as_secs()))
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => Err("it cannot be made sense of".to_owned()),
    }
}

fn compiled(schema: &Value) -> Result<Validator, String> {
    let patterns = PatternOptions::fancy_regex()
        .backtrack_limit(MOST_STEPS_OF_A_PATTERN)
        .size_limit(LARGEST_PATTERN)
        .dfa_size_limit(LARGEST_PATTERN);
    let built = jsonschema::options().offline().with_pattern_options(patterns).build(schema);
    built.map_err(|error| {
        let (path, words) = (error.instance_path().as_str(), words::shortened(&error.to_string()));
        match own_words(schema) {
            Some(words) => words,
            None if path.is_empty() => words,
            None => format!("`{path}`: {words}"),
        }
    })
}

/// The way that an error of the schema's judge tells.
fn steps(error: &jsonschema::ValidationError<'_>) -> Vec<PathStep> {
    let step = |segment| match segment {
        LocationSegment::Property(field) => PathStep::Field(field.into_owned()),
        LocationSegment::Index(index) => PathStep::Item(index),
    };
    error.instance_path().iter().map(step).collect()
}

#[cfg(test)]
mod tests;
