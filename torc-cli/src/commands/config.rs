//! `torc config`: each setting, its value, and where that comes from.

use clap::parser::ValueSource;
use serde::Serialize;
use torc_server::state_dir::StateDir;

use crate::LOG_VARIABLE;
use crate::args::{Args, Format};
use crate::exit::{Exit, Failure};
use crate::render::{json, table};
use crate::settings::{Origin, Settings};

#[derive(Serialize)]
struct Row {
    setting: &'static str,
    value: String,
    origin: String,
}

pub(crate) fn execute(args: &Args, dir: &StateDir) -> Result<Exit, Failure> {
    let settings = Settings::load()?.rows();
    let settings =
        settings.into_iter().map(|(setting, value, origin)| Row { setting, value, origin });
    let rows = [output_dir(args, dir), log()].into_iter().chain(settings);
    match args.format {
        Format::Json => json(&rows.collect::<Vec<Row>>()),
        Format::Table => table(
            &["setting", "value", "from"],
            rows.map(|row| vec![row.setting.to_owned(), row.value, row.origin]),
        ),
    }
    Ok(Exit::Success)
}

/// The state directory. No file says where it is.
fn output_dir(args: &Args, dir: &StateDir) -> Row {
    let origin = match args.output_dir_source {
        Some(ValueSource::CommandLine) => Origin::Option("--output-dir"),
        Some(ValueSource::EnvVariable) => Origin::Variable("TORC_OUTPUT_DIR"),
        _ => Origin::BuiltIn,
    };
    let value = dir.path().display().to_string();
    Row { setting: "output_dir", value, origin: origin.to_string() }
}

/// What torc logs about itself.
fn log() -> Row {
    let (value, origin) = match std::env::var(LOG_VARIABLE) {
        Ok(value) => (value, Origin::Variable(LOG_VARIABLE)),
        Err(_) => ("error; info in servers and workers".to_owned(), Origin::BuiltIn),
    };
    Row { setting: "log", value, origin: origin.to_string() }
}
