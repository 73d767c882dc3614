//! What happens in the demonstration, in order.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mast_netlab::traffic::{Download, EchoClient, EchoServer, FileServer};
use mast_netlab::{Direction, LinkProfile};
use mast_stage::{Daemon, Fade, Program, StageError, Train, TrainProfile};

use super::screen::Screen;
use super::verdict::{Step, Verdict};
use crate::output::events::sentence;

/// Bytes to download.
const SIZE: u64 = 300_000_000;
/// Nothing of the script may take longer than this.
const LIMIT: Duration = Duration::from_secs(240);

/// Why the script did not come to its end.
pub enum Ended {
    /// By Ctrl-C.
    Interrupted,
    /// By a fault.
    Failed(StageError),
}

impl<E: Into<StageError>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

fn wifi() -> LinkProfile {
    LinkProfile::delay(Duration::from_millis(20)).with_rate(60_000_000, 300_000)
}

/// Plays it.
pub fn play(screen: &Screen, stop: &AtomicBool) -> Result<Verdict, Ended> {
    screen.say("MAST: one download, two uplinks, and everything that can go wrong with them.\n");
    screen.say("  building a laptop (Wi-Fi 40 ms, cellular 60 ms), a server, and routers between them, all dual-stack");
    let profile = TrainProfile {
        wifi: wifi(),
        cell: LinkProfile::delay(Duration::from_millis(30)).with_rate(40_000_000, 300_000),
        ..TrainProfile::default()
    };
    let train = Train::new(&profile)?;
    screen.say("  starting mastd on both, pairing them with an invite");
    let program = Program::this();
    let server = Daemon::start(&program, &train.server, "")?;
    let laptop = Daemon::start(&program, &train.laptop, "[interfaces.cell]\nmetered = false\n")?;
    server.pair(&laptop)?;
    laptop.wait_active("wifi", Duration::from_secs(15))?;
    let peer = laptop.peer()?;
    let eid: IpAddr = (peer.eid.remote_v4.as_deref())
        .or(peer.eid.remote_v6.as_deref())
        .and_then(|eid| eid.parse().ok())
        .ok_or_else(|| StageError::Late("the peer has no EID".into()))?;
    screen.say(&format!("  downloading {} MB from {eid} over plain TCP\n", SIZE / 1_000_000));
    let files = FileServer::start(&train.server, SocketAddr::new(eid, 8000))?;
    let echoes = EchoServer::start(&train.server, SocketAddr::new(eid, 7))?;
    let echo = EchoClient::start(&train.laptop, echoes.address(), EchoClient::INTERVAL)?;
    let download = Download::start(&train.laptop, files.address(), SIZE, 0x4d41_5354, LIMIT)?;
    let mut play = Play {
        screen,
        stop,
        train: &train,
        laptop: &laptop,
        echo,
        download,
        steps: Vec::new(),
        end: Instant::now() + LIMIT,
    };
    play.wait(Duration::from_secs(2))?;
    play.steps()?;
    play.finish()
}

struct Play<'a> {
    screen: &'a Screen,
    stop: &'a AtomicBool,
    train: &'a Train,
    laptop: &'a Daemon,
    echo: EchoClient,
    download: Download,
    steps: Vec<Step>,
    end: Instant,
}

const STEPS: usize = 8;

impl Play<'_> {
    fn steps(&mut self) -> Result<(), Ended> {
        self.step("pull the Wi-Fi link", |p| {
            p.train.set_wifi(false)?;
            p.until("cell")?;
            p.wait(Duration::from_secs(2))
        })?;
        self.step("bring the Wi-Fi back", |p| {
            p.train.set_wifi(true)?;
            p.until("wifi")?;
            p.wait(Duration::from_secs(1))
        })?;
        self.step("pin cellular", |p| {
            p.laptop.pin(&["cell"], false)?;
            p.until("cell")?;
            p.wait(Duration::from_secs(2))
        })?;
        self.step("unpin it", |p| {
            p.laptop.pin(&[], false)?;
            p.until("wifi")?;
            p.wait(Duration::from_secs(1))
        })?;
        self.step("let the Wi-Fi fade for 6 s, and die", |p| {
            let link = p.train.wifi.link.clone();
            Fade::away(wifi().delay, 60_000_000).carry_out(
                &link,
                &[Direction::AToB, Direction::BToA],
                |time| p.wait(time),
            )?;
            p.train.blackhole_wifi(true)?;
            p.until("cell")?;
            p.wait(Duration::from_secs(1))
        })?;
        self.tell_last();
        self.train.wifi.link.set_profile(&wifi());
        self.train.blackhole_wifi(false)?;
        self.screen.say("        the Wi-Fi is as it was; waiting until it has been so for a while");
        self.until("wifi")?;
        self.wait(Duration::from_secs(1))?;
        self.step("blackhole the Wi-Fi path silently in a router", |p| {
            p.train.blackhole_wifi(true)?;
            p.until("cell")?;
            p.wait(Duration::from_secs(2))
        })?;
        self.train.blackhole_wifi(false)?;
        self.screen.say("        the router is mended; waiting for the Wi-Fi path to prove itself");
        self.until("wifi")?;
        // The server follows a moment later; the next blow shall hit both directions.
        self.wait(Duration::from_secs(1))?;
        self.step("renumber the Wi-Fi to another subnet", |p| {
            p.train.renumber_wifi(5)?;
            p.until("cell")?;
            p.wait(Duration::from_secs(2))
        })?;
        let outage = Duration::from_secs(5);
        self.step("take every path away for 5 s, give one back", |p| {
            p.train.set_wifi(false)?;
            p.train.set_cell(false)?;
            p.wait(outage)?;
            p.train.set_cell(true)?;
            p.until("cell")?;
            p.wait(Duration::from_secs(2))
        })?;
        if let Some(last) = self.steps.last_mut() {
            last.outage = outage;
        }
        Ok(())
    }

    /// What the service says of the latest move.
    fn tell_last(&self) {
        let Ok(status) = self.laptop.status() else { return };
        if let Some(event) = status.events.iter().rev().find(|event| event.is_move()) {
            self.screen.say(&format!("        {}", sentence(event, false)));
        }
    }

    fn step(
        &mut self,
        name: &'static str,
        act: impl FnOnce(&mut Self) -> Result<(), Ended>,
    ) -> Result<(), Ended> {
        self.screen.step(self.steps.len() + 1, STEPS, name);
        let mark = self.echo.mark();
        // What is under way when it happens counts as well.
        self.wait(Duration::from_millis(300))?;
        act(self)?;
        let report = self.echo.report(mark);
        let stall = self.download.longest_stall(mark);
        let over = self.active().unwrap_or_else(|| "nothing".into());
        self.screen.say(&format!(
            "        echo gap {:.0} ms, {} lost; TCP stall {:.0} ms; data goes over {over}",
            report.longest_gap.as_secs_f64() * 1e3,
            report.lost,
            stall.as_secs_f64() * 1e3,
        ));
        self.steps.push(Step {
            name,
            over,
            gap: report.longest_gap,
            outage: Duration::ZERO,
            stall,
            lost: report.lost,
        });
        Ok(())
    }

    fn active(&self) -> Option<String> {
        let peer = self.laptop.peer().ok()?;
        peer.paths.into_iter().find(|p| p.active).map(|p| p.interface)
    }

    /// Waits until data goes over an interface.
    fn until(&mut self, interface: &str) -> Result<(), Ended> {
        let limit = Instant::now() + Duration::from_secs(40);
        while self.active().as_deref() != Some(interface) {
            if Instant::now() > limit {
                let (log, paths) = (self.laptop.log(), self.laptop.peer()?.paths);
                let what = format!("data does not move to {interface}\n{paths:#?}\n{log}");
                return Err(StageError::Late(what).into());
            }
            self.wait(Duration::from_millis(50))?;
        }
        Ok(())
    }

    /// Lets time pass, and shows it.
    fn wait(&mut self, time: Duration) -> Result<(), Ended> {
        let until = Instant::now() + time;
        let (mut bytes, mut at) = (self.download.bytes(), Instant::now());
        let mark = self.echo.mark();
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Ended::Interrupted);
            }
            if Instant::now() > self.end {
                return Err(StageError::Late("the demonstration takes too long".into()).into());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(200)));
            let now = self.download.bytes();
            let rate = (now - bytes) as f64 * 8.0 / at.elapsed().as_secs_f64().max(1e-3);
            (bytes, at) = (now, Instant::now());
            let status = self.laptop.status()?;
            self.screen.live(now, SIZE, rate, self.echo.report(mark).longest_gap, &status);
        }
    }

    fn finish(mut self) -> Result<Verdict, Ended> {
        self.screen.say("  nothing more is broken; waiting for the end of the download");
        while !self.download.is_finished() {
            self.wait(Duration::from_millis(200))?;
        }
        let bytes = self.download.bytes();
        let mut verdict = Verdict { bytes, steps: self.steps, ..Verdict::failed() };
        match self.download.finish() {
            Ok(report) => {
                // The download compares what it hashed with what the server hashed, and fails if they differ.
                verdict.survived = true;
                verdict.sha256_ok = report.bytes == SIZE;
                verdict.sha256 = report.sha256.iter().map(|b| format!("{b:02x}")).collect();
                verdict.elapsed = report.elapsed;
            }
            Err(error) => verdict.failure = Some(error.to_string()),
        }
        Ok(verdict)
    }
}
