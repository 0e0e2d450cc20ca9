//! What a launcher says on standard error, cut into lines.
//!
//! Never blocks, and never holds more than one line that has not ended.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ChildStderr;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// The longest line, in bytes; longer ones are cut. Launchers print host lists.
const LONGEST_LINE: usize = 64 * 1024;

/// Bytes read at once.
const READ_SIZE: usize = 8 * 1024;

/// The reading end of a launcher's standard error.
#[derive(Debug)]
pub(super) struct Relay {
    pipe: Option<File>,
    line: Vec<u8>,
}

impl Relay {
    /// Reads from this pipe.
    ///
    /// # Errors
    /// When it cannot be made not to block.
    pub(super) fn new(pipe: ChildStderr) -> io::Result<Self> {
        let pipe = File::from(OwnedFd::from(pipe));
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { pipe: Some(pipe), line: Vec::new() })
    }

    /// What to wait for; `None` when nothing more will come.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// The lines that have been completed since the last call.
    pub(super) fn lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut buffer = [0; READ_SIZE];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) => self.take(&buffer[..count], &mut lines),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return lines,
                Err(_) => self.pipe = None,
            }
        }
        lines.extend(self.rest());
        lines
    }

    /// What was said last without an end of line.
    pub(super) fn rest(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        (!line.is_empty()).then(|| text(&line))
    }

    fn take(&mut self, bytes: &[u8], lines: &mut Vec<String>) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (piece, has_ended) = match piece.strip_suffix(b"\n") {
                Some(piece) => (piece, true),
                None => (piece, false),
            };
            let room = LONGEST_LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if has_ended {
                lines.push(text(&std::mem::take(&mut self.line)));
            }
        }
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn said(script: &str) -> Vec<String> {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stderr(Stdio::piped());
        let mut child = command.spawn().expect("a shell starts");
        let mut relay = Relay::new(child.stderr.take().expect("is piped")).expect("a relay");
        assert!(child.wait().expect("is reaped").success());
        let lines = relay.lines();
        assert!(relay.descriptor().is_none(), "its end was seen");
        lines
    }

    #[test]
    fn lines_are_cut() {
        assert_eq!(said("printf 'a\\n\\nb c\\nrest' >&2"), ["a", "", "b c", "rest"]);
        assert_eq!(said("printf '\\377\\n' >&2"), ["\u{fffd}"]);
        assert_eq!(said("true"), [""; 0]);
    }

    #[test]
    fn a_long_line_is_cut_short() {
        let mut relay = Relay { pipe: None, line: Vec::new() };
        let mut lines = Vec::new();
        for _ in 0..3 {
            relay.take(&vec![b'x'; LONGEST_LINE], &mut lines);
        }
        relay.take(b"\nnext\n", &mut lines);
        let lengths: Vec<usize> = lines.iter().map(String::len).collect();
        assert_eq!(lengths, [LONGEST_LINE, 4]);
    }
}
