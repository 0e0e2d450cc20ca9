//! Messages both ways through the real thing.

use axum::Router;
use axum::routing::get;
use futures_util::SinkExt;
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::*;
use crate::link::channel::{Ended, SendError};
use crate::link::client::{Client, ClientError, WebSocket};
use crate::link::socket::SocketError;

const NOTES: u32 = 10_000;

async fn websocket(remote: &Remote, path: &str) -> Result<WebSocket, ClientError> {
    let client = Client::connect(remote).await.expect("is connected");
    client.websocket(path, HeaderMap::new(), &Settings::default()).await
}

/// A server that hands over its ends of channels, and a client's WebSocket to it.
async fn both_ends(
    settings: Settings,
) -> (Listener, WebSocket, mpsc::UnboundedReceiver<Channel<Note, Note>>) {
    let (ends, taken) = mpsc::unbounded_channel();
    let accept = async move |upgrade: WebSocketUpgrade| {
        let hand_over = async move |end| ends.send(end).expect("is wanted");
        Channel::accept(upgrade, settings, hand_over)
    };
    let identity = Identity::generate().expect("is made");
    let router = Router::new().route("/v1/end", get(accept));
    let listener = listen(&identity, router, Limits::default(), 0);
    let socket = websocket(&remote(&listener, &identity), "/v1/end").await.expect("is opened");
    (listener, socket, taken)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_notes_go_both_ways_in_order() {
    let server = Server::start(Limits::default()).await;
    let socket = websocket(&server.remote(), "/v1/notes").await.expect("is opened");
    let mut channel: Channel<Note, Note> = Channel::over(socket, Settings::default());
    for number in 0..NOTES {
        channel.sender.send(&Note::new(number)).expect("is taken");
    }
    for number in 0..NOTES {
        assert_eq!(channel.receiver.next().await, Ok(Note::new(number)));
    }
    channel.sender.close("that was all");
    let ended = channel.receiver.next().await;
    assert_eq!(ended, Err(Ended::Closed { reason: "that was all".to_owned() }));
    assert_eq!(channel.receiver.next().await, ended, "it stays so");
    assert_eq!(channel.sender.send(&Note::new(0)), Err(SendError::Ended));
}

#[tokio::test]
async fn headers_of_the_client_reach_the_handler() {
    let identity = Identity::generate().expect("is made");
    let refuse = async |headers: HeaderMap| {
        let name = headers.get("torc-node").cloned().expect("is there");
        (
            StatusCode::CONFLICT,
            format!("{{\"error\":\"{} is known\"}}", name.to_str().expect("text")),
        )
    };
    let router = Router::new().route("/v1/end", get(refuse));
    let listener = listen(&identity, router, Limits::default(), 0);
    let client = Client::connect(&remote(&listener, &identity)).await.expect("is connected");
    let headers = [("torc-node".parse().expect("a name"), HeaderValue::from_static("node7"))];
    let headers = HeaderMap::from_iter(headers);
    let error = client.websocket("/v1/end", headers, &Settings::default()).await.err();
    let Some(ClientError::Refused { status, reason }) = error else { panic!("{error:?}") };
    assert_eq!((status, &reason[..]), (StatusCode::CONFLICT, "node7 is known"));
}

#[tokio::test]
async fn both_sides_learn_why_the_other_went() {
    for is_server_first in [true, false] {
        let (_listener, socket, mut taken) = both_ends(Settings::default()).await;
        let mut client: Channel<Note, Note> = Channel::over(socket, Settings::default());
        let mut server = taken.recv().await.expect("is connected");
        let first = if is_server_first { &server } else { &client };
        first.sender.send(&Note::new(1)).expect("is taken");
        first.sender.close("the allocation ends");
        let other = if is_server_first { &mut client } else { &mut server };
        assert_eq!(other.receiver.next().await, Ok(Note::new(1)), "what was sent before arrives");
        for end in [client, server] {
            let mut receiver = end.receiver;
            let ended = receiver.next().await.expect_err("has ended").to_string();
            assert_eq!(ended, "the connection was closed: the allocation ends");
        }
    }
}

#[tokio::test]
async fn what_was_sent_arrives_although_the_sender_is_gone() {
    let (_listener, socket, mut taken) = both_ends(Settings::default()).await;
    let client: Channel<Note, Note> = Channel::over(socket, Settings::default());
    for number in 0..NOTES {
        client.sender.send(&Note::new(number)).expect("is taken");
    }
    drop(client);
    let mut server = taken.recv().await.expect("is connected");
    for number in 0..NOTES {
        assert_eq!(server.receiver.next().await, Ok(Note::new(number)));
    }
    let ended = Err(Ended::Closed { reason: String::new() });
    assert_eq!(server.receiver.next().await, ended);
}

#[tokio::test]
async fn too_long_a_message_is_refused_on_both_sides() {
    let strict = Settings { longest: 1000, ..Settings::default() };
    let (_listener, socket, mut taken) = both_ends(strict).await;
    let mut client: Channel<Note, Value> = Channel::over(socket, Settings::default());
    let mut server = taken.recv().await.expect("is connected");
    let long = "x".repeat(1000);
    let refused = server.sender.send(&Note { number: 1, text: long.clone() });
    assert_eq!(refused, Err(SendError::TooLong { size: 1022, longest: 1000 }));
    client.sender.send(&json!({ "number": 1, "text": long })).expect("is taken");
    let ended = server.receiver.next().await;
    let too_long = SocketError::TooLong { size: 1022, longest: 1000 };
    assert_eq!(ended, Err(Ended::TooLong(too_long)));
    let ended = client.receiver.next().await.expect_err("has ended").to_string();
    assert!(ended.contains("a message of 1022 bytes, more than the 1000"), "{ended}");
}

#[tokio::test]
async fn what_is_no_message_ends_the_channel() {
    let (_listener, socket, mut taken) = both_ends(Settings::default()).await;
    let mut client: Channel<Note, Value> = Channel::over(socket, Settings::default());
    let mut server = taken.recv().await.expect("is connected");
    client.sender.send(&json!({ "number": "x".repeat(1000) })).expect("is taken");
    let ended = server.receiver.next().await.expect_err("is no note");
    let Ended::Unreadable(complaint) = &ended else { panic!("{ended:?}") };
    assert!(complaint.starts_with("invalid type") && complaint.len() <= 200, "{complaint}");
    let ended = client.receiver.next().await;
    let reason = "a message cannot be read".to_owned();
    assert_eq!(ended, Err(Ended::Closed { reason }));
}

#[tokio::test]
async fn text_is_read_and_a_broken_connection_is_noticed() {
    let (_listener, mut socket, mut taken) = both_ends(Settings::default()).await;
    let mut server = taken.recv().await.expect("is connected");
    let text = serde_json::to_string(&Note::new(5)).expect("is written");
    socket.send(Message::text(text)).await.expect("is sent");
    assert_eq!(server.receiver.next().await, Ok(Note::new(5)));
    drop(socket);
    let ended = server.receiver.next().await.expect_err("has ended");
    assert!(matches!(ended, Ended::Lost(_)), "{ended}");
}
