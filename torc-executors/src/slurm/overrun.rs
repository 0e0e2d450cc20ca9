//! What slurmstepd says where it ends a step for its memory.
//!
//! Where memory is sampled and not confined (slurm.conf(5), JobAcctGatherParams=OverMemoryKill), srun and
//! the accounting tell only that a task was killed. The reason stands in the step's own error output.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use torc_core::traits::StdioPaths;

/// How far back from its end the output is read: slurmstepd's words are among the last.
const TAIL_BYTES: u64 = 16 << 10;

/// The bytes of memory that the step used when it was ended for that. `step` is Slurm's name for it, as
/// in `41.3`. `None`: nothing says so.
pub(super) fn memory_used(stdio: &StdioPaths, step: &str) -> Option<u64> {
    let path = stdio.stderr.as_deref().or(stdio.stdout.as_deref())?;
    told(&tail(path).ok()?, step)
}

fn tail(path: &str) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `slurmstepd-n1: error: StepId=5.0 exceeded memory limit (433127424 > 52428800), being killed`
fn told(text: &str, step: &str) -> Option<u64> {
    let words = format!(": error: StepId={step} exceeded memory limit (");
    let (before, numbers) = text.rsplit_once(&words)?;
    let speaker = before.rsplit(char::is_whitespace).next()?;
    let used = numbers.split(' ').next()?;
    speaker.contains("slurmstepd").then(|| used.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_slurmstepd_tells_and_only_of_this_step() {
        let of = |text: &str| told(text, "5.0");
        let words = "error: StepId=5.0 exceeded memory limit (433127424 > 52428800), being killed";
        assert_eq!(of(&format!("x\nslurmstepd-n1: {words}\n")), Some(433_127_424));
        assert_eq!(
            of(&format!("without an end of lineslurmstepd: {words}\nlast")),
            Some(433_127_424)
        );
        assert_eq!(of(&format!("mine: {words}")), None);
        assert_eq!(of(&format!("slurmstepd: {}", words.replace("5.0", "5.01"))), None);
        assert_eq!(of("slurmstepd: error: StepId=5.0 exceeded memory limit (much"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn the_last_words_are_found_in_a_long_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("err");
        let mut text = vec![0xff; 1 << 20];
        text.extend(
            b"\nslurmstepd: error: StepId=7.2 exceeded memory limit (9 > 8), being killed\n",
        );
        std::fs::write(&path, text).expect("is written");
        let path = path.to_str().map(Into::into);
        let stdio = StdioPaths { stdout: path, stderr: None, delete_on_success: false };
        assert_eq!(memory_used(&stdio, "7.2"), Some(9));
        let none = StdioPaths { stdout: None, stderr: None, delete_on_success: false };
        assert_eq!(memory_used(&none, "7.2"), None);
    }
}
