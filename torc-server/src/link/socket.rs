//! WebSockets of both sides as one thing: a sink and a stream of frames.
//!
//! Knows the two libraries that WebSockets come from, so that nobody else has to.

use axum::extract::ws;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use hyper::body::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{self, Utf8Bytes};

/// Longest reason of a farewell, in bytes (RFC 6455 section 5.5, less the code).
const LONGEST_REASON: usize = 123;

/// What goes over a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message.
    Message(Bytes),
    /// A question whether the other side is there. Answers are given below this layer.
    Ping,
    /// A sign of life.
    Pong,
    /// The last frame of its side.
    Close(Farewell),
}

/// Why a side goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// By RFC 6455 section 7.4.1.
    pub code: u16,
    /// In words. What is too long for a frame is cut off.
    pub reason: String,
}

impl Farewell {
    /// All is well.
    pub const NORMAL: u16 = 1000;
    /// The other side sent what cannot be read.
    pub const UNREADABLE: u16 = 1007;
    /// The other side sent too much at once.
    pub const TOO_LONG: u16 = 1009;
    /// No code was given.
    const NONE: u16 = 1005;

    fn cut_reason(&self) -> &str {
        &self.reason[..self.reason.floor_char_boundary(LONGEST_REASON)]
    }
}

/// A WebSocket cannot be used any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SocketError {
    /// The other side sent too much at once.
    #[error("a message of {size} bytes, more than the {longest} that a message may have")]
    TooLong {
        /// Its size in bytes, as far as it is known.
        size: usize,
        /// What a message may have.
        longest: usize,
    },
    /// The connection broke off, or what came was no WebSocket's.
    #[error("{0}")]
    Broken(String),
}

impl From<tungstenite::Error> for SocketError {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
                Self::TooLong { size, longest: max_size }
            }
            other => Self::Broken(other.to_string()),
        }
    }
}

impl From<axum::Error> for SocketError {
    fn from(error: axum::Error) -> Self {
        match error.into_inner().downcast::<tungstenite::Error>() {
            Ok(error) => (*error).into(),
            Err(other) => Self::Broken(other.to_string()),
        }
    }
}

/// A WebSocket of either side.
pub trait Socket {
    /// Its sending and its receiving half.
    fn split(
        self,
    ) -> (
        impl Sink<Frame, Error = SocketError> + Send + Unpin + 'static,
        impl Stream<Item = Result<Frame, SocketError>> + Send + Unpin + 'static,
    );
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Socket for WebSocketStream<S> {
    fn split(
        self,
    ) -> (
        impl Sink<Frame, Error = SocketError> + Send + Unpin + 'static,
        impl Stream<Item = Result<Frame, SocketError>> + Send + Unpin + 'static,
    ) {
        let (sink, stream) = StreamExt::split(self);
        let sink = sink
            .sink_map_err(SocketError::from)
            .with(|frame| std::future::ready(Ok::<_, SocketError>(to_client(frame))));
        (sink, stream.map(|received| Ok(from_client(received?))))
    }
}

impl Socket for ws::WebSocket {
    fn split(
        self,
    ) -> (
        impl Sink<Frame, Error = SocketError> + Send + Unpin + 'static,
        impl Stream<Item = Result<Frame, SocketError>> + Send + Unpin + 'static,
    ) {
        let (sink, stream) = StreamExt::split(self);
        let sink = sink
            .sink_map_err(SocketError::from)
            .with(|frame| std::future::ready(Ok::<_, SocketError>(to_server(frame))));
        (sink, stream.map(|received| Ok(from_server(received?))))
    }
}

fn to_client(frame: Frame) -> tungstenite::Message {
    match frame {
        Frame::Message(bytes) => tungstenite::Message::Binary(bytes),
        Frame::Ping => tungstenite::Message::Ping(Bytes::new()),
        Frame::Pong => tungstenite::Message::Pong(Bytes::new()),
        Frame::Close(farewell) => tungstenite::Message::Close(Some(CloseFrame {
            code: CloseCode::from(farewell.code),
            reason: Utf8Bytes::from(farewell.cut_reason()),
        })),
    }
}

fn from_client(message: tungstenite::Message) -> Frame {
    match message {
        tungstenite::Message::Text(text) => Frame::Message(text.into()),
        tungstenite::Message::Binary(bytes) => Frame::Message(bytes),
        tungstenite::Message::Ping(_) => Frame::Ping,
        // Raw frames are written, never read.
        tungstenite::Message::Pong(_) | tungstenite::Message::Frame(_) => Frame::Pong,
        tungstenite::Message::Close(close) => Frame::Close(close.map_or_else(
            || Farewell { code: Farewell::NONE, reason: String::new() },
            |close| Farewell { code: close.code.into(), reason: close.reason.to_string() },
        )),
    }
}

fn to_server(frame: Frame) -> ws::Message {
    match frame {
        Frame::Message(bytes) => ws::Message::Binary(bytes),
        Frame::Ping => ws::Message::Ping(Bytes::new()),
        Frame::Pong => ws::Message::Pong(Bytes::new()),
        Frame::Close(farewell) => ws::Message::Close(Some(ws::CloseFrame {
            code: farewell.code,
            reason: farewell.cut_reason().into(),
        })),
    }
}

fn from_server(message: ws::Message) -> Frame {
    match message {
        ws::Message::Text(text) => Frame::Message(text.into()),
        ws::Message::Binary(bytes) => Frame::Message(bytes),
        ws::Message::Ping(_) => Frame::Ping,
        ws::Message::Pong(_) => Frame::Pong,
        ws::Message::Close(close) => Frame::Close(close.map_or_else(
            || Farewell { code: Farewell::NONE, reason: String::new() },
            |close| Farewell { code: close.code, reason: close.reason.to_string() },
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_have_the_same_frames() {
        let farewell = Farewell { code: Farewell::NORMAL, reason: "all is done".to_owned() };
        let frames =
            [Frame::Message("{}".into()), Frame::Ping, Frame::Pong, Frame::Close(farewell)];
        for frame in frames {
            assert_eq!(from_client(to_client(frame.clone())), frame);
            assert_eq!(from_server(to_server(frame.clone())), frame);
        }
        assert_eq!(from_client("{}".into()), Frame::Message("{}".into()));
        assert_eq!(from_server("{}".into()), Frame::Message("{}".into()));
    }

    #[test]
    fn a_long_reason_is_cut_between_letters() {
        let reason = "ä".repeat(100);
        let farewell = Farewell { code: Farewell::NORMAL, reason };
        assert_eq!(farewell.cut_reason(), "ä".repeat(61));
    }
}
