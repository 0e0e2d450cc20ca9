//! How many strangers there may be: connections whose other end has not shown the token yet.
//!
//! Knows no connection, only that each has a pass. Invariant: there are never more passes of strangers
//! than places. When all are taken and somebody waits, whoever has stood there longest must go, but
//! not before a fair chance; so those who stand still cannot keep out those who have business here.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

pub(super) struct Entrance {
    places: usize,
    grace: Duration,
    strangers: Mutex<Strangers>,
    left: Notify,
}

#[derive(Default)]
struct Strangers {
    /// In the order of their arrival.
    waiting: VecDeque<Stranger>,
    next: u64,
}

struct Stranger {
    number: u64,
    since: Instant,
    ask_to_go: oneshot::Sender<()>,
}

/// What admitting comes to.
enum Admission {
    Granted(u64, oneshot::Receiver<()>),
    /// All places are taken, and nobody has to go before then.
    NotBefore(Instant),
}

impl Entrance {
    /// `places` for strangers, who may stay for `grace` even if others wait.
    pub(super) fn new(places: usize, grace: Duration) -> Arc<Self> {
        let (strangers, left) = (Mutex::default(), Notify::new());
        Arc::new(Self { places: places.max(1), grace, strangers, left })
    }

    /// Waits for a place.
    pub(super) async fn admit(self: &Arc<Self>) -> Pass {
        loop {
            let left = self.left.notified();
            match self.try_admit() {
                Admission::Granted(number, asked_to_go) => {
                    return Pass { entrance: Arc::clone(self), number, asked_to_go };
                }
                Admission::NotBefore(instant) => tokio::select! {
                    () = left => {}
                    () = tokio::time::sleep_until(instant) => {}
                },
            }
        }
    }

    fn try_admit(&self) -> Admission {
        let mut strangers = self.strangers();
        if strangers.waiting.len() >= self.places
            && let Some(oldest) = strangers.waiting.front()
        {
            let may_stay_until = oldest.since + self.grace;
            if Instant::now() < may_stay_until {
                return Admission::NotBefore(may_stay_until);
            }
            if let Some(oldest) = strangers.waiting.pop_front() {
                let _ = oldest.ask_to_go.send(());
            }
        }
        let number = strangers.next;
        strangers.next += 1;
        let (ask_to_go, asked_to_go) = oneshot::channel();
        strangers.waiting.push_back(Stranger { number, since: Instant::now(), ask_to_go });
        Admission::Granted(number, asked_to_go)
    }

    fn leave(&self, number: u64) {
        self.strangers().waiting.retain(|stranger| stranger.number != number);
        self.left.notify_one();
    }

    fn strangers(&self) -> MutexGuard<'_, Strangers> {
        // Every change leaves the list sound.
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stranger's right to be here. Dropping it gives the place to another.
pub(super) struct Pass {
    entrance: Arc<Entrance>,
    number: u64,
    asked_to_go: oneshot::Receiver<()>,
}

impl Pass {
    /// A handle by which the stranger becomes known, and needs no place any more.
    pub(super) fn introduction(&self) -> Introduction {
        Introduction { entrance: Arc::clone(&self.entrance), number: self.number }
    }

    /// Ends when the stranger has to go. Never once it is known.
    pub(super) async fn asked_to_go(&mut self) {
        if (&mut self.asked_to_go).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.entrance.leave(self.number);
    }
}

/// How a stranger becomes known.
pub(super) struct Introduction {
    entrance: Arc<Entrance>,
    number: u64,
}

impl Introduction {
    /// It has shown the token.
    pub(super) fn is_known(&self) {
        self.entrance.leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const GRACE: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_left_goes_to_who_waits() {
        let entrance = Entrance::new(2, GRACE);
        let first = entrance.admit().await;
        let second = entrance.admit().await;
        assert!(entrance.admit().now_or_never().is_none(), "both places are taken");
        drop(first);
        let third = entrance.admit().now_or_never().expect("a place is free");
        second.introduction().is_known();
        let fourth = entrance.admit().now_or_never().expect("one of them is known");
        assert!(entrance.admit().now_or_never().is_none(), "both places are taken again");
        drop((second, third, fourth));
        assert!(entrance.strangers().waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_goes_after_its_grace() {
        let entrance = Entrance::new(2, GRACE);
        let began = Instant::now();
        let mut first = entrance.admit().await;
        let mut second = entrance.admit().await;
        let _third = entrance.admit().await;
        assert_eq!(began.elapsed().as_secs(), GRACE.as_secs());
        first.asked_to_go().now_or_never().expect("the oldest has to go");
        assert!(second.asked_to_go().now_or_never().is_none(), "the other may stay");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_known_is_never_asked_to_go() {
        let entrance = Entrance::new(1, GRACE);
        let mut known = entrance.admit().await;
        known.introduction().is_known();
        let _other = entrance.admit().await;
        let _third = entrance.admit().await;
        assert!(known.asked_to_go().now_or_never().is_none());
    }
}
