//! What it costs to read a spec of a hundred thousand jobs, from one range or written out.

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use torc_core::spec::{Context, Format, Sources, convert, load};

const JOBS: usize = 100_000;

/// The specs measured name no files.
struct NoFiles;

impl Sources for NoFiles {
    fn read(&self, _path: &str) -> Result<Vec<u8>, String> {
        Err("there are no files".to_owned())
    }
}

fn range() -> String {
    format!(
        "name: range\njobs:\n- name: job_{{i:06d}}\n  command: python3 work.py --index {{i}}\n  \
         parameters: {{i: '1:{JOBS}'}}\n"
    )
}

fn chain_of_ranges() -> String {
    format!(
        "name: chains\njobs:\n- {{name: 'a_{{i}}', command: 'a {{i}}', parameters: {{i: '1:{0}'}}}}\n\
         - {{name: 'b_{{i}}', command: 'b {{i}}', depends_on_regexes: ['^a_{{i}}_?$'], \
         parameters: {{i: '1:{0}'}}}}\n",
        JOBS / 2
    )
}

/// Each job waits for one of half its number.
fn written_out(format: Format) -> String {
    let mut text = "name: written\njobs:\n".to_owned();
    for job in 0..JOBS {
        let first = if job == 0 { String::new() } else { format!("job_{}", job / 2) };
        let written = writeln!(
            text,
            "  - name: job_{job}\n    command: python3 work.py --index {job}\n    depends_on: [{first}]"
        );
        written.expect("a string grows");
    }
    convert(text.as_bytes(), Some(Format::Yaml), format).expect("it is valid")
}

fn benches(criterion: &mut Criterion) {
    let context = Context { user: None, sources: &NoFiles };
    let mut group = criterion.benchmark_group("100000 jobs");
    group.sample_size(10);
    for (name, text, format) in [
        ("one range", range(), Format::Yaml),
        ("two ranges, a regex for each job", chain_of_ranges(), Format::Yaml),
        ("written out in YAML", written_out(Format::Yaml), Format::Yaml),
        ("written out in JSON", written_out(Format::Json), Format::Json),
        ("written out in JSON5", written_out(Format::Json5), Format::Json5),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let loaded = load(black_box(text.as_bytes()), Some(format), &context);
                assert_eq!(loaded.map(|loaded| loaded.workflow.jobs.len()), Ok(JOBS));
            });
        });
    }
    group.finish();
}

criterion_group!(spec, benches);
criterion_main!(spec);
