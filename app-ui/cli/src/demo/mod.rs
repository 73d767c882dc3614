//! `mast demo`: shows on this machine alone what MAST does.
//!
//! A laptop with Wi-Fi and cellular, a server, and the routers between them, with IPv4 and IPv6, are built in network
//! namespaces; two real services are started on them and paired with an invite. While a file is downloaded over one plain TCP
//! connection through the tunnel, the links are pulled, moved, and silenced, one after the other. A 100 Hz UDP
//! echo beside the download measures the silence that each step brings.

mod screen;
mod script;
mod verdict;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use verdict::Verdict;

/// Runs the demonstration.
pub fn run(json: bool) -> ExitCode {
    // Before any thread: the whole process moves into a network of its own.
    if let Err(error) = mast_netlab::enter() {
        eprintln!("mast demo: {error}");
        return ExitCode::FAILURE;
    }
    let stop = Arc::new(AtomicBool::new(false));
    watch_signals(&stop);
    match script::play(&screen::Screen::new(json), &stop) {
        Ok(verdict) => {
            if json {
                println!("{}", verdict.json());
            } else {
                print!("{}", verdict.text());
            }
            if verdict.survived && verdict.sha256_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(script::Ended::Interrupted) => {
            eprintln!("\nmast demo: stopped; nothing is left behind");
            ExitCode::from(130)
        }
        Err(script::Ended::Failed(error)) => {
            if json {
                println!("{}", Verdict::failed().json());
            }
            eprintln!("\nmast demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C ends the script at its next breath; everything it made goes with the process.
fn watch_signals(stop: &Arc<AtomicBool>) {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            stop.store(true, Ordering::Relaxed);
            // A second one does not wait.
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            std::process::exit(130);
        });
    });
}
