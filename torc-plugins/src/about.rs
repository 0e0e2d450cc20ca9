//! What a plugin says of itself.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a plugin says of itself, before any instance is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The name by which specs and settings call it.
    pub name: String,
    /// Its version, in its own numbers.
    pub version: String,
    /// The major and the minor version of the plugin boundary that it was built for.
    pub abi: (u32, u32),
    /// Its interfaces, as `torc.launcher/1`.
    pub interfaces: Vec<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The JSON Schema of its settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
}

impl About {
    /// What was said, if it can be.
    pub(crate) fn checked(
        name: String,
        version: String,
        abi: (u32, u32),
        interfaces: Vec<String>,
        info: Value,
    ) -> Result<Self, String> {
        if !is_name(&name) {
            return Err(format!(
                "its name is {name:?}, and a name has letters, digits, `-` and `_` only"
            ));
        }
        let mut info = match info {
            Value::Null => serde_json::Map::new(),
            Value::Object(info) => info,
            _ => return Err("its information is not a JSON object".to_owned()),
        };
        let description = match info.shift_remove("description") {
            None => None,
            Some(Value::String(text)) => Some(text),
            Some(_) => return Err("its description is no text".to_owned()),
        };
        let schema = info.shift_remove("schema");
        if schema.as_ref().is_some_and(|schema| !schema.is_object()) {
            return Err("the schema of its settings is not a JSON object".to_owned());
        }
        Ok(Self { name, version, abi, interfaces, description, schema })
    }
}

/// Whether a plugin can have this name: letters, digits, `-` and `_`.
pub fn is_name(name: &str) -> bool {
    let is_good = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    !name.is_empty() && name.len() <= 64 && name.chars().all(is_good)
}
