//! The same spec in four formats, and from each into each.

use super::super::{Format, convert};
use super::load_bytes;
use crate::workflow::Workflow;

pub(super) const YAML: &str = include_str!("twins/all.yaml");

/// A spec as somebody would write it by hand in each format.
const TWINS: [(Format, &str); 4] = [
    (Format::Yaml, YAML),
    (Format::Json, include_str!("twins/all.json")),
    (Format::Json5, include_str!("twins/all.json5")),
    (Format::Kdl, include_str!("twins/all.kdl")),
];

const EXAMPLES: [(&str, &str); 9] = [
    ("diamond.yaml", include_str!("../../../../examples/diamond.yaml")),
    ("direct.yaml", include_str!("../../../../examples/direct.yaml")),
    ("heat.yaml", include_str!("../../../../examples/heat.yaml")),
    ("pi.yaml", include_str!("../../../../examples/pi.yaml")),
    ("primes.json", include_str!("../../../../examples/primes.json")),
    ("priorities.yaml", include_str!("../../../../examples/priorities.yaml")),
    ("retries.yaml", include_str!("../../../../examples/retries.yaml")),
    ("slurm.yaml", include_str!("../../../../examples/slurm.yaml")),
    ("sweep.yaml", include_str!("../../../../examples/sweep.yaml")),
];

#[track_caller]
fn workflow(text: &str, format: Option<Format>) -> Workflow {
    match load_bytes(text.as_bytes(), format) {
        Ok(loaded) => loaded.workflow,
        Err(rejected) => panic!("{format:?}\n{}\n{text}", super::shown(text, &rejected.problems)),
    }
}

#[test]
fn twins_are_the_same_workflow() {
    let expected = workflow(TWINS[0].1, Some(Format::Yaml));
    for (format, text) in TWINS {
        assert_eq!(workflow(text, Some(format)), expected, "{format:?}");
        assert_eq!(workflow(text, None), expected, "{format:?}, not told");
    }
}

#[test]
fn each_format_converts_into_each() {
    let expected = workflow(TWINS[0].1, Some(Format::Yaml));
    for (from, text) in TWINS {
        for into in Format::ALL {
            let converted = convert(text.as_bytes(), Some(from), into).unwrap();
            assert_eq!(
                workflow(&converted, Some(into)),
                expected,
                "{from:?} into {into:?}\n{converted}"
            );
            let again = convert(converted.as_bytes(), Some(into), into).unwrap();
            assert_eq!(again, converted, "{from:?} into {into:?}");
        }
    }
}

#[test]
fn examples_convert_into_each_format() {
    for (name, text) in EXAMPLES {
        let from = Format::from_extension(name);
        let expected = workflow(text, from);
        for into in Format::ALL {
            let converted = convert(text.as_bytes(), from, into).unwrap();
            assert_eq!(
                workflow(&converted, Some(into)),
                expected,
                "{name} into {into:?}\n{converted}"
            );
        }
    }
}

/// A spec that is not read is not written; one that names files that are not here is.
#[test]
fn what_is_wrong_is_not_converted() {
    let rejected = convert(b"name: w\njbs: []\n", None, Format::Kdl).unwrap_err();
    let codes: Vec<_> = rejected.problems.iter().map(|problem| problem.code).collect();
    assert_eq!(codes, ["spec::missing-field", "spec::unknown-field"]);
    let text = b"name: w\nparameters_file: gone.csv\njobs: [{name: a, command: b, use_parameters_file: true}]\n";
    convert(text, None, Format::Kdl).unwrap();
}
