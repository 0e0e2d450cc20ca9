//! The task that watches a keeper: takes its reports, measures memory, and cleans up after it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Child;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use torc_core::traits::Outcome;

use super::aftermath;
use super::connection::Connection;
use super::memory::{self, Sample};
use crate::clock::now;
use crate::keeper::wire::{Inbox, Report};

/// Time between two measurements of memory.
const MEASURING_INTERVAL: Duration = Duration::from_secs(1);

/// Watches the keeper until it ends. Every step in the books has been reported as ended then, and no
/// process of any is left.
pub(super) async fn watch(connection: Arc<Connection>, mut keeper: Child) {
    let reason = take_reports(&connection).await;
    let is_closing = connection.is_closing();
    connection.give_up(&reason);
    if !is_closing {
        tracing::error!(reason, "the keeper of jobs is gone; its jobs are ended");
        // It may live on after nonsense.
        let _ = keeper.start_kill();
    }
    if let Err(error) = keeper.wait().await {
        tracing::warn!(%error, "cannot wait for the keeper of jobs");
    }
    let outcome = if is_closing {
        Outcome::Cancelled
    } else {
        let id = connection.keeper;
        // A join error means that the runtime ends, and this program with it.
        let _ = tokio::task::spawn_blocking(move || aftermath::end_jobs_of(id)).await;
        Outcome::Lost
    };
    connection.end_all(now(), &outcome);
}

/// Takes reports until there are no more, and says why.
async fn take_reports(connection: &Connection) -> String {
    let mut inbox = Inbox::default();
    let mut buffer = vec![0; 64 * 1024];
    let mut measurements: JoinSet<Vec<Sample>> = JoinSet::new();
    let mut ticks = interval_at(Instant::now() + MEASURING_INTERVAL, MEASURING_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            ready = connection.stream.readable() => {
                let received = ready.and_then(|()| receive(connection, &mut inbox, &mut buffer));
                match received {
                    Ok(true) => {}
                    Ok(false) => return "the keeper of jobs ended unexpectedly".to_owned(),
                    Err(error) => return format!("the keeper of jobs cannot be understood: {error}"),
                }
            }
            // Wakes up; the next turn waits until the socket takes more.
            () = connection.has_unsent.notified() => {}
            _ = connection.stream.writable(), if connection.is_behind() => connection.catch_up(),
            Some(samples) = measurements.join_next(), if !measurements.is_empty() => {
                connection.take_samples(&samples.unwrap_or_default());
            }
            _ = ticks.tick(), if measurements.is_empty() && connection.is_busy() => {
                let (keeper, subjects) = (connection.keeper, connection.subjects());
                measurements.spawn_blocking(move || memory::measure(keeper, &subjects));
            }
        }
    }
}

/// Takes the reports that have arrived; false at the end of the stream.
fn receive(connection: &Connection, inbox: &mut Inbox, buffer: &mut [u8]) -> io::Result<bool> {
    match connection.stream.try_read(buffer) {
        Ok(0) => return Ok(false),
        Ok(count) => inbox.extend(&buffer[..count]),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
        // What a connection says whose other end was killed with orders unread.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
        Err(error) => return Err(error),
    }
    while let Some(report) = inbox.next::<Report>().map_err(io::Error::other)? {
        connection.take(report);
    }
    Ok(true)
}
