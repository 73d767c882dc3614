//! What a peer with valid keys may send that no context would: any control message, any lie.

use std::net::SocketAddr;

use mast_proto::wire::{
    Address, AddressFlags, AddressId, AddressKind, Capabilities, EidPair, Init, InitAck, Message, Mode,
    ModeWish, PathReport, Probe, ProbeAck, Report, Set, SetAck, Shut, ShutAck, ShutReason, VERSION,
};

use crate::contexts::World;

/// The peer says something to the first host.
pub fn act(world: &mut World<'_, '_>) {
    world.hostile = true;
    let path = world.path_to_first();
    let how = world.byte();
    let message = if how % 8 == 7 { None } else { Some(message(world, how)) };
    let bytes = match &message {
        Some(message) => message.encode(),
        None => {
            let length = world.below(80);
            (0..length).map(|_| world.byte()).collect()
        }
    };
    world.hear(bytes.len() + 32);
    if matches!(message, Some(Message::Init(_) | Message::InitAck(_))) || how & 0x80 != 0 {
        // Inside the WireGuard session.
        if matches!(message, Some(Message::Init(_))) {
            world.note_secure(1, &bytes);
        }
        if matches!(message, Some(Message::InitAck(_))) {
            world.note_secure(1, &bytes);
        }
        world.secure(0, path, &bytes);
        return;
    }
    let id = world.byte();
    if let Some(datagram) = world.seal_as_second(id, &bytes) {
        world.mast(0, path, datagram, false);
    }
}

fn address(world: &mut World<'_, '_>) -> SocketAddr {
    let number = world.byte();
    match number % 5 {
        0 => SocketAddr::from(([192, 0, 2, 121 + number / 5], 6278)),
        1 => SocketAddr::from(([203, 0, 113, number / 5], u16::from(number))),
        2 => SocketAddr::from(([0x2001, 0xdb8, 9, 0, 0, 0, 0, u16::from(number)], 6278)),
        3 => SocketAddr::from(([127, 0, 0, number], 6278)),
        _ => SocketAddr::from(([0xfe80, 0, 0, 0, 0, 0, 0, u16::from(number)], 0)),
    }
}

fn number(world: &mut World<'_, '_>) -> u64 {
    let low = u64::from(world.byte());
    match low % 4 {
        0 => low,
        1 => u64::MAX - low,
        2 => low << 32,
        _ => (1 << 40) + low,
    }
}

fn reports(world: &mut World<'_, '_>) -> Vec<PathReport> {
    (0..world.below(6))
        .map(|_| PathReport {
            path: world.byte() % 6,
            epoch: world.byte() % 6,
            highest: number(world),
            received: number(world),
            reordered: number(world),
            silent: world.byte() & 1 == 1,
        })
        .collect()
}

fn random(world: &mut World<'_, '_>) -> [u8; 32] {
    [world.byte(); 32]
}

fn message(world: &mut World<'_, '_>, how: u8) -> Message {
    match how % 12 {
        0 | 1 => {
            let sequence = number(world);
            let count = world.below(17);
            let addresses = (0..count).map(|_| Address {
                id: AddressId(world.byte()),
                at: address(world),
                kind: AddressKind::from(world.byte() % 5),
                priority: world.byte(),
                metered: world.byte() & 1 == 1,
                flags: AddressFlags(world.byte() % 4),
                link: Some(world.byte() % 4).filter(|link| *link != 0),
            });
            let addresses = addresses.collect();
            let mode = Some(ModeWish { mode: Mode::from(world.byte() % 4), small: true, metered: true });
            Message::Set(Set { sequence, addresses, mode })
        }
        2 => Message::SetAck(SetAck { sequence: number(world) }),
        3 => Message::Probe(Probe {
            nonce: number(world),
            address: AddressId(world.byte()),
            time: number(world),
            reports: reports(world),
        }),
        4 => Message::ProbeAck(ProbeAck {
            nonce: number(world),
            observed: address(world),
            time: number(world),
            reports: reports(world),
        }),
        5 | 6 => {
            let missing = (0..world.below(65)).map(|_| number(world) as u32).collect();
            Message::Report(Report { reports: reports(world), missing: Some(missing) })
        }
        8 => Message::Shut(Shut { reason: ShutReason::from(world.byte() % 3) }),
        9 => Message::ShutAck(ShutAck {}),
        10 => Message::Init(Init {
            version: VERSION + u8::from(world.byte() == 9),
            instance: number(world),
            index: number(world) as u32 | 1,
            random: random(world),
            aeads: vec![world.byte() % 4, 1, 2],
            capabilities: Capabilities(0),
            epoch: world.byte(),
            eid_v6: mast_proto::eid_v6(&[1; 32]),
            eid_v4: Some(EidPair { own: [100, 64, 0, 2].into(), other: [100, 64, 0, 3].into() }),
            name: "peer".repeat(world.below(16)),
            further: world.byte().is_multiple_of(2).then(|| vec![number(world) as u32 | 1; world.below(32)]),
        }),
        _ => {
            let asked = world.inits.iter().filter(|(_, said)| said.iter().any(|(from, _)| *from == 0));
            let asked: Vec<_> = asked.map(|(random, _)| *random).collect();
            let at = world.below(asked.len());
            Message::InitAck(InitAck {
                version: VERSION,
                instance: number(world),
                index: number(world) as u32 | 1,
                random: random(world),
                aead: 1 + world.byte() % 2,
                capabilities: Capabilities(0),
                epoch: world.byte() % 8,
                eid_v6: mast_proto::eid_v6(&[1; 32]),
                eid_v4: None,
                name: "peer".into(),
                answers: asked.get(at).copied().unwrap_or([0; 32]),
                further: world
                    .byte()
                    .is_multiple_of(2)
                    .then(|| vec![number(world) as u32 | 1; world.below(32)]),
            })
        }
    }
}
