//! `torc plugin run`: a method of a plugin is called, and its answer printed.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use torc_plugins::{About, Kind};

use super::failure;
use crate::args::PluginRunArgs;
use crate::exit::{Exit, Failure};
use crate::plugins;
use crate::render::json;

/// As long as a scheduler may take, which has the longest time of all.
const ANSWERS_WITHIN: Duration = Duration::from_secs(180);

pub(super) fn execute(args: &PluginRunArgs) -> Result<Exit, Failure> {
    let shelf = plugins::shelf(&args.plugins)?;
    let request = read(&args.request)?;
    let plugin = shelf.plugin(&args.name).map_err(|error| failure(&error))?;
    let kind = match args.interface {
        Some(kind) => kind,
        None => kind_with(&args.method, plugin.about())?,
    };
    let answer = plugin.ask(
        kind,
        &args.settings,
        &args.method,
        request.to_string().into_bytes(),
        ANSWERS_WITHIN,
    );
    json(&answer.map_err(|error| failure(&error))?);
    Ok(Exit::Success)
}

/// The request.
fn read(file: &Path) -> Result<Value, Failure> {
    let unread = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Usage, format!("{} cannot be read: {error}", file.display()))
    };
    let mut text = String::new();
    let is_read = if file == Path::new("-") {
        std::io::stdin().lock().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(file).map(|read| text = read)
    };
    is_read.map_err(|error| unread(&error))?;
    serde_json::from_str(&text).map_err(|error| unread(&error))
}

/// The one interface of a plugin that has a method.
fn kind_with(method: &str, about: &About) -> Result<Kind, Failure> {
    let own: Vec<Kind> = about.interfaces.iter().filter_map(|id| Kind::named(id)).collect();
    let with: Vec<Kind> =
        own.iter().copied().filter(|kind| kind.methods().contains(&method)).collect();
    let words =
        |kinds: &[Kind]| kinds.iter().map(|kind| kind.word()).collect::<Vec<_>>().join(", ");
    let name = &about.name;
    match (with.as_slice(), own.is_empty()) {
        ([kind], _) => Ok(*kind),
        ([], true) => {
            let message = format!("the plugin `{name}` has no interface that this torc knows");
            Err(Failure::new(Exit::JobsFailed, message))
        }
        ([], false) => {
            let known = own.iter().flat_map(|kind| kind.methods().iter().copied());
            let known = known.collect::<Vec<_>>().join(", ");
            let message = format!(
                "nothing that the plugin `{name}` is ({}) has a method `{method}`, but {known}; with --interface it \
                 is asked all the same",
                words(&own)
            );
            Err(Failure::new(Exit::Usage, message))
        }
        (several, _) => {
            let message = format!(
                "the plugin `{name}` has `{method}` as {}; say which with --interface",
                words(several)
            );
            Err(Failure::new(Exit::Usage, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_is_the_one_that_has_the_method() {
        #[track_caller]
        fn check(method: &str, interfaces: &[&str], expected: Result<Kind, &str>) {
            let about = About {
                name: "p".to_owned(),
                version: "1".to_owned(),
                abi: (1, 0),
                interfaces: interfaces.iter().map(|id| (*id).to_owned()).collect(),
                description: None,
                schema: None,
            };
            let found = kind_with(method, &about).map_err(|failure| failure.message);
            assert_eq!(found.as_ref().copied().map_err(|message| message.as_str()), expected);
        }
        let (launcher, placer) = ("torc.launcher/1", "torc.placer/1");
        check("plan", &[launcher, "torc.future/7"], Ok(Kind::Launcher));
        check("rebuild", &[launcher, placer], Ok(Kind::Placer));
        let both = "the plugin `p` has `plan` as launcher, placer; say which with --interface";
        check("plan", &[launcher, placer], Err(both));
        let none = "nothing that the plugin `p` is (launcher) has a method `submit`, but plan; with --interface it is \
                    asked all the same";
        check("submit", &[launcher], Err(none));
        let unknown = "the plugin `p` has no interface that this torc knows";
        check("plan", &["torc.future/7"], Err(unknown));
    }
}
