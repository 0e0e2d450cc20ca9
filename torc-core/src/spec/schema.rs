//! The JSON Schema of specs, for editors that complete and check while one writes.
//!
//! Made of the list of fields, so both know the same names. It says what each field takes; rules about more than
//! one field, and how a quantity is spelled, are `torc validate`'s. Draft 7, which editors' YAML and JSON
//! services all know.

use serde_json::{Map, Value as Json, json};

use super::fields::{self, Object, Takes};

/// The JSON Schema of a spec.
pub fn schema() -> Json {
    let mut definitions = Map::new();
    let root = object(&fields::SPEC, &mut definitions);
    let mut schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "torc workflow spec",
    });
    if let (Json::Object(schema), Json::Object(root)) = (&mut schema, root) {
        schema.extend(root);
        schema.insert("definitions".to_owned(), Json::Object(definitions));
    }
    schema
}

fn object(of: &'static Object, definitions: &mut Map<String, Json>) -> Json {
    let mut properties = Map::new();
    for field in of.fields {
        let found = takes(&field.takes, definitions);
        let mut found = if field.is_required { found } else { or_null(found) };
        if let Json::Object(found) = &mut found {
            found.insert("description".to_owned(), field.about.into());
        }
        properties.insert(field.name.to_owned(), found);
    }
    let required: Vec<_> = of.fields.iter().filter(|f| f.is_required).map(|f| f.name).collect();
    let mut found = json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": of.is_open,
    });
    if let (Json::Object(found), false) = (&mut found, required.is_empty()) {
        found.insert("required".to_owned(), json!(required));
    }
    found
}

/// A reference to an object, which is defined with the first one.
fn reference(of: &'static Object, definitions: &mut Map<String, Json>) -> Json {
    let name: String = of
        .what
        .trim_start_matches("a ")
        .trim_start_matches("an ")
        .replace('`', "")
        .replace(' ', "_");
    if !definitions.contains_key(&name) {
        definitions.insert(name.clone(), Json::Null);
        let found = object(of, definitions);
        definitions.insert(name.clone(), found);
    }
    json!({"$ref": format!("#/definitions/{name}")})
}

/// What a field takes.
fn takes(takes: &Takes, definitions: &mut Map<String, Json>) -> Json {
    let list_of = |items: Json| json!({"type": "array", "items": items});
    let map_of = |values: Json| json!({"type": "object", "additionalProperties": or_null(values)});
    match takes {
        Takes::Text => json!({"type": "string"}),
        Takes::Flag => json!({"type": "boolean"}),
        Takes::Whole(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        Takes::Number => json!({"type": "number"}),
        Takes::TextOrWhole => json!({"type": ["string", "integer"]}),
        Takes::Word(words) => json!({"enum": words}),
        Takes::Texts => list_of(json!({"type": "string"})),
        Takes::Wholes(least, most) => {
            list_of(json!({"type": "integer", "minimum": least, "maximum": most}))
        }
        Takes::TextByName => map_of(json!({"type": "string"})),
        Takes::LiteralByName => map_of(json!({"type": ["string", "number", "boolean"]})),
        Takes::ParameterByName => map_of(json!({
            "type": ["string", "number", "boolean", "array"],
            "items": {"type": ["string", "number", "boolean"]},
        })),
        Takes::ByName(of) => map_of(reference(of, definitions)),
        Takes::One(of) => reference(of, definitions),
        Takes::Many(of) => list_of(reference(of, definitions)),
        Takes::TextOr(of) => json!({"anyOf": [{"type": "string"}, reference(of, definitions)]}),
        Takes::TextOrMap => json!({"type": ["string", "object"]}),
        Takes::Anything => json!({}),
    }
}

/// The same or null, which is an absent field.
fn or_null(mut schema: Json) -> Json {
    if let Some(types) = schema.get_mut("type") {
        *types = match types.take() {
            Json::Array(mut types) => {
                types.push(json!("null"));
                types.into()
            }
            one => json!([one, "null"]),
        };
        return schema;
    }
    if let Some(Json::Array(words)) = schema.get_mut("enum") {
        words.push(Json::Null);
        return schema;
    }
    match &schema {
        Json::Object(any) if any.is_empty() => schema,
        _ => json!({"anyOf": [schema, {"type": "null"}]}),
    }
}
