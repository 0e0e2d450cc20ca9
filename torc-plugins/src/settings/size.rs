//! How much there is to a schema: what refers to itself in two places, and that again and again, is small to write and
//! without end to follow.

use std::collections::HashMap;

use serde_json::Value;

/// Values of a schema, at most. A thousand settings have a tenth of it.
const MOST_VALUES: u64 = 20_000;
/// The same with everything that it refers to in the place of each reference.
const MOST_FOLLOWED: u64 = 200_000;
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];
/// Bytes of all text in it.
const MOST_TEXT: usize = 1 << 20;

/// Refuses a schema that is too much.
pub(super) fn check(schema: &Value) -> Result<(), String> {
    let mut anchors = HashMap::new();
    let (mut values, mut text) = (0, 0);
    let mut left = vec![schema];
    while let Some(value) = left.pop() {
        values += 1;
        match value {
            Value::String(string) => text += string.len(),
            Value::Array(items) => left.extend(items),
            Value::Object(fields) => {
                text += fields.keys().map(String::len).sum::<usize>();
                left.extend(fields.values());
                for name in ["$anchor", "$dynamicAnchor"].iter().filter_map(|key| fields.get(*key))
                {
                    name.as_str().and_then(|name| anchors.insert(name, value));
                }
            }
            _ => {}
        }
        if values > MOST_VALUES {
            return Err(format!("it has more than {MOST_VALUES} values"));
        }
        if text > MOST_TEXT {
            return Err(format!("it has more than {MOST_TEXT} bytes of text"));
        }
    }
    let followed = Followed { schema, anchors, known: HashMap::new() }.weight(schema);
    if followed > MOST_FOLLOWED {
        return Err(format!("with all that it refers to it has more than {MOST_FOLLOWED} values"));
    }
    Ok(())
}

struct Followed<'s> {
    schema: &'s Value,
    anchors: HashMap<&'s str, &'s Value>,
    /// Weights by the addresses of values; of one that is being weighed nothing yet.
    known: HashMap<*const Value, u64>,
}

impl<'s> Followed<'s> {
    fn weight(&mut self, value: &'s Value) -> u64 {
        if let Some(known) = self.known.get(&std::ptr::from_ref(value)) {
            return *known;
        }
        self.known.insert(value, 0);
        let weight = match value {
            Value::Array(items) => self.sum(items.iter()),
            Value::Object(fields) => {
                let references = ["$ref", "$dynamicRef"].map(|key| fields.get(key));
                let targets = references.into_iter().flatten().filter_map(|to| self.target(to));
                let targets: Vec<&Value> = targets.collect();
                // What is defined counts where it is referred to.
                let own = fields.iter().filter(|(key, _)| !DEFINITIONS.contains(&&***key));
                self.sum(own.map(|(_, value)| value).chain(targets))
            }
            _ => 1,
        };
        self.known.insert(value, weight);
        weight
    }

    fn sum(&mut self, values: impl Iterator<Item = &'s Value>) -> u64 {
        values.fold(1, |sum: u64, value| sum.saturating_add(self.weight(value)))
    }

    /// What is referred to within the schema. Elsewhere nothing is looked up.
    fn target(&self, reference: &Value) -> Option<&'s Value> {
        let within = reference.as_str()?.strip_prefix('#')?;
        match within.is_empty() || within.starts_with('/') {
            true => self.schema.pointer(within),
            false => self.anchors.get(within).copied(),
        }
    }
}
