//! How a drill is run: what it wants, done.

use std::time::Instant;

use mast_proto::{Context, Link, PathKey, PathState, PathView};
use tokio::sync::mpsc;

use crate::api::{DrillStep, EngineError};
use crate::drill::{Act, Drill, Taken, View};
use crate::engine::Engine;
use crate::icmp;
use crate::os::Platform;
use crate::peer::{Names, PeerId};

/// This host's links that work, or the peer's.
fn links(context: &Context, own: bool) -> View {
    let link = |p: &PathView| if own { Link::Own(p.key.interface) } else { Link::Peer(p.peer_link) };
    let mut view = View::default();
    for path in context.paths() {
        let link = link(&path);
        if path.active {
            view.active = Some(link);
        }
        if path.state == PathState::Validated && !view.working.contains(&link) {
            view.working.push(link);
        }
    }
    view
}

fn is_of(path: &PathView, link: Link) -> bool {
    match link {
        Link::Own(interface) => path.key.interface == interface,
        Link::Peer(link) => path.peer_link == link,
    }
}

/// The interface's name, and the peer's address where the name alone would not tell the two paths apart.
fn road(names: &Names, path: PathKey, other: PathKey) -> String {
    let name = names.of(path.interface);
    if other.interface == path.interface { format!("{name} ({})", path.remote.ip()) } else { name }
}

impl<P: Platform> Engine<P> {
    /// Begins a drill.
    pub(crate) fn start_drill(
        &mut self,
        now: Instant,
        name: &str,
    ) -> Result<(usize, mpsc::Receiver<DrillStep>), EngineError> {
        let id = self.find_peer(name)?;
        if self.drill.is_some() {
            return Err(EngineError::DrillRuns);
        }
        let peer = self.peers.get(id).filter(|p| p.eid_v6().is_some() && !p.is_plain());
        let Some(peer) = peer else {
            return Err(EngineError::DrillPlain { peer: name.to_owned() });
        };
        let own = links(&peer.context, true).working.len() > 1;
        let identifier = self.random.u64() as u16;
        let (sender, steps) = mpsc::channel(64);
        let view = self.view(id, own);
        let Some(drill) = Drill::new(now, id, identifier, &view, sender) else {
            return Err(EngineError::DrillLinks { peer: name.to_owned(), working: view.working.len() });
        };
        self.drill = Some(drill);
        Ok((view.working.len(), steps))
    }

    /// What the drill must know, of this host's links (`own`) or the peer's.
    fn view(&self, id: PeerId, own: bool) -> View {
        self.peers.get(id).map(|peer| links(&peer.context, own)).unwrap_or_default()
    }

    pub(crate) fn drive_drill(&mut self, now: Instant) {
        let Some(drill) = &self.drill else { return };
        if now < drill.timeout() {
            return;
        }
        let id = drill.peer;
        let view = self.view(id, drill.is_of_own());
        let Some(drill) = &mut self.drill else { return };
        let gone = self.peers.get(id).is_none_or(|p| p.leaving.is_some());
        let acts = if gone || !self.up { vec![Act::Done] } else { drill.poll(now, &view) };
        for act in acts {
            match act {
                Act::Echo(sequence) => self.echo(now, id, sequence),
                Act::Silence(link) => {
                    if let Some(peer) = self.peers.touch(id) {
                        peer.context.silence(now, link);
                    }
                }
                Act::Tell(link) => self.tell_step(id, link),
                Act::Done => self.drill = None,
            }
        }
    }

    fn tell_step(&self, id: PeerId, link: Link) {
        let Some(peer) = self.peers.get(id) else { return };
        let of: Vec<_> = peer.context.paths().filter(|p| is_of(p, link)).collect();
        let (Some(first), Some(drill)) = (of.first(), &self.drill) else { return };
        let interface = self.uplinks.names().of(first.key.interface);
        let active = peer.context.paths().find(|p| p.active && !is_of(p, link)).map(|p| p.key);
        let to = active.map(|p| road(self.uplinks.names(), p, first.key));
        drill.tell(Taken { interface, remote: first.key.remote, paths: of.len() }, to);
    }

    fn echo(&mut self, now: Instant, id: PeerId, sequence: u16) {
        let Some(identifier) = self.drill.as_ref().map(|d| d.identifier) else { return };
        let Some((own, other)) = self.peers.get(id).and_then(|p| p.eid_v6()) else { return };
        self.forward(now, id, &mut icmp::echo_request(own, other, identifier, sequence));
    }
}
