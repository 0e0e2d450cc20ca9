//! An instance of a plugin: a thread that calls it, and whoever waits for the answers.
//!
//! Owns: deadlines, what a number or a silence means, and opening it anew after a panic or a crash. Does not know:
//! how a plugin is reached ([`Backend`]), what the messages say. Invariants: nobody waits longer than the
//! deadline; a plugin that does not return from a call is not called any more.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use torc_plugin::abi::status;

use crate::calls::{self, Answer, Events, Told};
use crate::error::{CallError, Fault};

/// How long an instance may take to open.
pub(crate) const OPENS_WITHIN: Duration = Duration::from_secs(30);

/// How long is waited for an instance to let go of what it has.
const CLOSES_WITHIN: Duration = Duration::from_secs(5);

/// How long a side looks for what the other one sends before it sleeps. A call of a library takes some microseconds,
/// and waking a thread on an idle CPU several times that.
const LOOKS_FOR: Duration = Duration::from_micros(20);

/// What comes within [`LOOKS_FOR`].
fn look<T>(inbox: &mpsc::Receiver<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        if let Ok(found) = inbox.try_recv() {
            return Some(found);
        }
        if began.elapsed() >= LOOKS_FOR {
            return None;
        }
        std::hint::spin_loop();
    }
}

/// Ends the process of a plugin from outside its thread, which may hang in it.
pub(crate) type Killer = Arc<dyn Fn() + Send + Sync>;

/// How a plugin is reached.
pub(crate) trait Backend: Send {
    /// Whether the plugin's own code runs in the calling thread, from which it may not return.
    fn runs_here(&self) -> bool;

    /// Ends the plugin's process, where it has one, so that whoever waits for it is told.
    fn killer(&self) -> Option<Killer>;

    /// Makes an instance.
    fn open(&mut self, instance: u64, config: &[u8]) -> Result<(), Fault>;

    /// Calls a method; `None`: the answer comes through [`calls::answer`].
    fn call(&mut self, op: u64, method: &str, request: &[u8], deadline: Duration)
    -> Option<Answer>;

    /// Ends the instance, if it was opened.
    fn close(&mut self, grace: Duration);
}

/// What the thread is told.
enum Order {
    Call {
        op: u64,
        method: String,
        request: Vec<u8>,
        deadline: Duration,
    },
    /// Close it; the next call opens another.
    Reopen {
        why: String,
        done: tokio::sync::oneshot::Sender<()>,
    },
    Close {
        grace: Duration,
        done: mpsc::Sender<()>,
    },
}

/// What the thread and the callers share.
#[derive(Default)]
struct Shared {
    /// The call that the plugin has not returned from; 0: none.
    inside: AtomicU64,
    /// Why it is not called any more.
    broken: Mutex<Option<String>>,
}

impl Shared {
    fn broken(&self) -> Option<String> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn give_up(&self, why: String) {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    }
}

/// A plugin that was opened for one interface.
pub(crate) struct Instance {
    plugin: Arc<str>,
    number: u64,
    orders: mpsc::Sender<Order>,
    shared: Arc<Shared>,
    killer: Option<Killer>,
}

impl Instance {
    /// Opens a plugin in a thread of its own. `events`: takes what it tells, if it tells anything.
    ///
    /// # Errors
    /// What it says to these settings, or that it says nothing in time.
    pub(crate) fn open(
        plugin: Arc<str>,
        mut backend: Box<dyn Backend>,
        config: Vec<u8>,
        events: Option<Events>,
    ) -> Result<Self, CallError> {
        let number = calls::number();
        calls::introduce(number, plugin.clone(), events);
        let shared = Arc::new(Shared::default());
        let (orders, inbox) = mpsc::channel();
        let (tell, opened) = mpsc::channel();
        let (theirs, killer) = (Arc::clone(&shared), backend.killer());
        let spawned =
            std::thread::Builder::new().name(format!("plugin {plugin}")).spawn(move || {
                let is_open = backend.open(number, &config);
                let goes_on = is_open.is_ok();
                // Whoever opened it may have given up.
                if tell.send(is_open).is_ok() && goes_on {
                    Served { backend, number, config, is_open: true, shared: theirs }.serve(&inbox);
                }
            });
        let fault = match spawned {
            Err(error) => Some(Fault::Fatal(format!("no thread could be started for it: {error}"))),
            Ok(_) => match opened.recv_timeout(OPENS_WITHIN) {
                Ok(Ok(())) => None,
                Ok(Err(fault)) => Some(fault),
                Err(mpsc::RecvTimeoutError::Timeout) => Some(Fault::Late(OPENS_WITHIN)),
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    Some(Fault::Fatal("its thread ended".to_owned()))
                }
            },
        };
        match fault {
            None => Ok(Self { plugin, number, orders, shared, killer }),
            Some(fault) => {
                calls::forget(number);
                Err(CallError { plugin, method: "open".to_owned(), fault })
            }
        }
    }

    /// Calls a method and waits for the answer, JSON.
    ///
    /// # Errors
    /// See [`Fault`].
    pub(crate) fn call_blocking(
        &self,
        method: &str,
        request: Vec<u8>,
        deadline: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let (tell, answered) = mpsc::sync_channel(1);
        let op = self.order(method, request, deadline, move |answer| drop(tell.send(answer)))?;
        let answer = look(&answered).or_else(|| answered.recv_timeout(deadline).ok());
        self.conclude(op, method, answer, deadline)
    }

    /// The same, without holding up the thread.
    ///
    /// # Errors
    /// See [`Fault`].
    pub(crate) async fn call(
        &self,
        method: &str,
        request: Vec<u8>,
        deadline: Duration,
    ) -> Result<Vec<u8>, CallError> {
        self.call_noting(method, request, deadline, |_| {}).await
    }

    /// The same; `note` is told whether it is done before anything is heard of what the plugin tells later.
    ///
    /// # Errors
    /// See [`Fault`].
    pub(crate) async fn call_noting(
        &self,
        method: &str,
        request: Vec<u8>,
        deadline: Duration,
        note: impl FnOnce(bool) + Send + 'static,
    ) -> Result<Vec<u8>, CallError> {
        let (tell, answered) = tokio::sync::oneshot::channel();
        let waiter = move |answer| {
            note(matches!(answer, Answer::Given(status::OK, _)));
            drop(tell.send(answer));
        };
        let op = self.order(method, request, deadline, waiter)?;
        let answer = tokio::time::timeout(deadline, answered).await;
        self.conclude(op, method, answer.ok().and_then(Result::ok), deadline)
    }

    fn order(
        &self,
        method: &str,
        request: Vec<u8>,
        deadline: Duration,
        waiter: impl FnOnce(Answer) + Send + 'static,
    ) -> Result<u64, CallError> {
        if let Some(why) = self.shared.broken() {
            return Err(self.error(method, Fault::Fatal(why)));
        }
        let op = calls::number();
        calls::wait_for(op, Box::new(waiter));
        let order = Order::Call { op, method: method.to_owned(), request, deadline };
        if self.orders.send(order).is_err() {
            calls::give_up(op);
            return Err(self.error(method, Fault::Fatal("its thread has ended".to_owned())));
        }
        Ok(op)
    }

    /// What an answer, or its absence, means.
    fn conclude(
        &self,
        op: u64,
        method: &str,
        answer: Option<Answer>,
        deadline: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let fault = match answer {
            Some(Answer::Given(status::OK, answer)) => return Ok(answer),
            Some(answer) => fault_of(answer),
            None => {
                calls::give_up(op);
                if self.shared.inside.load(Ordering::Acquire) == op {
                    let why = format!("it did not return within {} ms", deadline.as_millis());
                    self.shared.give_up(why.clone());
                    Fault::Fatal(why)
                } else {
                    Fault::Late(deadline)
                }
            }
        };
        if let Fault::Fatal(why) = &fault {
            self.shared.give_up(why.clone());
        }
        Err(self.error(method, fault))
    }

    /// That an answer to a method cannot be understood.
    pub(crate) fn error(&self, method: &str, fault: Fault) -> CallError {
        CallError { plugin: self.plugin.clone(), method: method.to_owned(), fault }
    }

    /// Lets go of all that it has, since nobody knows any more what that is: whoever listens has been told then that
    /// it is gone, in these words or those of its process. The next call opens another.
    pub(crate) async fn abandon(&self, why: &str) {
        if let Some(kill) = self.killer.clone() {
            // It waits for the process.
            let _ = tokio::task::spawn_blocking(move || kill()).await;
            return;
        }
        let (done, closed) = tokio::sync::oneshot::channel();
        if self.orders.send(Order::Reopen { why: why.to_owned(), done }).is_ok() {
            // One that hangs in it is noticed by the next call.
            let _ = tokio::time::timeout(CLOSES_WITHIN, closed).await;
        }
    }

    /// The plugin.
    pub(crate) fn plugin(&self) -> &Arc<str> {
        &self.plugin
    }

    /// Ends it; what is under way may go on for so long, and whoever asks waits no longer than that.
    pub(crate) fn close(&self, grace: Duration) {
        let (done, ended) = mpsc::channel();
        if self.orders.send(Order::Close { grace, done }).is_ok() && self.shared.broken().is_none()
        {
            // A second for what takes time besides.
            let _ = ended.recv_timeout(grace + Duration::from_secs(1));
        }
        calls::forget(self.number);
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let (done, _) = mpsc::channel();
        // Closed already otherwise.
        let _ = self.orders.send(Order::Close { grace: Duration::ZERO, done });
        calls::forget(self.number);
    }
}

pub(crate) fn fault_of(answer: Answer) -> Fault {
    let (code, bytes) = match answer {
        Answer::Given(code, bytes) => (code, bytes),
        Answer::TooLong(bytes) => {
            return Fault::Garbled(format!("it has {bytes} bytes, and 64 MiB are the most"));
        }
        Answer::Gone(words) => return Fault::Gone(words),
        Answer::Garbled(words) => return Fault::Garbled(words),
    };
    let words = String::from_utf8_lossy(&bytes).into_owned();
    let words = if words.is_empty() { "it does not say why".to_owned() } else { words };
    match code {
        status::INVALID => Fault::Invalid(words),
        status::TRANSIENT => Fault::Transient(words),
        status::UNSUPPORTED => Fault::Unsupported,
        status::PANIC => Fault::Panicked(words),
        status::FATAL => Fault::Fatal(words),
        other => Fault::Fatal(format!("it answered with the unknown status {other}")),
    }
}

/// The thread's side.
struct Served {
    backend: Box<dyn Backend>,
    number: u64,
    config: Vec<u8>,
    is_open: bool,
    shared: Arc<Shared>,
}

impl Served {
    fn serve(mut self, inbox: &mpsc::Receiver<Order>) {
        while let Some(order) = look(inbox).or_else(|| inbox.recv().ok()) {
            match order {
                // What nobody waits for any more has been told to have failed.
                Order::Call { op, .. } if !calls::is_awaited(op) => {}
                Order::Reopen { why, done } => {
                    self.put_down(why);
                    // Nobody may wait for it any more.
                    let _ = done.send(());
                }
                Order::Call { op, method, request, deadline } => {
                    let answer = self.call(op, &method, &request, deadline);
                    if let Some(answer) = answer {
                        calls::answer(op, answer);
                    }
                }
                Order::Close { grace, done } => {
                    if self.is_open {
                        self.backend.close(grace);
                    }
                    // Nobody may wait for it.
                    let _ = done.send(());
                    return;
                }
            }
        }
    }

    fn call(
        &mut self,
        op: u64,
        method: &str,
        request: &[u8],
        deadline: Duration,
    ) -> Option<Answer> {
        if !self.is_open {
            if let Err(fault) = self.backend.open(self.number, &self.config) {
                return Some(Answer::Given(
                    status::FATAL,
                    format!("it cannot be opened again: {fault}").into(),
                ));
            }
            self.is_open = true;
        }
        if self.backend.runs_here() {
            self.shared.inside.store(op, Ordering::Release);
        }
        let answer = self.backend.call(op, method, request, deadline);
        self.shared.inside.store(0, Ordering::Release);
        // Nothing is known of what a panic leaves behind.
        match &answer {
            Some(Answer::Given(status::PANIC, words)) => {
                self.put_down(format!("it panicked: {}", String::from_utf8_lossy(words)));
            }
            Some(Answer::Gone(_)) => {
                self.backend.close(Duration::ZERO);
                self.is_open = false;
            }
            _ => {}
        }
        answer
    }

    /// Closes the instance, and says so before the next is there: what that one has is not gone.
    fn put_down(&mut self, why: String) {
        if std::mem::take(&mut self.is_open) {
            self.backend.close(Duration::ZERO);
            calls::tell(self.number, Told::Gone(why));
        }
    }
}
