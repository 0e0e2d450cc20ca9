//! A worker and a server whose part the test plays.

use std::net::Ipv4Addr;

use axum::Router;
use axum::extract::WebSocketUpgrade;
use axum::routing::get;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use torc_core::ids::{AttemptId, JobId, RunId, StepId};
use torc_core::traits::{NodeState, Outcome, Step, StepSignal, StepState, Usage};
use torc_core::wire::link::Hello;

use super::*;
use crate::link::channel::{Channel, Settings};
use crate::link::identity::Identity;
use crate::link::listener::{Limits, Listener, bind_at};
use crate::link::remote::Remote;
use crate::link::tls;
use crate::state_dir::Owner;

const LONG: Duration = Duration::from_secs(3600);

/// A state directory whose server is said to be there.
fn announced(address: String, identity: &Identity) -> (tempfile::TempDir, StateDir) {
    let folder = tempfile::tempdir().unwrap();
    let dir = StateDir::at(folder.path()).unwrap();
    let remote =
        Remote { addresses: vec![address], pin: identity.pin(), token: identity.token().clone() };
    let owner = Owner::this_process(folder.path());
    dir.announce(&Owner { remote: Some(Box::new(remote)), ..owner }).unwrap();
    (folder, dir)
}

/// Steps that do nothing by themselves.
struct NoSteps;

#[async_trait::async_trait]
impl Executor for NoSteps {
    async fn inventory(&self) -> Result<Vec<NodeInventory>, ExecutorError> {
        Ok(Vec::new())
    }

    async fn launch(&self, _: Step) -> Result<(), ExecutorError> {
        Ok(())
    }

    async fn signal(&self, _: StepId, _: StepSignal) -> Result<(), ExecutorError> {
        Ok(())
    }

    async fn reconcile(&self, steps: &[StepId]) -> Result<Vec<StepState>, ExecutorError> {
        Ok(vec![StepState::Unknown; steps.len()])
    }
}

/// A worker, and the connections that it makes.
struct Play {
    worker: JoinHandle<Result<WorkerEnd, WorkerError>>,
    connections: mpsc::UnboundedReceiver<Channel<ToServer, ToWorker>>,
    reports: mpsc::UnboundedSender<StepEvent>,
    stop: watch::Sender<bool>,
    folder: tempfile::TempDir,
    _listener: Listener,
}

impl Play {
    fn begin() -> Self {
        Self::ending_with(Vec::new())
    }

    /// A worker whose steps come to these ends when they are asked to end.
    fn ending_with(ends: Vec<StepEvent>) -> Self {
        let (connected, connections) = mpsc::unbounded_channel();
        let connect = move |upgrade: WebSocketUpgrade| {
            let connected = connected.clone();
            let serve = async move |channel| drop(connected.send(channel));
            std::future::ready(Channel::accept(upgrade, Settings::default(), serve))
        };
        let router = Router::new().route("/v1/worker", get(connect));
        let identity = Identity::generate().unwrap();
        let socket = bind_at((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = Listener::start(socket, &identity, router, Limits::default()).unwrap();
        let (folder, dir) = announced(listener.address().to_string(), &identity);
        let (reports_in, reports) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let parts = WorkerParts {
            dir,
            workflow: WorkflowId(1),
            allocation: AllocationId(1),
            handle: AllocationHandle("1".to_owned()),
            nodes: vec![NodeInventory {
                name: "n1".into(),
                cores: [0].into(),
                threads_per_core: 1,
                slots: None,
                memory: 1,
                gpus: [].into(),
            }],
            began_at: None,
            ends_at: None,
            executor: Arc::new(NoSteps),
            reports,
            on_node: Some(Box::new(|node, _| {
                // As its name says; one that has no number is lost.
                let code = node.trim_start_matches('n').parse().ok();
                Box::pin(std::future::ready(code))
            })),
            release: None,
            tell_end: None,
            wind_up: {
                let reports = reports_in.clone();
                Box::new(move || {
                    ends.into_iter().for_each(|end| reports.send(end).unwrap());
                    Box::pin(std::future::ready(()))
                })
            },
            ask_end: Box::new(|| Box::pin(std::future::ready(Ok(None)))),
            stop: stopped,
            patience: LONG,
        };
        let worker = tokio::spawn(work(parts));
        let (reports, _listener) = (reports_in, listener);
        Self { worker, connections, reports, stop, folder, _listener }
    }

    /// What the journal holds.
    fn journal(&self) -> Vec<StepEvent> {
        let path = journal::path(self.folder.path(), WorkflowId(1), AllocationId(1));
        journal::read(&path).unwrap()
    }

    /// The next connection of the worker, and its first words.
    async fn connection(&mut self) -> (Channel<ToServer, ToWorker>, Hello) {
        let mut channel = self.connections.recv().await.expect("it connects");
        let Ok(ToServer::Hello(hello)) = channel.receiver.next().await else {
            panic!("a worker says first who it is");
        };
        (channel, *hello)
    }
}

/// An end long ago.
fn ended(job: u32, outcome: Outcome) -> StepEvent {
    ended_at(Timestamp(7), job, outcome)
}

/// An end in times to come.
fn will_end(job: u32, outcome: Outcome) -> StepEvent {
    ended_at(Timestamp(1 << 48), job, outcome)
}

fn ended_at(at: Timestamp, job: u32, outcome: Outcome) -> StepEvent {
    let (workflow, job) = (WorkflowId(1), JobId(job));
    let step = StepId { workflow, job, run: RunId(1), attempt: AttemptId::FIRST };
    StepEvent::Ended { step, at, outcome, usage: Usage::default() }
}

fn hello() -> Hello {
    Hello {
        protocol: PROTOCOL,
        version: String::new(),
        host: String::new(),
        workflow: WorkflowId(1),
        allocation: AllocationId(1),
        handle: AllocationHandle("1".to_owned()),
        generation: 0,
        nodes: Vec::new(),
        node_states: Vec::new(),
        began_at: None,
        ends_at: None,
        running: Vec::new(),
        ended: Vec::new(),
    }
}

#[tokio::test]
async fn a_server_that_stands_still_is_not_waited_for_for_ever() {
    let identity = Identity::generate().unwrap();
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (_folder, dir) = announced(socket.local_addr().unwrap().to_string(), &identity);
    let acceptor = tls::acceptor(&identity).unwrap();
    tokio::spawn(async move {
        let (stream, _) = socket.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        // The wish for a WebSocket has come; from here on only time passes.
        stream.read_u8().await.unwrap();
        tokio::time::pause();
        std::future::pending::<()>().await;
    });
    let reached = timeout(LONG, reach(dir, hello())).await.expect("it gives up");
    let Err(Unreached::Unknown(reason)) = reached else { panic!("nobody was reached") };
    assert_eq!(reason, "the server did not take this worker in within 60 s");
}

#[tokio::test]
async fn a_worker_knows_whom_it_has_served_and_tries_again_where_it_is_not_refused() {
    let mut play = Play::begin();
    let (channel, hello) = play.connection().await;
    assert_eq!(hello.generation, 0);
    channel.sender.send(&ToWorker::Welcome { generation: 5 }).unwrap();
    channel.sender.close("the server ends");
    let (channel, hello) = play.connection().await;
    assert_eq!(hello.generation, 5);
    channel.sender.close("this server is only generation 4");
    let (channel, hello) = play.connection().await;
    assert_eq!(hello.generation, 5);
    let reason = "allocation 1 is over".to_owned();
    channel.sender.send(&ToWorker::Refused { reason: reason.clone() }).unwrap();
    let ended = play.worker.await.unwrap();
    assert!(matches!(ended, Err(WorkerError::Refused(why)) if why == reason));
}

#[tokio::test]
async fn a_command_that_went_with_its_node_is_not_said_to_have_ended() {
    let mut play = Play::begin();
    let (mut channel, _) = play.connection().await;
    channel.sender.send(&ToWorker::Welcome { generation: 1 }).unwrap();
    let order = |command: u32, node: &str| ToWorker::RunCommand {
        command: ActionCommand { action: 0, worker: None, command },
        text: String::new(),
        output: String::new(),
        env: Vec::new(),
        working_dir: String::new(),
        node: Some(node.into()),
    };
    channel.sender.send(&order(0, "lost")).unwrap();
    channel.sender.send(&order(1, "n3")).unwrap();
    let ended = |command, code| {
        Ok(ToServer::CommandEnded(ActionCommand { action: 0, worker: None, command }, code))
    };
    assert_eq!(channel.receiver.next().await, ended(1, 3));
    channel.sender.send(&order(1, "n4")).unwrap();
    assert_eq!(channel.receiver.next().await, ended(1, 3), "it has run");
    channel.sender.send(&order(0, "n5")).unwrap();
    assert_eq!(channel.receiver.next().await, ended(0, 5), "it runs anew");
}

const EXITED: Outcome = Outcome::Exited { code: 0 };
const FAILED: Outcome = Outcome::Exited { code: 1 };

#[tokio::test]
async fn a_worker_that_is_asked_to_end_tells_how_its_steps_did() {
    let mut play = Play::ending_with(vec![
        will_end(3, EXITED),
        will_end(4, Outcome::Cancelled),
        will_end(5, Outcome::Exited { code: 143 }),
        will_end(6, Outcome::TimedOut { code: None }),
    ]);
    let (mut channel, _) = play.connection().await;
    channel.sender.send(&ToWorker::Welcome { generation: 1 }).unwrap();
    play.reports.send(ended(1, EXITED)).unwrap();
    assert_eq!(channel.receiver.next().await, Ok(ToServer::Report(ended(1, EXITED))));
    // Both are there when it looks next.
    play.reports.send(ended(2, FAILED)).unwrap();
    play.stop.send(true).unwrap();
    let (mut reports, mut is_draining) = (Vec::new(), false);
    let closed = loop {
        match channel.receiver.next().await {
            Ok(ToServer::Report(StepEvent::NodeChanged { node, state, .. })) => {
                is_draining = &*node == "n1" && state == NodeState::Draining;
            }
            Ok(ToServer::Report(report)) => {
                assert!(
                    is_draining || report == ended(2, FAILED),
                    "first it says that nothing more is to start"
                );
                reports.push(report);
            }
            Ok(other) => panic!("{other:?}"),
            Err(ended) => break ended.to_string(),
        }
    };
    assert_eq!((&mut play.worker).await.unwrap().unwrap(), WorkerEnd::Stopped);
    // Why the others ended is told by the end of the allocation.
    assert_eq!(reports, [ended(2, FAILED), will_end(3, EXITED)]);
    assert_eq!(play.journal(), [ended(1, EXITED), ended(2, FAILED), will_end(3, EXITED)]);
    assert_eq!(closed, "the connection was closed: the worker was asked to end");
}

#[tokio::test]
async fn a_worker_that_ends_while_nobody_is_there_writes_down_how_its_steps_did() {
    let mut play = Play::ending_with(vec![will_end(2, EXITED), will_end(3, Outcome::Lost)]);
    let (channel, _) = play.connection().await;
    play.reports.send(ended(1, EXITED)).unwrap();
    play.stop.send(true).unwrap();
    assert_eq!((&mut play.worker).await.unwrap().unwrap(), WorkerEnd::Stopped);
    assert_eq!(play.journal(), [ended(1, EXITED), will_end(2, EXITED)]);
    drop(channel);
}

#[tokio::test]
async fn a_worker_that_is_refused_writes_down_how_its_steps_did() {
    let mut play = Play::ending_with(vec![will_end(1, EXITED)]);
    let (channel, _) = play.connection().await;
    let reason = "allocation 1 is over".to_owned();
    channel.sender.send(&ToWorker::Refused { reason }).unwrap();
    (&mut play.worker).await.unwrap().unwrap_err();
    assert_eq!(play.journal(), [will_end(1, EXITED)]);
}
