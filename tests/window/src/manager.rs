//! A stand-in for NetworkManager: no real one runs in a network namespace, and none would find a login page there.

use zbus::blocking::Connection;

use crate::Desk;

const PATH: &str = "/org/freedesktop/NetworkManager";

struct State {
    connectivity: u32,
}

#[zbus::interface(name = "org.freedesktop.NetworkManager")]
impl State {
    #[zbus(property)]
    fn connectivity(&self) -> u32 {
        self.connectivity
    }
}

/// What tells desktops whether the network leads anywhere.
pub struct NetworkManager {
    bus: Connection,
}

impl NetworkManager {
    /// `NM_CONNECTIVITY_PORTAL`: the network wants a login first.
    pub const PORTAL: u32 = 2;
    /// `NM_CONNECTIVITY_FULL`.
    pub const FULL: u32 = 4;

    /// Starts on the desktop's bus.
    pub fn new(desk: &Desk) -> Self {
        let bus = desk.connection();
        bus.object_server().at(PATH, State { connectivity: Self::FULL }).unwrap();
        bus.request_name("org.freedesktop.NetworkManager").unwrap();
        Self { bus }
    }

    /// Finds something else out.
    pub fn find(&self, connectivity: u32) {
        let object = self.bus.object_server().interface::<_, State>(PATH).unwrap();
        object.get_mut().connectivity = connectivity;
        let state = object.get();
        zbus::block_on(state.connectivity_changed(object.signal_emitter())).unwrap();
    }
}
