//! `torc user-data`: the values that jobs hand to each other, seen and set.

use std::io::Read;

use serde_json::Value as Json;
use torc_core::diagnostics::nearest;
use torc_core::wire::{UserDataReport, UserDataRequest};
use torc_server::access::Access;
use torc_server::state_dir::StateDir;

use crate::args::{Format, UserDataCommand, UserDataGetArgs, UserDataListArgs, UserDataSetArgs};
use crate::calling_job;
use crate::exit::{Exit, Failure};
use crate::out::outln;
use crate::render::{few, json, local_time, table};

pub(crate) async fn execute(
    command: &UserDataCommand,
    dir: &StateDir,
    format: Format,
) -> Result<Exit, Failure> {
    match command {
        UserDataCommand::List(args) => list(args, dir, format).await,
        UserDataCommand::Get(args) => get(args, dir, format).await,
        UserDataCommand::Set(args) => set(args, dir, format).await,
    }
}

async fn list(args: &UserDataListArgs, dir: &StateDir, format: Format) -> Result<Exit, Failure> {
    let all = Access::open(dir).await?.user_data(args.workflow.workflow).await?;
    match format {
        Format::Json => json(&all),
        Format::Table => table(
            &["user data", "value", "written by", "read by", "set by", "set"],
            all.iter().map(row),
        ),
    }
    Ok(Exit::Success)
}

fn row(one: &UserDataReport) -> Vec<String> {
    vec![
        one.name.clone(),
        if one.has_value { shortened(&one.value.to_string()) } else { String::new() },
        few(&one.producers),
        few(&one.consumers),
        one.set_by.clone().unwrap_or_default(),
        one.set_at.map_or_else(String::new, local_time),
    ]
}

/// As much of a value as a table has room for.
fn shortened(value: &str) -> String {
    const SHOWN: usize = 60;
    if value.chars().count() <= SHOWN {
        return value.to_owned();
    }
    let shown: String = value.chars().take(SHOWN).collect();
    format!("{shown}…")
}

async fn get(args: &UserDataGetArgs, dir: &StateDir, format: Format) -> Result<Exit, Failure> {
    let all = Access::open(dir).await?.user_data(args.workflow.workflow).await?;
    let Some(found) = all.iter().find(|one| one.name == args.name) else {
        let hint = nearest(&args.name, all.iter().map(|one| one.name.as_str()))
            .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        let message = format!("the workflow has no user data named `{}`{hint}", args.name);
        return Err(Failure::new(Exit::Usage, message));
    };
    match (format, &found.value) {
        (Format::Json, _) => json(found),
        (Format::Table, Json::String(text)) if args.raw => outln!("{text}"),
        (Format::Table, value) => outln!("{value}"),
    }
    Ok(Exit::Success)
}

async fn set(args: &UserDataSetArgs, dir: &StateDir, format: Format) -> Result<Exit, Failure> {
    let workflow = args.workflow.workflow;
    let request = UserDataRequest {
        name: args.name.clone(),
        value: value(args)?,
        by: calling_job::of(dir, workflow)?,
    };
    let set = Access::set_user_data(dir, workflow, &request).await?;
    if format == Format::Json {
        json(&set);
    }
    Ok(Exit::Success)
}

/// The value as it was given.
fn value(args: &UserDataSetArgs) -> Result<Json, Failure> {
    let is_stdin = args.value == "-";
    let text = if is_stdin { read_stdin()? } else { args.value.clone() };
    if args.string {
        return Ok(Json::String(text));
    }
    serde_json::from_str(&text).map_err(|error| {
        let (what, help) = if is_stdin {
            ("standard input".to_owned(), "write JSON".to_owned())
        } else {
            let quoted = Json::String(text.clone()).to_string().replace('\'', "'\\''");
            (format!("`{}`", shortened(&text)), format!("write '{}'", shortened(&quoted)))
        };
        let message =
            format!("{what} is not JSON: {error}; {help}, or give --string for text as it stands");
        Failure::new(Exit::Usage, message)
    })
}

fn read_stdin() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).map_err(|error| {
        Failure::new(Exit::Environment, format!("cannot read standard input: {error}"))
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let message = format!("standard input is not UTF-8 text: byte {at} does not belong there");
        Failure::new(Exit::Usage, message)
    })
}
