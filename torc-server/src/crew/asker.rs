//! How a job on several nodes starts a command on another of them: it asks the leader of the crew.
//!
//! Owns: the question, and what of its output is passed on. Does not know: who asks. Invariant: it returns only when
//! the command has ended, or the leader is gone; if whoever asks is gone, the leader has the command killed.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use hyper::HeaderMap;
use torc_core::wire::crew::{FromNode, HelperStart, ToNode};

use super::post::{Access, ROUTE};
use crate::link::channel::{Channel, Ended, SendError, Settings};
use crate::link::client::{Client, ClientError};

/// How often it is looked for new output.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Where output of the command came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Error,
}

/// The command could not be started, or its end is not known.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody leads.
    #[error("the leader of the crew cannot be reached: {0}")]
    Unreached(#[from] ClientError),
    /// The question could not be put.
    #[error("the leader of the crew could not be asked: {0}")]
    Unsaid(#[from] SendError),
    /// It is not for this job to start.
    #[error("{0}")]
    Refused(String),
    /// The connection was lost.
    #[error("the leader of the crew is gone: {0}")]
    Lost(#[from] Ended),
}

/// Has a command started, passes on what it says, and returns its exit code: 128 + n after signal n, 255 when it was
/// not started or is lost.
///
/// # Errors
/// When the leader does not do that, or goes.
pub async fn start_on_node(
    access: &Access,
    start: HelperStart,
    mut pass_on: impl FnMut(Stream, &[u8]),
) -> Result<i32, AskError> {
    let client = Client::connect(&access.remote).await?;
    let settings = Settings::default();
    let socket = client.websocket(ROUTE, HeaderMap::new(), &settings).await?;
    let mut link: Channel<ToNode, FromNode> = Channel::over(socket, settings);
    link.sender.send(&FromNode::Start(Box::new(start)))?;
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut outputs = Vec::new();
    loop {
        tokio::select! {
            told = link.receiver.next() => match told? {
                ToNode::HelperStarted { stdout, stderr } => {
                    outputs = vec![Output::of(Stream::Out, stdout), Output::of(Stream::Error, stderr)];
                }
                ToNode::HelperEnded(code) => {
                    for mut output in outputs {
                        output.pass_on(&mut pass_on);
                        // It goes with the crew otherwise.
                        let _ = std::fs::remove_file(&output.path);
                    }
                    return Ok(code);
                }
                ToNode::Refused { reason, .. } => return Err(AskError::Refused(reason)),
                _ => {}
            },
            _ = looks.tick() => outputs.iter_mut().for_each(|output| output.pass_on(&mut pass_on)),
        }
    }
}

/// A file that a command's output goes to.
struct Output {
    stream: Stream,
    path: PathBuf,
    passed_on: u64,
}

impl Output {
    fn of(stream: Stream, path: String) -> Self {
        Self { stream, path: path.into(), passed_on: 0 }
    }

    /// What is new in it. It is opened each time: some network file systems show it only then.
    fn pass_on(&mut self, take: &mut impl FnMut(Stream, &[u8])) {
        let mut found = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.passed_on))?;
            file.read_to_end(&mut found)
        });
        // It may not be there yet.
        if read.is_ok() && !found.is_empty() {
            self.passed_on += found.len() as u64;
            take(self.stream, &found);
        }
    }
}
