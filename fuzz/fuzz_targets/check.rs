//! What must hold for any bytes that are read as a spec: no panic, every problem lies in the text, a
//! workflow that comes out refers only to what it has, and in every other format it is the same.

use std::collections::HashSet;

use torc_core::diagnostics::{Problem, Severity};
use torc_core::spec::{Context, Format, Sources, convert, load};
use torc_core::workflow::Workflow;

/// The one file that there is under every name; `None`: there is none.
pub struct OneFile<'f>(pub Option<&'f str>);

impl Sources for OneFile<'_> {
    fn read(&self, _path: &str) -> Result<Vec<u8>, String> {
        self.0.map(|text| text.as_bytes().to_vec()).ok_or_else(|| "there are no files here".to_owned())
    }
}

/// Reads the bytes as a spec and checks what comes of it.
///
/// # Panics
/// When something does not hold.
pub fn check(bytes: &[u8], format: Format) {
    check_with(bytes, format, OneFile(None));
}

/// The same where there is a file. The workflow, if one comes out.
///
/// # Panics
/// When something does not hold.
pub fn check_with(bytes: &[u8], format: Format, file: OneFile<'_>) -> Option<Workflow> {
    if has_long_number(bytes) {
        return None;
    }
    let context = Context { user: Some("ada"), sources: &file };
    match load(bytes, Some(format), &context) {
        Ok(loaded) => {
            check_places(bytes, &loaded.warnings);
            assert!(loaded.warnings.iter().all(|found| found.severity == Severity::Warning));
            check_references(&loaded.workflow);
            for into in Format::ALL {
                let text = convert(bytes, Some(format), into).expect("a spec that loads converts");
                let again = load(text.as_bytes(), Some(into), &context);
                assert!(again.is_ok_and(|again| again.workflow == loaded.workflow), "{into:?}:\n{text}");
            }
            Some(loaded.workflow)
        }
        Err(rejected) => {
            check_places(bytes, &rejected.problems);
            assert!(rejected.problems.iter().any(|found| found.severity == Severity::Error));
            None
        }
    }
}

/// The texts of an input that has several, between record separators (ASCII 30).
pub fn fields<const N: usize>(bytes: &[u8]) -> Option<[&str; N]> {
    let mut all = std::str::from_utf8(bytes).ok()?.split('\u{1e}');
    Some(std::array::from_fn(|_| all.next().unwrap_or("")))
}

/// A range of millions is legal, and makes millions of jobs: that takes memory, but finds nothing.
fn has_long_number(bytes: &[u8]) -> bool {
    const DIGITS: usize = 4;
    bytes.windows(DIGITS).any(|window| window.iter().all(u8::is_ascii_digit))
}

fn check_places(bytes: &[u8], problems: &[Problem]) {
    for span in problems.iter().filter_map(|problem| problem.span) {
        assert!(span.start <= span.end && span.end <= bytes.len(), "{span:?} of {}", bytes.len());
        if let Ok(text) = std::str::from_utf8(bytes) {
            assert!(text.is_char_boundary(span.start) && text.is_char_boundary(span.end));
        }
    }
}

fn check_references(workflow: &Workflow) {
    let header = &workflow.header;
    let names: HashSet<_> = workflow.jobs.iter().map(|job| &*job.name).collect();
    assert_eq!(names.len(), workflow.jobs.len());
    for (index, job) in workflow.jobs.iter().enumerate() {
        assert!((job.requirements as usize) < header.requirements.len());
        assert!(job.depends_on.is_sorted());
        for other in &job.depends_on {
            assert!(other.index() < workflow.jobs.len() && other.index() != index);
        }
        if let Some(handler) = job.failure_handler {
            assert!((handler as usize) < header.failure_handlers.len());
        }
        if let Some(data) = &job.data {
            let files = data.input_files.iter().chain(&data.output_files);
            assert!(files.into_iter().all(|file| (*file as usize) < header.files.len()));
        }
    }
}
