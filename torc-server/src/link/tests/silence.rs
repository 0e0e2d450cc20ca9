//! Peers that fall silent, take nothing, or say nothing for long, in a time that passes by itself
//! whenever everybody waits.

use futures_util::{SinkExt, StreamExt};
use tokio::io::{DuplexStream, duplex};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;
use crate::link::channel::{Ended, SendError};

const LONG: Duration = Duration::from_secs(600);

async fn end(wire: DuplexStream, role: Role, settings: Settings) -> Channel<Note, Note> {
    let socket = WebSocketStream::from_raw_socket(wire, role, None).await;
    Channel::over(socket, settings)
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_falls_silent_is_noticed() {
    let (wire, _dead) = duplex(1 << 16);
    let mut channel = end(wire, Role::Client, Settings::default()).await;
    let began = Instant::now();
    let silence = Duration::from_secs(45);
    assert_eq!(channel.receiver.next().await, Err(Ended::Silent(silence)));
    assert_eq!(began.elapsed().as_secs(), 45);
    assert!(channel.sender.has_ended());
}

#[tokio::test(start_paused = true)]
async fn who_stood_still_gives_its_peer_time_anew() {
    let (wire, _dead) = duplex(1 << 16);
    let mut channel = end(wire, Role::Client, Settings::default()).await;
    let began = Instant::now();
    // The pump has begun to wait.
    assert!(timeout(Duration::from_secs(1), channel.receiver.next()).await.is_err());
    tokio::time::advance(Duration::from_secs(100)).await;
    let silence = Duration::from_secs(45);
    assert_eq!(channel.receiver.next().await, Err(Ended::Silent(silence)));
    assert_eq!(began.elapsed().as_secs(), 101 + 45);
}

#[tokio::test(start_paused = true)]
async fn it_is_noticed_also_while_much_waits_to_be_sent() {
    let (wire, _dead) = duplex(64);
    let mut channel = end(wire, Role::Server, Settings::default()).await;
    for number in 0..10_000 {
        channel.sender.send(&Note::new(number)).expect("is taken");
    }
    let began = Instant::now();
    let silence = Duration::from_secs(45);
    assert_eq!(channel.receiver.next().await, Err(Ended::Silent(silence)));
    assert_eq!(began.elapsed().as_secs(), 45);
}

#[tokio::test(start_paused = true)]
async fn peers_that_have_nothing_to_say_stay_connected() {
    let (here, there) = duplex(1 << 16);
    let mut here = end(here, Role::Client, Settings::default()).await;
    let mut there = end(there, Role::Server, Settings::default()).await;
    assert!(timeout(LONG, here.receiver.next()).await.is_err());
    assert!(timeout(LONG, there.receiver.next()).await.is_err());
    here.sender.send(&Note::new(1)).expect("is taken");
    assert_eq!(there.receiver.next().await, Ok(Note::new(1)));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_busy_loses_nothing() {
    const NOTES: u32 = 5000;
    let (here, there) = duplex(1 << 12);
    let mut here = end(here, Role::Client, Settings::default()).await;
    let mut there = end(there, Role::Server, Settings::default()).await;
    for number in 0..NOTES {
        here.sender.send(&Note::new(number)).expect("is taken");
        there.sender.send(&Note::new(number)).expect("is taken");
    }
    // Neither takes anything for long, and each has sent more than the other keeps.
    tokio::time::sleep(LONG).await;
    for number in 0..NOTES {
        assert_eq!(there.receiver.next().await, Ok(Note::new(number)));
    }
    for number in 0..NOTES {
        assert_eq!(here.receiver.next().await, Ok(Note::new(number)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_to_be_sent_is_bounded() {
    let settings = Settings { backlog: 1000, ..Settings::default() };
    let (wire, _dead) = duplex(64);
    let channel = end(wire, Role::Client, settings).await;
    let long = Note { number: 0, text: "x".repeat(2000) };
    channel.sender.send(&long).expect("one always finds room");
    let refused = channel.sender.send(&Note::new(1));
    assert!(matches!(refused, Err(SendError::Full { waiting: 2000.. })), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_farewell_that_nobody_answers_is_not_waited_for_long() {
    let (wire, _dead) = duplex(1 << 16);
    let mut channel = end(wire, Role::Client, Settings::default()).await;
    let began = Instant::now();
    channel.sender.close("enough");
    let ended = channel.receiver.next().await;
    assert_eq!(ended, Err(Ended::Closed { reason: "enough".to_owned() }));
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn what_the_other_side_sent_before_it_knew_still_arrives() {
    let (here, there) = duplex(1 << 16);
    let mut channel = end(here, Role::Client, Settings::default()).await;
    let mut there = WebSocketStream::from_raw_socket(there, Role::Server, None).await;
    channel.sender.close("enough");
    // By then the farewell is on its way.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let note = serde_json::to_string(&Note::new(1)).expect("is written");
    there.send(Message::text(note)).await.expect("is sent");
    assert_eq!(channel.receiver.next().await, Ok(Note::new(1)));
    let farewell = there.next().await.expect("is there").expect("is readable");
    assert!(farewell.is_close());
    assert!(there.next().await.is_none());
    drop(there);
    let ended = channel.receiver.next().await;
    assert_eq!(ended, Err(Ended::Closed { reason: "enough".to_owned() }));
}
