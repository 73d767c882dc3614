//! The socket's life in the file system.
#![cfg(unix)]

mod common;

use std::os::unix::net::UnixListener;

use common::Stage;
use mast_control::{Server, ServerError, ServerOptions};

fn options(path: &std::path::Path) -> ServerOptions {
    ServerOptions::new("laptop", "1.2.3").at(path)
}

#[tokio::test]
async fn a_dead_services_socket_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = Server::bind(options(&path)).unwrap();
    assert_eq!(server.path(), path);
    // Itself, and the directory of its lock.
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn a_living_services_socket_is_left_alone() {
    let stage = Stage::new();
    let error = Server::bind(options(&stage.path)).err().unwrap();
    assert!(matches!(error, ServerError::AlreadyRunning { .. }));
    stage.greeted().await;
}

#[tokio::test]
async fn a_file_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(Server::bind(options(&path)).err().unwrap(), ServerError::NotASocket { .. }));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn of_many_starts_exactly_one_wins() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    drop(UnixListener::bind(&path).unwrap());
    let starts: Vec<_> = (0..8)
        .map(|_| {
            let options = options(&path);
            tokio::task::spawn_blocking(move || Server::bind(options))
        })
        .collect();
    let mut winners = Vec::new();
    for start in starts {
        winners.extend(start.await.unwrap().ok());
    }
    assert_eq!(winners.len(), 1);
}

#[tokio::test]
async fn the_socket_goes_with_the_service() {
    let stage = Stage::new();
    let path = stage.path.clone();
    let _idle = stage.greeted().await;
    let _directory = stage.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_successors_socket_stays() {
    let stage = Stage::new();
    let path = stage.path.clone();
    std::fs::remove_file(&path).unwrap();
    let _successor = UnixListener::bind(&path).unwrap();
    let _directory = stage.stop().await;
    assert!(path.exists());
}

/// What cleans up `/run` takes the file away; nobody could reach the service any more.
#[tokio::test]
async fn a_socket_that_was_removed_is_made_again() {
    let stage = Stage::new();
    for _ in 0..2 {
        std::fs::remove_file(&stage.path).unwrap();
        let there = async {
            while !stage.path.exists() {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), there).await.expect("it comes back");
        stage.greeted().await;
    }
    // Something else of that name is nobody's to remove.
    std::fs::remove_file(&stage.path).unwrap();
    std::fs::write(&stage.path, "precious").unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(std::fs::read_to_string(&stage.path).unwrap(), "precious");
}
