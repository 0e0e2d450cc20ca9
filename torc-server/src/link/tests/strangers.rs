//! Those who have no business here: garbage, silence, and many of them.

use hyper::Method;
use hyper::header::HeaderMap;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::*;
use crate::link::client::Client;

/// Bytes that mean nothing, other ones for each seed.
fn garbage(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..1 + seed % 300).map(|_| next()).collect()
}

/// Sends these bytes as they are, and waits until the server closes. The answer, as far as it came.
async fn intrude(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("is connected");
    let mut answer = Vec::new();
    // The server may have gone at the first of these bytes.
    let _ = stream.write_all(bytes).await;
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

async fn is_served(remote: &Remote) {
    let client = Client::connect(remote).await.expect("is connected");
    let answer = client.request(Method::GET, "/v1/hello", Vec::new()).await;
    assert_eq!(answer.expect("is answered").1, "\"hello\"");
}

#[tokio::test]
async fn without_tls_nothing_is_said() {
    let server = Server::start(impatient()).await;
    let address = server.listener.address();
    let token = server.identity.token().reveal();
    let plain = format!("GET /v1/hello HTTP/1.1\r\nauthorization: Bearer {token}\r\n\r\n");
    let answer = intrude(address, plain.as_bytes()).await;
    assert!(!answer.windows(4).any(|part| part == b"HTTP"), "{answer:?}");
    for seed in 0..32 {
        intrude(address, &garbage(seed)).await;
    }
    assert_eq!(server.answered(), 0);
    is_served(&server.remote()).await;
}

#[tokio::test]
async fn who_stands_still_has_to_go() {
    let server = Server::start(impatient()).await;
    let address = server.listener.address();
    // Nothing; the head of a handshake of 512 bytes; and heads of requests that do not end.
    assert_eq!(intrude(address, b"").await, b"");
    intrude(address, b"\x16\x03\x01\x02\x00\x01").await;
    assert_eq!(say(&server.remote(), b"").await, "");
    assert_eq!(say(&server.remote(), b"GET /v1/hello HTTP/1.1\r\nhost").await, "");
    is_served(&server.remote()).await;
}

#[tokio::test]
async fn a_head_without_end_is_not_read_to_its_end() {
    let server = Server::start(patient()).await;
    let mut head = b"GET /v1/hello HTTP/1.1\r\n".to_vec();
    head.extend(b"x: y\r\n".repeat(40_000));
    let answer = say(&server.remote(), &head).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(server.answered(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_garbage_keeps_nobody_out() {
    let server = Server::start(Limits::default()).await;
    let (address, remote) = (server.listener.address(), server.remote());
    let mut flood: JoinSet<_> = (0..500)
        .map(|seed| async move {
            intrude(address, &garbage(seed)).await;
        })
        .collect();
    for _ in 0..20 {
        is_served(&remote).await;
    }
    while let Some(ended) = flood.join_next().await {
        ended.expect("ends");
    }
    assert_eq!(server.answered(), 20);
}

#[tokio::test]
async fn those_who_stand_still_make_way_for_others() {
    const PLACES: usize = 8;
    let limits = Limits { strangers: PLACES, grace: Duration::ZERO, ..patient() };
    let server = Server::start(limits).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(server.listener.address()).await.expect("is connected"));
    }
    is_served(&server.remote()).await;
    // As many as there are places may still be there, less the one that was needed.
    for stream in &mut silent[..100 - PLACES + 1] {
        assert_eq!(stream.read(&mut [0]).await.expect("is closed"), 0);
    }
}

#[tokio::test]
async fn who_has_shown_the_token_makes_way_for_nobody() {
    let limits = Limits { strangers: 1, grace: Duration::ZERO, ..patient() };
    let server = Server::start(limits).await;
    let client = Client::connect(&server.remote()).await.expect("is connected");
    let socket = client.websocket("/v1/notes", HeaderMap::new(), &Settings::default()).await;
    let mut channel: Channel<Note, Note> =
        Channel::over(socket.expect("is opened"), Settings::default());
    for number in 0..10 {
        is_served(&server.remote()).await;
        channel.sender.send(&Note::new(number)).expect("is taken");
        assert_eq!(channel.receiver.next().await, Ok(Note::new(number)));
    }
}

#[tokio::test]
async fn a_request_under_way_makes_way_for_nobody() {
    let (begun, may_end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, ends) = (Arc::clone(&begun), Arc::clone(&may_end));
    let slow = async move || {
        begins.notify_one();
        ends.notified().await;
        "\"slow\""
    };
    let identity = Identity::generate().expect("is made");
    let router =
        Router::new().route("/v1/slow", get(slow)).route("/v1/hello", get(async || "\"hello\""));
    let limits = Limits { strangers: 1, grace: Duration::ZERO, ..patient() };
    let listener = listen(&identity, router, limits, 0);
    let remote = remote(&listener, &identity);
    let client = Client::connect(&remote).await.expect("is connected");
    let asking =
        tokio::spawn(async move { client.request(Method::GET, "/v1/slow", Vec::new()).await });
    begun.notified().await;
    for _ in 0..3 {
        is_served(&remote).await;
    }
    may_end.notify_one();
    assert_eq!(asking.await.expect("ends").expect("is answered").1, "\"slow\"");
}

#[tokio::test]
async fn there_are_never_more_connections_than_may_be() {
    let server = Server::start(Limits { connections: 1, ..patient() }).await;
    let remote = server.remote();
    let socket = {
        let client = Client::connect(&remote).await.expect("is connected");
        client.websocket("/v1/notes", HeaderMap::new(), &Settings::default()).await
    };
    let mut channel: Channel<Note, Note> =
        Channel::over(socket.expect("is opened"), Settings::default());
    let waiting = tokio::spawn(async move { is_served(&remote).await });
    for number in 0..100 {
        channel.sender.send(&Note::new(number)).expect("is taken");
        assert_eq!(channel.receiver.next().await, Ok(Note::new(number)));
    }
    assert!(!waiting.is_finished() && server.answered() == 1);
    drop(channel);
    waiting.await.expect("there is a place now");
}
