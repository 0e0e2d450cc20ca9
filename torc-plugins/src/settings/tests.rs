//! What is said of settings, and what a schema may cost.

use serde_json::json;

use super::*;

/// What is wrong: way, message, label and help, each a line.
#[track_caller]
fn check(schema: Value, settings: Value, expected: &[&str]) {
    let Value::Object(settings) = settings else { panic!("settings are a map") };
    let wrong = judge(Some(&schema), &settings).expect("it is a schema");
    let shown = wrong.iter().map(|one| {
        let mut way: String = one
            .at
            .iter()
            .map(|step| match step {
                PathStep::Field(field) => format!("/{field}"),
                PathStep::Item(index) => format!("/{index}"),
            })
            .collect();
        if let Some(field) = &one.field {
            way += &format!("/{field}!");
        }
        let help = one.help.as_deref().unwrap_or("-");
        format!("{way}: {}; {}; {help}", one.message, one.label)
    });
    assert_eq!(shown.collect::<Vec<_>>(), expected);
}

fn schema() -> Value {
    json!({
        "type": "object", "additionalProperties": false, "required": ["queue"],
        "properties": {
            "queue": {"type": "string", "description": "where it waits"},
            "slots": {"type": "integer", "minimum": 1, "description": "on each host"},
            "kind": {"enum": ["short", "long", 7]},
            "hosts": {"$ref": "#/$defs/hosts"},
        },
        "$defs": {"hosts": {"type": "array", "items": {
            "type": "object", "additionalProperties": false, "required": ["name"],
            "properties": {"name": {"type": "string"}, "weight": {"type": ["number", "null"]}}}}}
    })
}

#[test]
fn all_that_is_wrong_is_said_at_once_each_with_its_way() {
    check(schema(), json!({"queue": "q", "slots": 2, "hosts": [{"name": "n"}]}), &[]);
    check(
        schema(),
        json!({"qeue": "q", "slots": 0, "kind": "shrt",
            "hosts": [{"name": "n"}, {"nam": "n", "name": 3, "weight": "x"}, {}]}),
        &[
            "/slots: `slots` must be at least 1; this is a whole number: 0; on each host",
            "/kind: `kind` cannot be `shrt`; this is a string; did you mean `short`?",
            "/hosts/1/name: `hosts[1].name` must be a string; this is a whole number: 3; -",
            "/hosts/1/weight: `hosts[1].weight` must be null or a number; this is a string; -",
            "/hosts/1/nam!: there is no setting `hosts[1].nam`; unknown setting; did you mean `name`?",
            "/hosts/2: the setting `hosts[2].name` is needed; `name` is missing; -",
            "/qeue!: there is no setting `qeue`; unknown setting; did you mean `queue`?",
            ": the setting `queue` is needed; `queue` is missing; where it waits",
        ],
    );
    check(
        schema(),
        json!({"queue": ["q"], "kind": 8, "zzz": 1}),
        &[
            "/queue: `queue` must be a string; this is a list; where it waits",
            "/kind: `kind` cannot be 8; this is a whole number: 8; it is one of `short`, `long`, 7",
            "/zzz!: there is no setting `zzz`; unknown setting; there are: queue, slots, kind, hosts",
        ],
    );
}

#[test]
fn each_keyword_has_words() {
    #[track_caller]
    fn words(schema: Value, value: Value, expected: &str) {
        let schema = json!({"properties": {"a": schema}});
        let settings = json!({ "a": value });
        let wrong = judge(Some(&schema), settings.as_object().expect("a map")).expect("a schema");
        assert_eq!(wrong[0].message, expected);
    }
    words(json!({"maximum": 3}), json!(4), "`a` must be at most 3");
    words(json!({"exclusiveMaximum": 3}), json!(3), "`a` must be less than 3");
    words(json!({"exclusiveMinimum": 3}), json!(3), "`a` must be more than 3");
    words(json!({"multipleOf": 3}), json!(4), "`a` must be a multiple of 3");
    words(json!({"minLength": 3}), json!("x"), "`a` must have at least 3 characters");
    words(json!({"maxItems": 0}), json!([1]), "`a` must have at most 0 items");
    words(json!({"minProperties": 1}), json!({}), "`a` must have at least 1 fields");
    words(json!({"uniqueItems": true}), json!([1, 1]), "`a` has an item twice");
    words(json!({"const": "x"}), json!("y"), "`a` has to be `x`");
    words(json!({"pattern": "^x+$"}), json!("y"), "`a` must be like the pattern `^x+$`");
    words(json!(false), json!("y"), "`a` may not be there");
    words(
        json!({"anyOf": [{"type": "string"}, {"minimum": 3}]}),
        json!(1),
        "`a` is none of what it may be: 1 is not of type \"string\"; or 1 is less than the minimum of 3",
    );
    words(
        json!({"not": {"type": "string"}}),
        json!("x"),
        "`a`: {\"type\":\"string\"} is not allowed for \"x\"",
    );
}

#[test]
fn a_schema_that_is_none_is_told_with_the_place_in_it_and_nothing_is_fetched() {
    #[track_caller]
    fn bad(schema: Value, expected: &str) {
        let words = judge(Some(&schema), &Map::new()).expect_err("it is none");
        assert!(words.contains(expected), "{words}");
        assert_eq!(fault(&schema), Some(words));
    }
    bad(
        json!({"properties": {"a": {"type": "int"}}}),
        "`/properties/a/type` is \"int\", and not one of",
    );
    bad(json!({"properties": {"a": {"pattern": "("}}}), "`/properties/a/pattern`: ");
    bad(json!({"$ref": "https://example.org/schema.json"}), "Retrieval is disabled");
    bad(json!({"$ref": "file:///etc/hostname"}), "Retrieval is disabled");
    bad(json!({"$ref": "#/$defs/none"}), "'/$defs/none' does not exist");
    bad(json!({"$schema": "https://example.org/own"}), "https://example.org/own");
    let old = json!({"$schema": "http://json-schema.org/draft-04/schema#", "type": "object"});
    assert_eq!(fault(&old), None, "older drafts are known");
    assert_eq!(judge(None, &Map::new()), Ok(Vec::new()));
}

/// Definitions that each refer to the next, so many times.
fn chain(length: usize, times: usize, by: &str) -> Value {
    let next = |at| json!({by: vec![json!({"$ref": format!("#/$defs/d{}", at + 1)}); times]});
    let mut defs: Map<String, Value> = (0..length).map(|at| (format!("d{at}"), next(at))).collect();
    defs.insert(format!("d{length}"), json!({"type": "string"}));
    json!({"$defs": defs, "$ref": "#/$defs/d0"})
}

#[test]
fn a_schema_costs_no_more_than_is_reasonable() {
    let too_much = |schema: &Value| judge(Some(schema), &Map::new()).expect_err("it is too much");
    for by in ["allOf", "anyOf", "oneOf"] {
        let words = too_much(&chain(40, 2, by));
        assert_eq!(words, "with all that it refers to it has more than 200000 values");
    }
    assert_eq!(too_much(&json!({"enum": vec![0; 30_000]})), "it has more than 20000 values");
    let text = "x".repeat(2 << 20);
    assert_eq!(too_much(&json!({ "description": text })), "it has more than 1048576 bytes of text");
    let mut deep = json!({});
    // No message is deeper: serde_json does not read it.
    for _ in 0..128 {
        deep = json!({ "not": deep });
    }
    assert!(judge(Some(&deep), &Map::new()).is_ok(), "it is deep, and is looked at");
    let wrong = judge(Some(&chain(2_000, 1, "allOf")), &Map::new()).expect("a long way");
    assert_eq!(wrong[0].message, "the settings must be a string");
    for cycle in [
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}, {"$ref": "#"}]}),
        json!({"$dynamicAnchor": "a", "anyOf": [{"$dynamicRef": "#a"}]}),
        json!({"$anchor": "a", "not": {"not": {"$ref": "#a"}}}),
    ] {
        assert_eq!(judge(Some(&cycle), &Map::new()), Ok(Vec::new()), "{cycle}");
    }
    // This would be tried in more ways than there is time for.
    let pattern = json!({"properties": {"a": {"pattern": "^(?=.*x)((a|aa)+)+\\1$"}}});
    let settings = json!({"a": format!("x{}!", "a".repeat(200))});
    let wrong = judge(Some(&pattern), settings.as_object().expect("a map")).expect("a schema");
    assert_eq!(wrong.len(), 1, "it is given up, and not taken for good");
}
