//! docs/plugin-messages.json: the messages for programs to read. It is made of the types of the SDK, and the guide
//! names each field.

use std::collections::BTreeSet;
use std::path::Path;

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};
use torc_plugin::messages as said;

use crate::Kind;

/// With this variable the file is written, and not compared.
const WRITE: &str = "TORC_WRITE_DOCS";
const FILE: &str = "docs/plugin-messages.json";
const GUIDE: &str = include_str!("../../../docs/plugins.md");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above")
}

/// A method: its name, what it is asked with, and what it answers.
type Method = (&'static str, Schema, Schema);

fn method<Request: JsonSchema, Answer: JsonSchema>(
    generator: &mut SchemaGenerator,
    name: &'static str,
) -> Method {
    (name, generator.subschema_for::<Request>(), generator.subschema_for::<Answer>())
}

fn methods(kind: Kind, made: &mut SchemaGenerator) -> Vec<Method> {
    match kind {
        Kind::Launcher => vec![method::<said::LaunchPlanRequest, said::LaunchPlan>(made, "plan")],
        Kind::Executor => vec![
            method::<(), said::InventoryAnswer>(made, "inventory"),
            method::<said::LaunchRequest, ()>(made, "launch"),
            method::<said::SignalRequest, ()>(made, "signal"),
            method::<said::Reconcile, Vec<said::StepState>>(made, "reconcile"),
        ],
        Kind::Scheduler => vec![
            method::<said::AllocationRequest, said::Shapes>(made, "shapes"),
            method::<said::Submit, String>(made, "submit"),
            method::<said::Find, Option<String>>(made, "find"),
            method::<said::Observe, Vec<said::AllocationState>>(made, "observe"),
            method::<said::Cancel, ()>(made, "cancel"),
        ],
        Kind::Placer => vec![
            method::<said::PlanRequest, said::Plan>(made, "plan"),
            method::<said::Explain, Option<said::Waiting>>(made, "explain"),
            method::<said::Rebuild, ()>(made, "rebuild"),
        ],
    }
}

fn messages() -> Value {
    let mut made = SchemaSettings::draft2020_12().into_generator();
    let mut interfaces = Map::new();
    for kind in Kind::ALL {
        let methods = methods(kind, &mut made);
        let names: Vec<&str> = methods.iter().map(|(name, ..)| *name).collect();
        assert_eq!(names, kind.methods());
        let methods = methods.into_iter().map(|(name, request, answer)| {
            (name.to_owned(), json!({"request": request, "answer": answer}))
        });
        interfaces.insert(kind.id().to_owned(), Value::Object(methods.collect()));
    }
    let event = made.subschema_for::<said::Event>();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The messages of torc's plugins",
        "description": "What each method is asked with, and what it answers, by interface; events are told by executors. \
            docs/plugins.md says what they mean. Made of the types of the crate torc-plugin.",
        "interfaces": interfaces,
        "events": event,
        "$defs": made.take_definitions(true),
    })
}

#[test]
fn the_file_has_the_messages_as_they_are() {
    let made = format!("{:#}\n", messages());
    let path = root().join(FILE);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &made).expect("it is written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let is_same = found == made;
    assert!(is_same, "{FILE} is another: `{WRITE}=1 cargo test -p torc-plugins schemas` writes it");
}

/// The names of all fields, and of the words that some may have.
fn names(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), value) {
                    ("properties", Value::Object(properties)) => {
                        found.extend(properties.keys().cloned());
                    }
                    ("const", Value::String(word)) => drop(found.insert(word.clone())),
                    ("enum", Value::Array(words)) => {
                        found.extend(words.iter().filter_map(Value::as_str).map(str::to_owned));
                    }
                    _ => {}
                }
                names(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| names(item, found)),
        _ => {}
    }
}

#[test]
fn the_guide_has_each_field_and_each_word() {
    let messages = messages();
    let mut all = BTreeSet::new();
    names(&messages["$defs"], &mut all);
    assert!(all.len() > 60 && all.contains("termination_lead") && all.contains("draining"));
    // Where a section sends its readers for what a step or a node is.
    for (kind, heading, others) in [
        (Kind::Launcher, "Launcher", &[][..]),
        (Kind::Executor, "Executor", &["Launcher"]),
        (Kind::Scheduler, "Scheduler", &[]),
        (Kind::Placer, "Placer", &["Executor"]),
    ] {
        let interface = kind.id();
        let text: String =
            others.iter().chain([&heading]).map(|heading| section(heading)).collect();
        let mut names_here = BTreeSet::new();
        let mut asked = vec![messages["interfaces"][interface].clone()];
        if kind == Kind::Executor {
            asked.push(messages["events"].clone());
        }
        let mut followed = BTreeSet::new();
        while let Some(schema) = asked.pop() {
            names(&schema, &mut names_here);
            for reference in references(&schema) {
                if followed.insert(reference.clone()) {
                    let target = messages.pointer(&reference).expect("it is defined");
                    asked.push(target.clone());
                }
            }
        }
        let missing: Vec<&String> =
            names_here.iter().filter(|name| !text.contains(&format!("`{name}`"))).collect();
        assert!(missing.is_empty(), "docs/plugins.md lacks, of {interface}, {missing:?}");
    }
}

/// A section of the guide.
fn section(heading: &str) -> &'static str {
    let (_, text) = GUIDE.split_once(&format!("\n### {heading}\n")).expect("the guide has it");
    let end = text.find("\n### ").or_else(|| text.find("\n## "));
    &text[..end.unwrap_or(text.len())]
}

/// Where a schema refers to.
fn references(schema: &Value) -> Vec<String> {
    match schema {
        Value::Object(fields) => {
            let own = fields.get("$ref").and_then(Value::as_str);
            let own = own.and_then(|way| way.strip_prefix('#')).map(str::to_owned);
            own.into_iter().chain(fields.values().flat_map(references)).collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

/// Says of all objects that they have no more than the fields that are named.
fn strict(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.contains_key("properties") && !fields.contains_key("oneOf") {
                fields.insert("additionalProperties".to_owned(), json!(false));
            }
            fields.values_mut().for_each(strict);
        }
        Value::Array(items) => items.iter_mut().for_each(strict),
        _ => {}
    }
}

#[test]
fn the_examples_of_the_guide_are_as_the_schemas_say() {
    let mut all = messages();
    strict(&mut all["$defs"]);
    let mut looked_at = 0;
    for rest in GUIDE.split("\n```json ").skip(1) {
        let (name, rest) = rest.split_once('\n').expect("a line");
        let (text, _) = rest.split_once("\n```").expect("the block ends");
        let name = name.trim();
        let (name, is_list) = (name.trim_end_matches("[]"), name.ends_with("[]"));
        let of_one = match name {
            "String" => json!({"type": "string"}),
            name => json!({ "$ref": format!("#/$defs/{name}") }),
        };
        let mut schema = if is_list { json!({"type": "array", "items": of_one}) } else { of_one };
        schema["$defs"] = all["$defs"].clone();
        let validator = jsonschema::options().offline().build(&schema).expect("it is a schema");
        let example: Value = serde_json::from_str(text).expect("it is JSON");
        let wrong: Vec<String> =
            validator.iter_errors(&example).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
        looked_at += 1;
    }
    assert!(looked_at > 20, "{looked_at} examples");
}
