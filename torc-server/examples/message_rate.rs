//! How many messages a second go through one channel over TLS on this machine.
//!
//! `cargo run --release --example message_rate [MESSAGES]`. Each is some 200 bytes of JSON. One way: a
//! client sends them all. Both ways: the server sends each back. One at a time: the next is sent when
//! the one before has come back.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::routing::get;
use hyper::HeaderMap;
use serde::{Deserialize, Serialize};
use torc_server::link::channel::{Channel, Settings};
use torc_server::link::client::Client;
use torc_server::link::identity::Identity;
use torc_server::link::listener::{Limits, Listener, bind_at};
use torc_server::link::remote::Remote;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Report {
    step: String,
    node: String,
    at: u64,
    outcome: String,
    exit_code: i32,
    cpu_ms: u64,
    peak_memory: u64,
    files: Vec<String>,
    is_last: bool,
}

impl Report {
    fn new(number: u32) -> Self {
        Self {
            step: format!("wf1_j{number}_r1_a1"),
            node: "node017.cluster.example".to_owned(),
            at: 1_700_000_000_000 + u64::from(number),
            outcome: "exited".to_owned(),
            exit_code: 0,
            cpu_ms: 12_345,
            peak_memory: 1 << 30,
            files: vec!["results/part-0001.csv".to_owned()],
            is_last: false,
        }
    }
}

type Error = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let count = std::env::args().nth(1).map_or(Ok(200_000), |count| count.parse())?;
    let identity = Identity::generate()?;
    let accept = async |upgrade: WebSocketUpgrade| {
        Channel::accept(upgrade, Settings::default(), answer_the_last)
    };
    let echo =
        async |upgrade: WebSocketUpgrade| Channel::accept(upgrade, Settings::default(), answer_all);
    let router = Router::new().route("/one-way", get(accept)).route("/both-ways", get(echo));
    let socket = bind_at((Ipv4Addr::LOCALHOST, 0).into())?;
    let listener = Listener::start(socket, &identity, router, Limits::default())?;
    let remote = Remote {
        addresses: vec![listener.address().to_string()],
        pin: identity.pin(),
        token: identity.token().clone(),
    };
    let size = serde_json::to_vec(&Report::new(count))?.len();
    let one_way = send_all(&remote, "/one-way", count, 1).await?;
    show("one way", count, size, one_way);
    let both_ways = send_all(&remote, "/both-ways", count, count).await?;
    show("both ways", count, size, both_ways);
    let few = count / 20;
    let in_turn = one_at_a_time(&remote, few).await?;
    show("one at a time", few, size, in_turn);
    listener.close().await;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a measurement for whoever runs it")]
fn show(what: &str, count: u32, size: usize, took: Duration) {
    let rate = f64::from(count) / took.as_secs_f64();
    println!("{what}: {count} messages of {size} bytes in {took:.2?}, {rate:.0} a second");
}

async fn answer_the_last(mut channel: Channel<Report, Report>) {
    while let Ok(report) = channel.receiver.next().await {
        if report.is_last && channel.sender.send(&report).is_err() {
            return;
        }
    }
}

async fn answer_all(mut channel: Channel<Report, Report>) {
    while let Ok(report) = channel.receiver.next().await {
        if channel.sender.send(&report).is_err() {
            return;
        }
    }
}

async fn open(remote: &Remote, path: &str) -> Result<Channel<Report, Report>, Error> {
    let settings = Settings::default();
    let client = Client::connect(remote).await?;
    let socket = client.websocket(path, HeaderMap::new(), &settings).await?;
    Ok(Channel::over(socket, settings))
}

/// The time from the first message to the last of so many answers.
async fn send_all(
    remote: &Remote,
    path: &str,
    count: u32,
    answers: u32,
) -> Result<Duration, Error> {
    let Channel { sender, mut receiver } = open(remote, path).await?;
    let began = Instant::now();
    let sending = tokio::spawn(async move {
        for number in 1..=count {
            let report = Report { is_last: number == count, ..Report::new(number) };
            sender.send(&report)?;
            if number % 64 == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok::<_, torc_server::link::channel::SendError>(sender)
    });
    for _ in 0..answers {
        receiver.next().await?;
    }
    let took = began.elapsed();
    drop(sending.await??);
    Ok(took)
}

async fn one_at_a_time(remote: &Remote, count: u32) -> Result<Duration, Error> {
    let mut channel = open(remote, "/both-ways").await?;
    let began = Instant::now();
    for number in 0..count {
        channel.sender.send(&Report::new(number))?;
        channel.receiver.next().await?;
    }
    Ok(began.elapsed())
}
