//! How a drill is run: what it wants, done.

use std::time::Instant;

use mast_proto::PathState;
use tokio::sync::mpsc;

use crate::api::{DrillStep, EngineError};
use crate::drill::{Act, Drill, View};
use crate::engine::{Engine, touch};
use crate::icmp;
use crate::os::Platform;
use crate::peer::PeerId;

impl<P: Platform> Engine<P> {
    /// Begins a drill.
    pub(crate) fn start_drill(
        &mut self,
        now: Instant,
        name: &str,
    ) -> Result<mpsc::Receiver<DrillStep>, EngineError> {
        let id = self.find_peer(name)?;
        if self.drill.is_some() {
            return Err(EngineError::DrillRuns);
        }
        let peer = self.peers.get(&id).filter(|p| p.eid_v6().is_some() && !p.is_plain());
        let Some(peer) = peer else {
            return Err(EngineError::DrillPlain { peer: name.to_owned() });
        };
        let working = peer.context.paths().filter(|p| p.state == PathState::Validated).count();
        let identifier = self.random.u64() as u16;
        let (sender, steps) = mpsc::channel(64);
        let view = self.view(id);
        let Some(drill) = Drill::new(now, id, identifier, &view, sender) else {
            return Err(EngineError::DrillPaths { peer: name.to_owned(), working });
        };
        self.drill = Some(drill);
        Ok(steps)
    }
    /// What the drill must know.
    pub(crate) fn view(&self, id: PeerId) -> View {
        let Some(peer) = self.peers.get(&id) else { return View { active: None, validated: Vec::new() } };
        View {
            active: peer.context.active_path(),
            validated: peer
                .context
                .paths()
                .filter(|p| p.state == PathState::Validated)
                .map(|p| p.key)
                .collect(),
        }
    }

    pub(crate) fn drive_drill(&mut self, now: Instant) {
        let Some(drill) = &self.drill else { return };
        if now < drill.timeout() {
            return;
        }
        let id = drill.peer;
        let view = self.view(id);
        let Some(drill) = &mut self.drill else { return };
        let gone = self.peers.get(&id).is_none_or(|p| p.leaving.is_some());
        let acts = if gone || !self.up { vec![Act::Done] } else { drill.poll(now, &view) };
        for act in acts {
            match act {
                Act::Echo(sequence) => self.echo(now, id, sequence),
                Act::Exclude(path) => {
                    if let Some(peer) = self.peers.get_mut(&id) {
                        peer.context.exclude(now, path);
                        touch(&mut self.touched, id);
                    }
                }
                Act::Tell(path) => {
                    let to = view.active.filter(|p| *p != path).map(|p| self.names.of(p.interface));
                    let interface = self.names.of(path.interface);
                    if let Some(drill) = &self.drill {
                        drill.tell(interface, to);
                    }
                }
                Act::Done => self.drill = None,
            }
        }
    }

    fn echo(&mut self, now: Instant, id: PeerId, sequence: u16) {
        let Some(identifier) = self.drill.as_ref().map(|d| d.identifier) else { return };
        let Some((own, other)) = self.peers.get(&id).and_then(|p| p.eid_v6()) else { return };
        self.forward(now, id, &mut icmp::echo_request(own, other, identifier, sequence));
    }
}
