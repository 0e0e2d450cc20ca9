//! A worker and a server whose part the test plays.

use std::net::Ipv4Addr;

use axum::Router;
use axum::extract::WebSocketUpgrade;
use axum::routing::get;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use torc_core::ids::StepId;
use torc_core::traits::{Step, StepSignal, StepState};
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
    _reports: mpsc::UnboundedSender<StepEvent>,
    _stop: watch::Sender<bool>,
    _listener: Listener,
    _folder: tempfile::TempDir,
}

impl Play {
    fn begin() -> Self {
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
            nodes: Vec::new(),
            ends_at: None,
            executor: Arc::new(NoSteps),
            reports,
            ask_end: Box::new(|| Box::pin(std::future::ready(Ok(None)))),
            stop: stopped,
            patience: LONG,
        };
        let worker = tokio::spawn(work(parts));
        let (_reports, _stop, _listener, _folder) = (reports_in, stop, listener, folder);
        Self { worker, connections, _reports, _stop, _listener, _folder }
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
