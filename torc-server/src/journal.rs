//! The journal of a worker: the ends of steps that its server has not acknowledged.
//!
//! One file an allocation, one JSON object a line, in `<output_dir>/journal/`. The worker appends before
//! it reports; the server reads the file of a worker that is gone before it calls anything lost. What
//! is written survives the end of the worker, not that of its node.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use torc_core::ids::{AllocationId, StepId, WorkflowId};
use torc_core::traits::StepEvent;

const FOLDER: &str = "journal";
/// Longest line that is read; an end with its outcome takes some hundred bytes.
const LONGEST_LINE: u64 = 16 << 20;

/// The journal of an allocation's worker.
pub(crate) fn path(output_dir: &Path, workflow: WorkflowId, allocation: AllocationId) -> PathBuf {
    output_dir.join(FOLDER).join(format!("wf{workflow}_al{allocation}.jsonl"))
}

/// A journal that is being written.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    /// In the order of their ends.
    kept: Vec<StepEvent>,
    is_empty: bool,
    /// The file ends within a line: what comes next begins a new one, or it would be lost with it.
    is_torn: bool,
}

impl Journal {
    /// Opens it, with what is in it.
    ///
    /// # Errors
    /// When it cannot be made or read.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let kept = read(path)?;
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).mode(0o600).open(path)?;
        Ok(Self { is_torn: ends_within_a_line(&file)?, file, is_empty: kept.is_empty(), kept })
    }

    /// The ends that were not acknowledged.
    pub(crate) fn kept(&self) -> &[StepEvent] {
        &self.kept
    }

    /// Keeps an end until it is acknowledged.
    ///
    /// # Errors
    /// When it cannot be written; it is kept in memory all the same.
    pub(crate) fn keep(&mut self, ended: StepEvent) -> io::Result<()> {
        let mut line = serde_json::to_vec(&ended)?;
        line.push(b'\n');
        self.kept.push(ended);
        self.is_empty = false;
        if self.is_torn {
            line.insert(0, b'\n');
        }
        // Where it fails, a part of the line may have been written.
        self.is_torn = true;
        self.file.write_all(&line)?;
        self.is_torn = false;
        Ok(())
    }

    /// Lets go of what the server has made durable.
    ///
    /// # Errors
    /// When the file cannot be shortened; what stays in it is only reported once more.
    pub(crate) fn let_go(&mut self, steps: &[StepId]) -> io::Result<()> {
        self.kept.retain(|kept| step_of(kept).is_none_or(|step| !steps.contains(&step)));
        if self.kept.is_empty() && !self.is_empty {
            self.file.set_len(0)?;
            self.is_empty = true;
            self.is_torn = false;
        }
        Ok(())
    }
}

fn ends_within_a_line(file: &File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if let Some(place) = length.checked_sub(1) {
        file.read_exact_at(&mut last, place)?;
    }
    Ok(last != [b'\n'])
}

fn step_of(event: &StepEvent) -> Option<StepId> {
    match event {
        StepEvent::Started { step, .. } | StepEvent::Ended { step, .. } => Some(*step),
        StepEvent::NodeChanged { .. } => None,
    }
}

/// What a journal holds; nothing when there is none. A last line that was cut off by the end of its
/// writer is passed over, and so is anything else that is no end of a step.
///
/// # Errors
/// When it exists and cannot be read.
pub(crate) fn read(path: &Path) -> io::Result<Vec<StepEvent>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    let mut reader = BufReader::new(file);
    let mut ends = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(ends);
        }
        match serde_json::from_slice(&line) {
            Ok(ended @ StepEvent::Ended { .. }) => ends.push(ended),
            Ok(_) => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "a line is passed over"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use torc_core::ids::{AttemptId, JobId, RunId};
    use torc_core::time::Timestamp;
    use torc_core::traits::{Outcome, Usage};

    fn ended(job: u32) -> StepEvent {
        let step = StepId {
            workflow: WorkflowId(1),
            job: JobId(job),
            run: RunId(1),
            attempt: AttemptId::FIRST,
        };
        let (outcome, usage) = (Outcome::Exited { code: 0 }, Usage::default());
        StepEvent::Ended { step, at: Timestamp(7), outcome, usage }
    }

    fn steps(events: &[StepEvent]) -> Vec<StepId> {
        events.iter().filter_map(step_of).collect()
    }

    #[test]
    fn ends_are_there_until_they_are_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path(), WorkflowId(1), AllocationId(2));
        let mut journal = Journal::open(&path).unwrap();
        for job in 1..=3 {
            journal.keep(ended(job)).unwrap();
        }
        assert_eq!(read(&path).unwrap(), [ended(1), ended(2), ended(3)]);
        journal.let_go(&steps(&[ended(2)])).unwrap();
        assert_eq!(journal.kept(), [ended(1), ended(3)]);
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(journal.kept().len(), 3, "what is acknowledged late is reported twice");
        journal.let_go(&steps(&[ended(1), ended(2), ended(3)])).unwrap();
        assert_eq!(read(&path).unwrap(), []);
        journal.keep(ended(4)).unwrap();
        assert_eq!(read(&path).unwrap(), [ended(4)]);
    }

    #[test]
    fn garbage_and_a_line_that_was_cut_off_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        assert_eq!(read(&path).unwrap(), []);
        let whole = serde_json::to_string(&ended(1)).unwrap();
        std::fs::write(&path, format!("\0\u{1}nonsense\n{whole}\n[]\n{}", &whole[..40])).unwrap();
        assert_eq!(read(&path).unwrap(), [ended(1)]);
        let mut journal = Journal::open(&path).unwrap();
        journal.keep(ended(2)).unwrap();
        journal.keep(ended(3)).unwrap();
        assert_eq!(read(&path).unwrap(), [ended(1), ended(2), ended(3)], "it takes no other along");
    }

    #[test]
    fn a_line_that_could_not_be_written_whole_takes_no_other_along() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::open(&path).unwrap();
        journal.keep(ended(1)).unwrap();
        let writable = std::mem::replace(&mut journal.file, File::open(&path).unwrap());
        journal.keep(ended(2)).unwrap_err();
        // As much of it as there was room for.
        journal.file = writable;
        journal.file.write_all(b"{\"event\":").unwrap();
        journal.keep(ended(3)).unwrap();
        assert_eq!(read(&path).unwrap(), [ended(1), ended(3)]);
        assert_eq!(journal.kept(), [ended(1), ended(2), ended(3)], "it can still be reported");
    }
}
