//! The service control manager where it started the service, else the console.

use std::ffi::OsString;
use std::fs::File;
use std::os::windows::io::IntoRawHandle;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::signal::windows::{CtrlBreak, CtrlC, CtrlClose, CtrlShutdown};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use windows_service::service::{
    PowerEventParam, ServiceAccess, ServiceAction, ServiceActionType, ServiceControl, ServiceControlAccept,
    ServiceExitCode, ServiceFailureActions, ServiceFailureResetPeriod, ServiceState, ServiceStatus,
    ServiceType,
};
use windows_service::service_control_handler::{self, ServiceControlHandlerResult, ServiceStatusHandle};
use windows_service::service_manager::{ServiceManager, ServiceManagerAccess};
use windows_service::{define_windows_service, service_dispatcher};
use windows_sys::Win32::System::Console::{STD_ERROR_HANDLE, SetStdHandle};
use windows_sys::Win32::System::EventLog::{
    DeregisterEventSource, EVENTLOG_ERROR_TYPE, EVENTLOG_INFORMATION_TYPE, RegisterEventSourceW, ReportEventW,
};

use super::events::{self, Errors, Kind, Number, Sink};
use super::{Asked, Life, Told};

/// The configuration file unless told otherwise.
pub const DEFAULT_CONFIG: &str = r"C:\ProgramData\MAST\mastd.toml";
/// The state directory unless told otherwise.
pub const DEFAULT_STATE: &str = r"C:\ProgramData\MAST\state";

/// What the service is called.
const NAME: &str = "mastd";
/// How long the system shall wait for a start or an end.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the program says of itself when it failed.
const FAILED: u32 = 1;
/// Where the log of a service goes, which has no console.
const LOG: &str = r"C:\ProgramData\MAST\mastd.log";
/// One that is longer, in bytes, is begun anew at a start; the one before is kept.
const LONGEST: u64 = 8 << 20;

/// What the system does when the service ends by itself: it starts it again, after these pauses, the last of which counts
/// for all that follow; and after how long without an end it begins anew.
const AGAIN: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(60)];
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);

type Work = Box<dyn FnOnce() -> ExitCode + Send>;

/// The work of a service, and then how it ended: the system calls a function without arguments.
static WORK: Mutex<Option<Work>> = Mutex::new(None);
static ENDED: Mutex<Option<ExitCode>> = Mutex::new(None);
/// What the service control manager is told by, and what it asks.
static SYSTEM: Mutex<Option<System>> = Mutex::new(None);

struct System {
    status: ServiceStatusHandle,
    asks: Option<UnboundedReceiver<Asked>>,
}

fn locked<T>(value: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

define_windows_service!(service_entry, service);

/// Does the work as a service of the system where that started it so, else at once.
pub(crate) fn live(as_service: bool, work: impl FnOnce() -> ExitCode + Send + 'static) -> ExitCode {
    if !as_service {
        return work();
    }
    if let Err(error) = log_to(Path::new(LOG)) {
        // There is nobody to tell; the service is worth more than its log.
        eprintln!("mastd: no log: {error}");
    }
    *locked(&WORK) = Some(Box::new(work));
    match service_dispatcher::start(NAME, service_entry) {
        Ok(()) => locked(&ENDED).take().unwrap_or(ExitCode::FAILURE),
        Err(error) => {
            eprintln!(
                "mastd: --service is for the system's service control ({error}); start it with `sc start {NAME}`, or \
                 leave --service out"
            );
            ExitCode::FAILURE
        }
    }
}

/// Has what is written to the standard error go to a file.
fn log_to(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    if std::fs::metadata(path).is_ok_and(|file| file.len() > LONGEST) {
        std::fs::rename(path, path.with_extension("old.log"))?;
    }
    let file = File::options().append(true).create(true).open(path)?;
    // SAFETY: the handle is that of a file that is open until the process ends.
    match unsafe { SetStdHandle(STD_ERROR_HANDLE, file.into_raw_handle()) } {
        0 => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn service(_arguments: Vec<OsString>) {
    let (ask, asks) = unbounded_channel();
    let Ok(status) = service_control_handler::register(NAME, move |control| answer(&ask, &control)) else {
        return;
    };
    *locked(&SYSTEM) = Some(System { status, asks: Some(asks) });
    report(ServiceState::StartPending, 0);
    if let Err(error) = recover() {
        // It runs all the same.
        eprintln!("mastd: Windows will not start this service again if it fails: {error}");
    }
    let work = locked(&WORK).take();
    let code = work.map_or(ExitCode::FAILURE, |work| work());
    *locked(&ENDED) = Some(code);
    let told = match code == ExitCode::SUCCESS {
        true => EventLog.put(Number::Stopped, Kind::Information, "The service was told to stop, and did."),
        false => EventLog.put(
            Number::Failed,
            Kind::Error,
            &format!("The service ended with a failure; {LOG} says which. Windows starts it again."),
        ),
    };
    drop(told);
    report(ServiceState::Stopped, if code == ExitCode::SUCCESS { 0 } else { FAILED });
}

/// Has the system start the service again when it fails. What its owner set is kept.
fn recover() -> windows_service::Result<()> {
    let manager = ServiceManager::local_computer(None::<&str>, ServiceManagerAccess::CONNECT)?;
    // To be started again by the system takes the right to start.
    let access = ServiceAccess::QUERY_CONFIG | ServiceAccess::CHANGE_CONFIG | ServiceAccess::START;
    let service = manager.open_service(NAME, access)?;
    // Before it is done with a shutdown: as long as an end may take, and no longer.
    service.set_preshutdown_timeout(PATIENCE)?;
    if service.get_failure_actions()?.actions.is_some_and(|actions| !actions.is_empty()) {
        return Ok(());
    }
    let again = |delay| ServiceAction { action_type: ServiceActionType::Restart, delay };
    service.update_failure_actions(ServiceFailureActions {
        reset_period: ServiceFailureResetPeriod::After(FORGOTTEN),
        reboot_msg: None,
        command: None,
        actions: Some(AGAIN.map(again).to_vec()),
    })?;
    service.set_failure_actions_on_non_crash_failures(true)
}

/// The event log of the system.
struct EventLog;

impl Sink for EventLog {
    fn put(&mut self, number: Number, kind: Kind, text: &str) -> std::io::Result<()> {
        let wide = |text: &str| -> Vec<u16> { text.encode_utf16().chain([0]).collect() };
        let (source, text) = (wide(events::SOURCE), wide(text));
        let kind = match kind {
            Kind::Information => EVENTLOG_INFORMATION_TYPE,
            Kind::Error => EVENTLOG_ERROR_TYPE,
        };
        // SAFETY: both texts end in zero and outlive the calls; one is told of, and the handle is closed.
        unsafe {
            let log = RegisterEventSourceW(std::ptr::null(), source.as_ptr());
            if log.is_null() {
                return Err(std::io::Error::last_os_error());
            }
            let texts = [text.as_ptr()];
            let told = ReportEventW(
                log,
                kind,
                0,
                number as u32,
                std::ptr::null_mut(),
                1,
                0,
                texts.as_ptr(),
                std::ptr::null(),
            );
            let result = if told == 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) };
            DeregisterEventSource(log);
            result
        }
    }
}

/// Who beside the log is told of errors.
pub(crate) fn errors_told() -> Option<impl std::io::Write + Send + 'static> {
    Some(Errors::new(EventLog))
}

/// What the service control manager wants to hear, and what follows.
fn answer(ask: &UnboundedSender<Asked>, control: &ServiceControl) -> ServiceControlHandlerResult {
    let Some(asked) = asked(control) else {
        return match control {
            ServiceControl::Interrogate | ServiceControl::PowerEvent(_) => {
                ServiceControlHandlerResult::NoError
            }
            _ => ServiceControlHandlerResult::NotImplemented,
        };
    };
    // Nobody listens any more when it has ended.
    let _ = ask.send(asked);
    ServiceControlHandlerResult::NoError
}

fn asked(control: &ServiceControl) -> Option<Asked> {
    match control {
        ServiceControl::Stop | ServiceControl::Shutdown | ServiceControl::Preshutdown => Some(Asked::Stop),
        ServiceControl::PowerEvent(PowerEventParam::Suspend) => Some(Asked::Sleep),
        ServiceControl::PowerEvent(
            PowerEventParam::ResumeAutomatic
            | PowerEventParam::ResumeSuspend
            | PowerEventParam::ResumeCritical,
        ) => Some(Asked::Wake),
        _ => None,
    }
}

fn report(state: ServiceState, code: u32) {
    let system = locked(&SYSTEM);
    let Some(system) = &*system else { return };
    let running = state == ServiceState::Running;
    let accepted =
        ServiceControlAccept::STOP | ServiceControlAccept::PRESHUTDOWN | ServiceControlAccept::POWER_EVENT;
    let status = ServiceStatus {
        service_type: ServiceType::OWN_PROCESS,
        current_state: state,
        controls_accepted: if running { accepted } else { ServiceControlAccept::empty() },
        exit_code: if code == 0 { ServiceExitCode::Win32(0) } else { ServiceExitCode::ServiceSpecific(code) },
        checkpoint: 0,
        wait_hint: if running { Duration::ZERO } else { PATIENCE },
        process_id: None,
    };
    if let Err(error) = system.status.set_service_status(status) {
        tracing::warn!(%error, "the system's service control could not be told");
    }
}

/// Ctrl-C, Ctrl-Break, the end of the console and of the system stop a service that was started by hand.
pub(crate) struct Windows {
    interrupt: CtrlC,
    pause: CtrlBreak,
    close: CtrlClose,
    shutdown: CtrlShutdown,
    asks: Option<UnboundedReceiver<Asked>>,
}

impl Windows {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn new() -> std::io::Result<Self> {
        use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown};
        Ok(Self {
            interrupt: ctrl_c()?,
            pause: ctrl_break()?,
            close: ctrl_close()?,
            shutdown: ctrl_shutdown()?,
            asks: locked(&SYSTEM).as_mut().and_then(|system| system.asks.take()),
        })
    }
}

impl Life for Windows {
    async fn asked(&mut self) -> Asked {
        let service = async {
            match &mut self.asks {
                Some(asks) => match asks.recv().await {
                    Some(asked) => asked,
                    None => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        };
        let name = tokio::select! {
            asked = service => return asked,
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.pause.recv() => "Ctrl-Break",
            _ = self.close.recv() => "the end of the console",
            _ = self.shutdown.recv() => "the end of the system",
        };
        tracing::info!(signal = name, "told to stop");
        Asked::Stop
    }

    fn tell(&self, told: Told) {
        match told {
            Told::Ready => {
                report(ServiceState::Running, 0);
                if locked(&SYSTEM).is_some() {
                    let text = format!("The service has started (version {}).", crate::VERSION);
                    let _ = EventLog.put(Number::Started, Kind::Information, &text);
                }
            }
            Told::Stopping => report(ServiceState::StopPending, 0),
            Told::Alive => {}
        }
    }

    /// The system does not want to hear.
    fn alive_every(&self) -> Option<Duration> {
        None
    }
}

/// Other processes of the same account can look into this one: the service has an account of its own.
///
/// # Errors
/// Never.
#[allow(clippy::unnecessary_wraps, reason = "other systems can refuse")]
pub(crate) fn shut_memory() -> std::io::Result<()> {
    Ok(())
}

/// What this machine calls itself; empty if it does not say.
pub(crate) fn host_name() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_asks_is_understood() {
        for (control, expected) in [
            (ServiceControl::Stop, Some(Asked::Stop)),
            (ServiceControl::Shutdown, Some(Asked::Stop)),
            (ServiceControl::Preshutdown, Some(Asked::Stop)),
            (ServiceControl::PowerEvent(PowerEventParam::Suspend), Some(Asked::Sleep)),
            (ServiceControl::PowerEvent(PowerEventParam::ResumeAutomatic), Some(Asked::Wake)),
            (ServiceControl::PowerEvent(PowerEventParam::ResumeSuspend), Some(Asked::Wake)),
            (ServiceControl::PowerEvent(PowerEventParam::PowerStatusChange), None),
            (ServiceControl::Interrogate, None),
            (ServiceControl::Pause, None),
        ] {
            assert_eq!(asked(&control), expected, "{control:?}");
        }
        let (ask, mut asks) = unbounded_channel();
        assert!(matches!(answer(&ask, &ServiceControl::Interrogate), ServiceControlHandlerResult::NoError));
        assert!(matches!(answer(&ask, &ServiceControl::Pause), ServiceControlHandlerResult::NotImplemented));
        assert!(asks.try_recv().is_err());
        assert!(matches!(answer(&ask, &ServiceControl::Stop), ServiceControlHandlerResult::NoError));
        assert_eq!(asks.try_recv(), Ok(Asked::Stop));
        drop(asks);
        assert!(matches!(answer(&ask, &ServiceControl::Stop), ServiceControlHandlerResult::NoError));
    }

    #[test]
    fn the_event_log_takes_a_text() {
        EventLog.put(Number::Started, Kind::Information, "A test of MAST.").unwrap();
        assert!(errors_told().is_some());
    }

    #[test]
    fn without_a_service_the_work_is_done_at_once() {
        assert_eq!(live(false, || ExitCode::from(7)), ExitCode::from(7));
    }
}
