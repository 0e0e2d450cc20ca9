//! `torc config`: each setting, its value, and where that comes from.

use serde::Serialize;

use crate::args::Format;
use crate::exit::{Exit, Failure};
use crate::render::{json, table};
use crate::settings::Settings;

#[derive(Serialize)]
struct Row {
    setting: &'static str,
    value: String,
    origin: String,
}

pub(crate) fn execute(format: Format) -> Result<Exit, Failure> {
    let rows = Settings::load()?.rows();
    match format {
        Format::Json => {
            let rows = rows.into_iter();
            let rows: Vec<Row> =
                rows.map(|(setting, value, origin)| Row { setting, value, origin }).collect();
            json(&rows);
        }
        Format::Table => table(
            &["setting", "value", "from"],
            rows.into_iter()
                .map(|(setting, value, origin)| vec![setting.to_owned(), value, origin]),
        ),
    }
    Ok(Exit::Success)
}
