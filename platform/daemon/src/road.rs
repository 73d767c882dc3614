//! The thread on which datagrams move, and nothing else: the engine alone runs there. Whoever asks, whoever writes to the
//! disk, whatever is read and put into words does so on the service's other thread, and speaks to the engine by messages.
//! So the most that anybody can do with questions is to make answers late.

use std::thread;
use std::time::Duration;

use mast_engine::api::{Change, EngineConfig};
use mast_engine::{Engine, EngineHandle};
use mast_platform::Native;
use tokio::sync::{mpsc, oneshot};

use crate::convert::refusal;
use crate::failure::Failure;

/// The engine, at work.
pub(crate) struct Road {
    pub engine: EngineHandle,
    pub changes: mpsc::UnboundedReceiver<Change>,
}

/// Starts the engine on a thread of its own. It ends with the engine.
///
/// # Errors
/// When the engine does not start, or the system gives no thread.
pub(crate) async fn start(platform: Native, config: EngineConfig) -> Result<Road, Failure> {
    let (reply, started) = oneshot::channel();
    let thread = thread::Builder::new().name("mast-engine".to_owned());
    let system = |source| Failure::System { what: "cannot start the engine's thread", source };
    thread.spawn(move || run(platform, config, reply)).map_err(system)?;
    started.await.map_err(|_| Failure::Ended)?
}

fn run(platform: Native, config: EngineConfig, reply: oneshot::Sender<Result<Road, Failure>>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .thread_keep_alive(Duration::from_secs(2))
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(source) => {
            // Nobody waits any more where the service was told to stop meanwhile; so it is below.
            let _ = reply.send(Err(Failure::System { what: "cannot start the engine's runtime", source }));
            return;
        }
    };
    runtime.block_on(async {
        match Engine::begin(platform, config).await {
            Ok((engine, changes, task)) => {
                let _ = reply.send(Ok(Road { engine, changes }));
                if let Err(error) = task.await {
                    tracing::error!(%error, "the engine broke down");
                }
            }
            Err(error) => drop(reply.send(Err(Failure::Engine(refusal(error))))),
        }
    });
    // What hangs must not hold up the end.
    runtime.shutdown_background();
}
