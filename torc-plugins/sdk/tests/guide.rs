//! The examples of the guide are what the types of this crate say: each is read as its type, and written again.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use torc_plugin::messages::{
    AllocationRequest, AllocationState, Cancel, Event, Explain, Find, InventoryAnswer, LaunchPlan,
    LaunchPlanRequest, LaunchRequest, Observe, Outcome, Plan, PlanRequest, Rebuild, Reconcile,
    Shapes, SignalRequest, StepState, Submit, Waiting,
};

const GUIDE: &str = include_str!("../../../docs/plugins.md");

/// The blocks of JSON that say of which type they are, with it.
fn examples() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for rest in GUIDE.split("\n```json ").skip(1) {
        let (name, rest) = rest.split_once('\n').expect("a line");
        let (text, _) = rest.split_once("\n```").expect("the block ends");
        let value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        found.push((name.to_owned(), value));
    }
    found
}

/// A field that is null says as much as one that is left out.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        Value::Array(values) => values.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

fn again<T: DeserializeOwned + Serialize>(value: &Value) -> Result<Value, serde_json::Error> {
    serde_json::to_value(serde_json::from_value::<T>(value.clone())?)
}

macro_rules! types {
    ($($type:ident),* $(,)?) => {
        /// Reads a value as a type, and writes it again.
        fn as_type(name: &str, value: &Value) -> Result<Value, serde_json::Error> {
            match name {
                $(
                    stringify!($type) => again::<$type>(value),
                    concat!(stringify!($type), "[]") => again::<Vec<$type>>(value),
                )*
                other => panic!("there is no type {other}"),
            }
        }

        const ALL: &[&str] = &[$(stringify!($type)),*];
    };
}

types!(
    LaunchPlanRequest,
    LaunchPlan,
    InventoryAnswer,
    LaunchRequest,
    SignalRequest,
    Reconcile,
    StepState,
    Event,
    Outcome,
    AllocationRequest,
    Shapes,
    Submit,
    String,
    Find,
    Observe,
    AllocationState,
    Cancel,
    PlanRequest,
    Plan,
    Explain,
    Waiting,
    Rebuild,
);

#[test]
fn each_example_of_the_guide_is_of_its_type() {
    for (name, value) in examples() {
        let again = as_type(&name, &value).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(without_nulls(again), without_nulls(value), "{name}");
    }
}

#[test]
fn the_guide_has_an_example_of_each_message() {
    let named: BTreeSet<String> =
        examples().into_iter().map(|(name, _)| name.trim_end_matches("[]").to_owned()).collect();
    let all: BTreeSet<String> = ALL.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(named, all);
}
