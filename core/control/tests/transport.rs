//! The conversation needs nothing of a socket: it goes over any two streams, with anybody's word for who is there.
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod common;

use std::io;
use std::sync::Arc;

use common::Fake;
use mast_control::transport::{Accepted, Listener, Reader, Writer};
use mast_control::{Access, Caller, Client, ClientError, Server, ServerOptions};
use tokio::sync::{mpsc, oneshot};

/// A pipe in memory for each client.
struct Pipes(mpsc::Receiver<Accepted>);

impl Listener for Pipes {
    async fn accept(&mut self) -> io::Result<Accepted> {
        match self.0.recv().await {
            Some(accepted) => Ok(accepted),
            None => std::future::pending().await,
        }
    }
}

/// Comes as a user, and returns the client's ends.
async fn come(pipes: &mpsc::Sender<Accepted>, caller: Caller) -> (Reader, Writer) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (reader, writer) = tokio::io::split(far);
    let accepted = Accepted { reader: Box::new(reader), writer: Box::new(writer), caller };
    pipes.send(accepted).await.map_err(drop).unwrap();
    let (reader, writer) = tokio::io::split(near);
    (Box::new(reader), Box::new(writer))
}

#[tokio::test]
async fn any_transport_will_do() {
    let (pipes, listener) = mpsc::channel(1);
    let options = ServerOptions::new("laptop", "1.2.3").with_access(Access::system());
    let server = Server::on(Pipes(listener), options);
    let service = Arc::new(Fake {
        notices: tokio::sync::broadcast::channel(64).0,
        drill_dropped: mpsc::unbounded_channel().0,
        finished: mpsc::unbounded_channel().0,
        status: mast_control::Status::default(),
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(service, async {
        let _ = stopped.await;
    }));

    let (reader, writer) = come(&pipes, Caller::foreign("S-1-5-18", true)).await;
    let mut administrator = Client::over(reader, writer, "test").await.unwrap();
    assert!(administrator.server().may_change);
    administrator.up().await.unwrap();

    let (reader, writer) = come(&pipes, Caller::foreign("S-1-5-21-1", false)).await;
    let mut guest = Client::over(reader, writer, "test").await.unwrap();
    assert!(!guest.server().may_change);
    assert_eq!(guest.status().await.unwrap().name, "laptop");
    assert!(matches!(guest.up().await, Err(ClientError::Refused(_))));

    // Nobody shuts the others out, whatever the transport.
    let mut held = Vec::new();
    let refused = loop {
        let (reader, writer) = come(&pipes, Caller::foreign("S-1-5-21-2", false)).await;
        match Client::over(reader, writer, "test").await {
            Ok(client) => held.push(client),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, ClientError::Refused(_)), "{refused}");
    assert!(held.len() < 64);
    administrator.status().await.unwrap();

    stop.send(()).unwrap();
    running.await.unwrap();
}
