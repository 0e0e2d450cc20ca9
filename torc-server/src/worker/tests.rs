//! A worker and a server whose part the test plays.

use std::net::Ipv4Addr;

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::timeout;
use torc_core::wire::link::Hello;

use super::*;
use crate::link::identity::Identity;
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
        failed_nodes: Vec::new(),
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
