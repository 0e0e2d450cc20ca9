//! Typed messages over a WebSocket, in both directions at once.
//!
//! Knows neither what is said nor who connects. Sending never waits. Messages arrive in the order in
//! which they were sent, each once, or the channel ends; whether the last ones arrived is not known
//! then, so who must know has them acknowledged.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::ws::WebSocketUpgrade;
use axum::response::Response;
use hyper::body::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::pump;
use super::socket::{Socket, SocketError};

/// Received messages that wait to be taken; then reading waits, and with it the other side.
const INBOX: usize = 1024;
/// Bytes read at a time, and held for that by each connection. The library clears them before each
/// read, so that with its own 128 KiB a server of many workers does little else. Longer messages than
/// this are read in parts.
const READ_BUFFER: usize = 8 << 10;

/// How a channel behaves. Both sides should have the same.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How often to show that this side is there.
    pub ping: Duration,
    /// How long the other side may be silent before it counts as gone. A message must arrive as a
    /// whole within it.
    pub silence: Duration,
    /// How long a farewell may take.
    pub farewell: Duration,
    /// Longest message in bytes.
    pub longest: usize,
    /// Bytes that may wait to be sent.
    pub backlog: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ping: Duration::from_secs(15),
            silence: Duration::from_secs(45),
            farewell: Duration::from_secs(5),
            longest: 64 << 20,
            backlog: 512 << 20,
        }
    }
}

impl Settings {
    pub(super) fn websocket(&self) -> WebSocketConfig {
        WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .max_message_size(Some(self.longest))
            .max_frame_size(Some(self.longest))
    }
}

/// A message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The channel has ended; [`Receiver::next`] tells how.
    #[error("the connection has ended")]
    Ended,
    /// It is too long.
    #[error("a message of {size} bytes, more than the {longest} that a message may have")]
    TooLong {
        /// Its size in bytes.
        size: usize,
        /// What a message may have.
        longest: usize,
    },
    /// The other side is there but takes nothing.
    #[error("{waiting} bytes wait to be sent; the other side does not take them")]
    Full {
        /// What waits, in bytes.
        waiting: usize,
    },
    /// It cannot be written as JSON.
    #[error("a message cannot be written: {0}")]
    Unwritable(String),
}

/// How a channel ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// One side said farewell, in these words.
    #[error("the connection was closed{}", if .reason.is_empty() { String::new() } else { format!(": {}", .reason) })]
    Closed {
        /// The words; may be empty.
        reason: String,
    },
    /// Nothing came for so long.
    #[error("the other side was silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// The other side sent too much at once.
    #[error("the other side sent {0}")]
    TooLong(SocketError),
    /// The other side sent what is no message.
    #[error("the other side sent what cannot be read: {0}")]
    Unreadable(String),
    /// The connection broke off.
    #[error("the connection broke off: {0}")]
    Lost(String),
}

/// What waits to be sent.
pub(super) enum Outgoing {
    Message(Bytes),
    /// The last thing that is sent, with the reason.
    Farewell(String),
}

/// One side of a channel.
pub struct Channel<In, Out> {
    /// Sends.
    pub sender: Sender<Out>,
    /// Receives.
    pub receiver: Receiver<In>,
}

impl<In: DeserializeOwned + Send + 'static, Out: Serialize> Channel<In, Out> {
    /// A channel over this socket. Must be called within a runtime.
    pub fn over(socket: impl Socket, settings: Settings) -> Self {
        let (sink, stream) = socket.split();
        let (outbox, outgoing) = mpsc::unbounded_channel();
        let (incoming, inbox) = mpsc::channel(INBOX);
        let waiting = Arc::new(AtomicUsize::new(0));
        let queue = pump::Queue { outgoing, waiting: Arc::clone(&waiting) };
        tokio::spawn(pump::run(sink, stream, queue, (incoming, settings)));
        let Settings { longest, backlog, .. } = settings;
        let sender = Sender { outbox, waiting, longest, backlog, messages: PhantomData };
        Self { sender, receiver: Receiver { inbox, ended: None } }
    }

    /// Answers a client that asks for a WebSocket, and serves the channel over it in a task of its
    /// own.
    pub fn accept<Served: Future<Output = ()> + Send + 'static>(
        upgrade: WebSocketUpgrade,
        settings: Settings,
        serve: impl FnOnce(Self) -> Served + Send + 'static,
    ) -> Response
    where
        Out: 'static,
    {
        upgrade
            .read_buffer_size(READ_BUFFER)
            .max_message_size(settings.longest)
            .max_frame_size(settings.longest)
            .on_failed_upgrade(|error| tracing::debug!(%error, "a WebSocket did not come about"))
            .on_upgrade(move |socket| serve(Self::over(socket, settings)))
    }
}

/// The sending half. When the last clone is dropped, the channel closes after what was sent.
pub struct Sender<Out> {
    outbox: mpsc::UnboundedSender<Outgoing>,
    waiting: Arc<AtomicUsize>,
    longest: usize,
    backlog: usize,
    messages: PhantomData<fn(Out)>,
}

impl<Out> Clone for Sender<Out> {
    fn clone(&self) -> Self {
        Self {
            outbox: self.outbox.clone(),
            waiting: Arc::clone(&self.waiting),
            longest: self.longest,
            backlog: self.backlog,
            messages: PhantomData,
        }
    }
}

impl<Out: Serialize> Sender<Out> {
    /// Sends a message, without waiting.
    ///
    /// # Errors
    /// When it is certain that it will not arrive.
    pub fn send(&self, message: &Out) -> Result<(), SendError> {
        let bytes = serde_json::to_vec(message)
            .map_err(|error| SendError::Unwritable(error.to_string()))?;
        let size = bytes.len();
        if size > self.longest {
            return Err(SendError::TooLong { size, longest: self.longest });
        }
        let waiting = self.waiting.fetch_add(size, Ordering::Relaxed);
        // One message always finds room.
        if waiting > 0 && waiting + size > self.backlog {
            self.waiting.fetch_sub(size, Ordering::Relaxed);
            return Err(SendError::Full { waiting });
        }
        self.outbox.send(Outgoing::Message(bytes.into())).map_err(|_| SendError::Ended)
    }
}

impl<Out> Sender<Out> {
    /// One that leads nowhere.
    #[cfg(test)]
    pub(crate) fn pretended() -> Self {
        let Settings { longest, backlog, .. } = Settings::default();
        let (outbox, _) = mpsc::unbounded_channel();
        Self { outbox, waiting: Arc::default(), longest, backlog, messages: PhantomData }
    }

    /// Closes the channel after all that was sent before. What is sent later may be lost.
    pub fn close(&self, reason: &str) {
        let _ = self.outbox.send(Outgoing::Farewell(reason.to_owned()));
    }

    /// Whether the channel has ended.
    pub fn has_ended(&self) -> bool {
        self.outbox.is_closed()
    }
}

/// The receiving half. When it is dropped, what still arrives is thrown away; the channel goes on.
pub struct Receiver<In> {
    inbox: mpsc::Receiver<Result<In, Ended>>,
    ended: Option<Ended>,
}

impl<In> Receiver<In> {
    /// The next message. Cancel safe.
    ///
    /// # Errors
    /// After the last message: how the channel ended, again and again.
    pub async fn next(&mut self) -> Result<In, Ended> {
        if let Some(ended) = &self.ended {
            return Err(ended.clone());
        }
        let received = self.inbox.recv().await;
        let received = received.unwrap_or_else(|| Err(Ended::Lost("torc is ending".to_owned())));
        if let Err(ended) = &received {
            self.ended = Some(ended.clone());
        }
        received
    }
}
