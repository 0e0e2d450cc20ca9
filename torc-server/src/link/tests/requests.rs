//! Who may ask, and that it is answered.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use hyper::header::HeaderMap;
use hyper::{Method, StatusCode};
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use torc_core::wire::PROTOCOL;

use super::*;
use crate::link::addresses::candidates;
use crate::link::client::{Attempt, Client, ClientError, DialError};
use crate::link::listener::bind;
use crate::state_dir::Owner;

async fn hello(client: &Client) -> Result<(StatusCode, Bytes), ClientError> {
    client.request(Method::GET, "/v1/hello", Vec::new()).await
}

#[track_caller]
fn is_hello(answer: Result<(StatusCode, Bytes), ClientError>) {
    let (status, body) = answer.expect("is answered");
    assert_eq!((status, &body[..]), (StatusCode::OK, &b"\"hello\""[..]));
}

#[tokio::test]
async fn who_has_the_pin_and_the_token_is_answered() {
    let server = Server::start(Limits::default()).await;
    let client = Client::connect(&server.remote()).await.expect("is connected");
    for _ in 0..3 {
        is_hello(hello(&client).await);
    }
    let body = vec![b' '; 3 << 20];
    let length = client.request(Method::POST, "/v1/length", body).await.expect("is answered");
    assert_eq!(length, (StatusCode::OK, (3 << 20).to_string().into()));
    let missing = client.request(Method::GET, "/v1/nothing", Vec::new()).await;
    assert_eq!(missing.expect("is answered").0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_wrong_token_gets_a_refusal_and_nothing_else() {
    let server = Server::start(Limits::default()).await;
    let remote = Remote { token: token(), ..server.remote() };
    let client = Client::connect(&remote).await.expect("the server is the right one");
    assert!(matches!(hello(&client).await, Err(ClientError::WrongToken)));
    let socket = client.websocket("/v1/notes", HeaderMap::new(), &Settings::default()).await;
    assert!(matches!(socket, Err(ClientError::WrongToken)));
    assert_eq!(server.answered(), 0);
}

#[tokio::test]
async fn the_body_of_a_stranger_is_not_waited_for() {
    let server = Server::start(patient()).await;
    let head = "POST /v1/length HTTP/1.1\r\nhost: torc\r\ncontent-length: 1000000\r\n\r\n";
    let answer = say(&server.remote(), head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(answer.contains("{\"error\":\"the token is missing"), "{answer}");
    assert!(!answer.contains("protocol"), "{answer}");
    assert_eq!(server.answered(), 0);
}

#[tokio::test]
async fn another_protocol_is_told() {
    let server = Server::start(Limits::default()).await;
    let remote = server.remote();
    let token = remote.token.reveal();
    for (header, expected) in [("torc-protocol: 999\r\n", "the client 999;"), ("", "none;")] {
        let head =
            format!("GET /v1/hello HTTP/1.1\r\nauthorization: Bearer {token}\r\n{header}\r\n");
        let answer = say(&remote, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 426 ") && answer.contains(expected), "{answer}");
    }
    assert_eq!(server.answered(), 0);
}

#[tokio::test]
async fn a_client_learns_what_the_server_speaks() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let socket = UnixListener::bind(&path).expect("is bound");
    let refusal = async || (StatusCode::UPGRADE_REQUIRED, [("torc-protocol", "7")]);
    let router = Router::new().route("/v1/hello", get(refusal));
    let server = tokio::spawn(async { axum::serve(socket, router).await });
    let client = Client::on_socket(&path).await.expect("is connected");
    let error = hello(&client).await.expect_err("is refused");
    assert!(matches!(error, ClientError::OtherProtocol(Some(7))), "{error}");
    server.abort();
}

#[tokio::test]
async fn another_key_is_not_believed() {
    let server = Server::start(Limits::default()).await;
    let other = Server::start(Limits::default()).await;
    let mut remote = Remote { pin: other.remote().pin, ..server.remote() };
    let Err(ClientError::Unreachable(attempts)) = Client::connect(&remote).await else {
        panic!("is connected to another server");
    };
    assert!(matches!(attempts[..], [Attempt { error: DialError::OtherKey, .. }]), "{attempts:?}");
    // It is passed over where the right one can be found.
    remote = Remote { token: other.remote().token, ..remote };
    remote.addresses.insert(0, nowhere().await.to_string());
    remote.addresses.extend(other.remote().addresses);
    is_hello(hello(&Client::connect(&remote).await.expect("is found")).await);
    assert_eq!((server.answered(), other.answered()), (0, 1));
}

#[derive(Debug)]
struct Pretender(Arc<CertifiedKey>);

impl ResolvesServerCert for Pretender {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_is_not_believed() {
    let (real, false_one) = (Identity::generate(), Identity::generate());
    let (real, false_one) = (real.expect("is made"), false_one.expect("is made"));
    let key = ring::sign::any_supported_type(&false_one.key().into()).expect("is a key");
    let stolen = CertifiedKey::new(vec![real.certificate().clone()], key);
    let config = rustls::ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_protocol_versions(&[&TLS13])
        .expect("TLS is there")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Pretender(stolen.into())));
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("is bound");
    let address = socket.local_addr().expect("has an address").to_string();
    let pretender = tokio::spawn(async move {
        let (stream, _) = socket.accept().await.expect("is accepted");
        TlsAcceptor::from(Arc::new(config)).accept(stream).await.map(drop)
    });
    let remote = Remote { addresses: vec![address], pin: real.pin(), token: token() };
    let error = Client::connect(&remote).await.err().expect("is not believed").to_string();
    assert!(error.contains("BadSignature"), "{error}");
    pretender.await.expect("ends").expect_err("the client goes");
}

#[tokio::test]
async fn what_is_no_server_is_told_apart() {
    let nowhere = nowhere().await.to_string();
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("is bound");
    let plain = silent.local_addr().expect("has an address").to_string();
    let mut remote = Remote {
        addresses: vec![nowhere.clone(), plain.clone(), "no such host:1".to_owned()],
        pin: Identity::generate().expect("is made").pin(),
        token: token(),
    };
    let talking = tokio::spawn(async move {
        let (mut stream, _) = silent.accept().await.expect("is accepted");
        stream.write_all(b"220 mail.example ESMTP\r\n").await.expect("is sent");
    });
    let error = Client::connect(&remote).await.err().expect("nobody is there").to_string();
    talking.await.expect("ends");
    assert!(error.contains(&format!("{nowhere}: Connection refused")), "{error}");
    assert!(error.contains(&format!("{plain}: no secured connection")), "{error}");
    assert!(error.contains("no such host:1: "), "{error}");
    remote.addresses.clear();
    let error = Client::connect(&remote).await.err().expect("nobody is there").to_string();
    assert_eq!(error, "no address leads to it: it has none");
}

#[tokio::test]
async fn too_long_a_body_is_refused() {
    let server = Server::start(Limits { body: 1000, ..Limits::default() }).await;
    let client = Client::connect(&server.remote()).await.expect("is connected");
    for (length, expected) in [
        (1000, StatusCode::OK),
        (1001, StatusCode::PAYLOAD_TOO_LARGE),
        (64 << 20, StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let body = vec![b' '; length];
        let (status, answer) =
            client.request(Method::POST, "/v1/length", body).await.expect("is answered");
        assert_eq!(status, expected);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let is_explained = answer.contains("more than the 1000 that this server takes");
        assert_eq!(is_explained, status != StatusCode::OK, "{answer}");
    }
    // Also where nobody says how long it will be.
    let head = format!(
        "POST /v1/length HTTP/1.1\r\nauthorization: Bearer {}\r\ntorc-protocol: {PROTOCOL}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n",
        server.remote().token.reveal()
    );
    let body = format!("3e9\r\n{}\r\n0\r\n\r\n", " ".repeat(1001));
    let answer = say(&server.remote(), (head + &body).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_refusal_is_read_however_much_was_to_be_sent() {
    let server = Server::start(Limits::default()).await;
    let remote = Remote { token: token(), ..server.remote() };
    let client = Client::connect(&remote).await.expect("the server is the right one");
    for _ in 0..10 {
        let body = vec![b' '; 16 << 20];
        let refused = client.request(Method::POST, "/v1/length", body).await;
        assert!(matches!(refused, Err(ClientError::WrongToken)), "{refused:?}");
    }
}

#[tokio::test]
async fn a_client_finds_a_server_that_was_started_again() {
    let Server { listener, identity, .. } = Server::start(Limits::default()).await;
    let client = Client::connect(&remote(&listener, &identity)).await.expect("is connected");
    is_hello(hello(&client).await);
    let port = listener.address().port();
    listener.close().await;
    let error = hello(&client).await.expect_err("nobody is there");
    assert!(matches!(error, ClientError::Unreachable(_)), "{error}");
    let _server = Server::with(Limits::default(), identity, port).await;
    is_hello(hello(&client).await);
}

#[tokio::test]
async fn closing_waits_for_answers_under_way() {
    let (begun, may_end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, ends) = (Arc::clone(&begun), Arc::clone(&may_end));
    let slow = async move || {
        begins.notify_one();
        ends.notified().await;
        "\"hello\""
    };
    let identity = Identity::generate().expect("is made");
    let router = Router::new().route("/v1/hello", get(slow));
    let listener = listen(&identity, router, patient(), 0);
    let remote = remote(&listener, &identity);
    let idle = Client::connect(&remote).await.expect("is connected");
    let client = Client::connect(&remote).await.expect("is connected");
    let asking = tokio::spawn(async move { hello(&client).await });
    begun.notified().await;
    let closing = tokio::spawn(listener.close());
    let error = hello(&idle).await.expect_err("nobody listens any more");
    assert!(matches!(error, ClientError::Unreachable(_) | ClientError::Broken(_)), "{error}");
    assert!(!closing.is_finished());
    may_end.notify_one();
    is_hello(asking.await.expect("ends"));
    closing.await.expect("ends");
}

#[tokio::test]
async fn an_owner_is_reached_by_what_leads_to_it() {
    let server = Server::start(Limits::default()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut owner = Owner::this_process(folder.path());
    let error = Client::reach(&owner).await.err().expect("nobody is there").to_string();
    assert!(error.contains(".sock: No such file"), "{error}");
    owner.remote = Some(Box::new(server.remote()));
    is_hello(hello(&Client::reach(&owner).await.expect("over the network")).await);
    owner.host = "another".to_owned();
    is_hello(hello(&Client::reach(&owner).await.expect("over the network")).await);
}

#[tokio::test]
async fn a_server_on_all_addresses_is_reached_by_all_of_them() {
    let identity = Identity::generate().expect("is made");
    let router = Router::new().route("/v1/hello", get(async || "\"hello\""));
    let socket = bind(0).expect("is bound");
    let listener = Listener::start(socket, &identity, router, patient()).expect("listens");
    let addresses = candidates(listener.address());
    let remote = Remote { addresses, ..remote(&listener, &identity) };
    is_hello(hello(&Client::connect(&remote).await.expect("is connected")).await);
    let loopback = remote.addresses.last().cloned().expect("there is one");
    let remote = Remote { addresses: vec![loopback], ..remote };
    is_hello(hello(&Client::connect(&remote).await.expect("is connected")).await);
}
