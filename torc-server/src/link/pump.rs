//! What moves a channel's messages between its ends and its socket: one task a channel.
//!
//! Reading and writing never wait for each other, so two sides that send much to each other do not
//! block. Messages that wait together are flushed together. Invariant: once what arrived is taken, the
//! other side counts as gone after the silence that was agreed, also while writing to it is stuck.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout, timeout_at};

use super::channel::{Ended, Outgoing, Settings};
use super::socket::{Farewell, Frame, SocketError};
use crate::clock::STOOD_STILL;

/// Longest excerpt of a parser's complaint, in bytes: it may repeat what it read.
const LONGEST_COMPLAINT: usize = 200;

/// Where messages to be sent come from.
pub(super) struct Queue {
    pub(super) outgoing: mpsc::UnboundedReceiver<Outgoing>,
    /// Bytes in it.
    pub(super) waiting: Arc<AtomicUsize>,
}

/// Where messages that were received go to.
type Inbox<In> = mpsc::Sender<Result<In, Ended>>;

/// Works until the channel ends, and says how.
pub(super) async fn run<In: DeserializeOwned>(
    mut sink: impl Sink<Frame, Error = SocketError> + Unpin,
    mut stream: impl Stream<Item = Result<Frame, SocketError>> + Unpin,
    mut queue: Queue,
    (inbox, settings): (Inbox<In>, Settings),
) {
    let ended = {
        let mut reading = pin!(read(&mut stream, &inbox, settings));
        let writing = pin!(write(&mut sink, &mut queue, settings));
        tokio::select! {
            ended = &mut reading => ended,
            written = writing => match written {
                // The other side says farewell as well; it may send more before.
                Ok(reason) => match timeout(settings.farewell, reading).await {
                    Ok(ended @ Ended::Closed { .. }) => ended,
                    _ => Ended::Closed { reason },
                },
                // It may have said why it went.
                Err(error) => match timeout(settings.farewell, reading).await {
                    Ok(ended) => ended,
                    Err(_) => error.into(),
                },
            },
        }
    };
    queue.outgoing.close();
    if !matches!(ended, Ended::Lost(_) | Ended::Silent(_)) {
        let parting = finish(&mut sink, &mut stream, ended.farewell());
        let _ = timeout(settings.farewell, parting).await;
    }
    drop((sink, stream));
    let _ = inbox.send(Err(ended)).await;
}

/// Says farewell, if there is a reason to, and lets the answer to the other side's go out.
async fn finish(
    sink: &mut (impl Sink<Frame, Error = SocketError> + Unpin),
    stream: &mut (impl Stream<Item = Result<Frame, SocketError>> + Unpin),
    farewell: Option<Farewell>,
) {
    if let Some(farewell) = farewell {
        let _ = sink.send(Frame::Close(farewell)).await;
    }
    while let Some(Ok(_)) = stream.next().await {}
}

/// Ends after a farewell, with its reason.
async fn write(
    sink: &mut (impl Sink<Frame, Error = SocketError> + Unpin),
    queue: &mut Queue,
    settings: Settings,
) -> Result<String, SocketError> {
    let mut pings = interval_at(Instant::now() + settings.ping, settings.ping);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut next = tokio::select! {
            next = queue.outgoing.recv() => next,
            _ = pings.tick() => {
                sink.send(Frame::Ping).await?;
                continue;
            }
        };
        loop {
            match next {
                Some(Outgoing::Message(bytes)) => {
                    let size = bytes.len();
                    sink.feed(Frame::Message(bytes)).await?;
                    queue.waiting.fetch_sub(size, Ordering::Relaxed);
                }
                Some(Outgoing::Farewell(reason)) => return part(sink, reason).await,
                None => return part(sink, String::new()).await,
            }
            next = match queue.outgoing.try_recv() {
                Ok(next) => Some(next),
                Err(TryRecvError::Disconnected) => None,
                Err(TryRecvError::Empty) => break,
            };
        }
        sink.flush().await?;
    }
}

async fn part(
    sink: &mut (impl Sink<Frame, Error = SocketError> + Unpin),
    reason: String,
) -> Result<String, SocketError> {
    let farewell = Farewell { code: Farewell::NORMAL, reason: reason.clone() };
    sink.send(Frame::Close(farewell)).await?;
    Ok(reason)
}

/// Ends with the channel.
async fn read<In: DeserializeOwned>(
    stream: &mut (impl Stream<Item = Result<Frame, SocketError>> + Unpin),
    inbox: &Inbox<In>,
    settings: Settings,
) -> Ended {
    loop {
        // Only waiting for the other side counts, not waiting until our own takes what came.
        let until = Instant::now() + settings.silence;
        let frame = match timeout_at(until, stream.next()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(error))) => return error.into(),
            Ok(None) => return Ended::Lost("it ended without a farewell".to_owned()),
            // This process was given no time, as in an allocation that is suspended, and the other side
            // perhaps none either.
            Err(_) if until.elapsed() >= STOOD_STILL => continue,
            Err(_) => return Ended::Silent(settings.silence),
        };
        match frame {
            Frame::Message(bytes) => match serde_json::from_slice(&bytes) {
                Ok(message) => {
                    let _ = inbox.send(Ok(message)).await;
                }
                Err(error) => {
                    let mut complaint = error.to_string();
                    complaint.truncate(complaint.floor_char_boundary(LONGEST_COMPLAINT));
                    return Ended::Unreadable(complaint);
                }
            },
            Frame::Ping | Frame::Pong => {}
            Frame::Close(farewell) => return Ended::Closed { reason: farewell.reason },
        }
    }
}

impl Ended {
    /// What to tell the other side, if the fault is its.
    fn farewell(&self) -> Option<Farewell> {
        let code = match self {
            Self::TooLong(_) => Farewell::TOO_LONG,
            Self::Unreadable(_) => Farewell::UNREADABLE,
            _ => return None,
        };
        let reason = match self {
            Self::TooLong(error) => error.to_string(),
            _ => "a message cannot be read".to_owned(),
        };
        Some(Farewell { code, reason })
    }
}

impl From<SocketError> for Ended {
    fn from(error: SocketError) -> Self {
        match error {
            SocketError::TooLong { .. } => Self::TooLong(error),
            SocketError::Broken(reason) => Self::Lost(reason),
        }
    }
}
