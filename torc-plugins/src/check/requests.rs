//! What a plugin says to requests that cannot be read.
//!
//! Owns: the requests, and which answers are good. Does not know: what the methods are for. Invariant: a method whose
//! request a plugin need not read is not asked.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{ANSWERS_WITHIN, Check, NO_METHOD};
use crate::error::Fault;
use crate::instance::Instance;
use crate::kind::Kind;
use crate::shelf::{Form, Plugin};

/// Each is not what any method is asked; a program is only ever sent lines of JSON.
const FOR_PROGRAMS: [(&str, &[u8]); 2] = [("7", b"7"), ("\"torc\"", b"\"torc\"")];
const FOR_LIBRARIES: [(&str, &[u8]); 4] = [
    ("of no bytes", b""),
    ("that is no JSON", b"{"),
    ("that is no UTF-8", b"\"\xff\xfe\""),
    ("7", b"7"),
];

/// The name of the check that [`of_requests`] is.
pub fn requests_name(kind: Kind) -> String {
    format!("{} refuses what it cannot read", kind.word())
}

/// Sends each method requests that cannot be read: they have to be refused, and the next one answered. The plugin's
/// code runs in this process.
pub fn of_requests(plugin: &Plugin, kind: Kind, settings: &Map<String, Value>) -> Check {
    let name = requests_name(kind);
    let instance = match plugin.open(kind.id(), settings, None) {
        Ok(instance) => instance,
        Err(error) => return Check::failed(name, error.to_string()),
    };
    let requests = match plugin.form() {
        Form::Program(_) => &FOR_PROGRAMS[..],
        Form::Library(_) => &FOR_LIBRARIES[..],
    };
    let asked = methods(kind).flat_map(|method| requests.iter().map(move |one| (method, *one)));
    let found = asked.map(|(method, (words, request))| look(&instance, method, words, request));
    let found: Result<Vec<()>, String> = found.collect();
    instance.close(Duration::ZERO);
    let is_good = "requests that cannot be read are refused, and the next call is answered";
    Check::of(
        name,
        found
            .map(|_| is_good.to_owned())
            .map_err(|words| format!("plugin `{}`: {words}", plugin.about().name)),
    )
}

/// The methods that cannot be answered without their request.
fn methods(kind: Kind) -> impl Iterator<Item = &'static str> {
    let needs_none = ["inventory", "shapes"];
    kind.methods().iter().copied().filter(move |method| !needs_none.contains(method))
}

fn look(instance: &Instance, method: &str, words: &str, request: &[u8]) -> Result<(), String> {
    let expected = format!("{method}: expected a request {words} to be refused as invalid; saw");
    let call = |method: &str, request: &[u8]| {
        instance
            .call_blocking(method, request.to_vec(), ANSWERS_WITHIN)
            .map_err(|error| error.fault)
    };
    match call(method, request) {
        // What went wrong within it may pass, for all that it knows.
        Err(Fault::Invalid(_) | Fault::Transient(_)) => {}
        Err(fault) => return Err(format!("{expected}: {fault}")),
        Ok(answer) => {
            let answer: String = String::from_utf8_lossy(&answer).chars().take(200).collect();
            return Err(format!("{expected} the answer {answer}"));
        }
    }
    match call(NO_METHOD, b"null") {
        Err(Fault::Unsupported) => Ok(()),
        Err(fault) => Err(format!(
            "{method}: expected the call after a request {words} to be answered; saw: {fault}"
        )),
        // That is found elsewhere.
        Ok(_) => Ok(()),
    }
}
