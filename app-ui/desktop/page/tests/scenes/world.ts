// A made-up laptop on a train, from which every scene is built.

import type {
  History,
  InterfaceStatus,
  PathStatus,
  PeerStatus,
  Service,
  Snapshot,
  Status,
  StoryEvent,
  UplinkUsage,
} from '../../src/lib/api';

export const NOW = Date.parse('2026-11-24T12:04:00Z');
const at = (back: number): string => new Date(NOW - back).toISOString().replace('.000Z', 'Z');

export function item(name: string, more: Partial<InterfaceStatus> = {}): InterfaceStatus {
  return {
    name,
    kind: 'wifi',
    network: null,
    addresses: ['192.168.1.20', 'fe80::1c2d:3eff:fe4f:5a6b'],
    metered: false,
    usable: true,
    metered_by_hand: null,
    excluded: false,
    ...more,
  };
}

export function path(id: number, over: string, more: Partial<PathStatus> = {}): PathStatus {
  return {
    id,
    interface: over,
    local: `192.168.1.20:6278`,
    remote: '203.0.113.7:6278',
    state: 'validated',
    active: false,
    srtt_ms: 34.2,
    loss: 0.004,
    mtu: 1420,
    rx_bytes: 48_200_000,
    tx_bytes: 3_900_000,
    ...more,
  };
}

export function peer(name: string, more: Partial<PeerStatus> = {}): PeerStatus {
  return {
    name,
    public_key: 'm7Wk1qv0Z8h3uYtRr4nQ2bXcVfGjLsDpEaOiUyTx6Hs=',
    state: 'connected',
    kind: 'mast',
    eid: { local_v4: '100.64.7.2', local_v6: 'fd4d:4153:5400::2', remote_v4: '100.64.7.1', remote_v6: 'fd4d:4153:5400::1' },
    policy: { mode: 'auto', pin: [], fallback: true, small: false, metered: false },
    rx_bytes: 1_240_000_000,
    tx_bytes: 96_000_000,
    last_heard_ms: 12,
    paths: [path(1, 'wlan0', { active: true }), path(2, 'wwan0', { srtt_ms: 61.7, loss: 0, remote: '[2001:db8::7]:6278' })],
    own_policy: false,
    full_tunnel: false,
    modes: ['auto', 'pin', 'redundant', 'bonded'],
    ...more,
  };
}

export const LAPTOP: InterfaceStatus[] = [
  item('wlan0', { network: 'Train' }),
  item('wwan0', { kind: 'cellular', network: 'Telco LTE', metered: true, addresses: ['10.160.4.9'] }),
  item('eth0', { kind: 'ethernet', usable: false, addresses: [] }),
];

export const EVENTS: StoryEvent[] = [
  { time: at(3_400_000), peer: 'home', from: null, to: 'wlan0', code: 'connected', reason: 'connected', gap_ms: null },
  { time: at(2_100_000), peer: 'home', from: 'wlan0', to: 'wwan0', code: 'silent', reason: 'went silent', gap_ms: 140, sessions: 3 },
  { time: at(1_500_000), peer: 'home', from: 'wwan0', to: 'wlan0', code: 'better', reason: 'better path', gap_ms: 22, sessions: 3 },
  { time: at(700_000), peer: 'home', from: 'wlan0', to: null, code: 'link-down', reason: 'link down', gap_ms: null },
  { time: at(690_000), peer: 'home', from: null, to: 'wwan0', code: 'restored', reason: 'path back', gap_ms: 5123 },
  { time: at(240_000), peer: 'home', from: 'wwan0', to: 'wlan0', code: 'better', reason: 'better path', gap_ms: 31, sessions: 1 },
];

export function status(more: Partial<Status> = {}): Status {
  return {
    up: true,
    name: 'laptop',
    version: '0.9.0',
    public_key: 'QmFzZTY0S2V5T2ZUaGVMYXB0b3BJdHNlbGYxMjM0NTY=',
    interfaces: LAPTOP,
    peers: [peer('home')],
    events: EVENTS,
    paused_until: null,
    trouble: null,
    settings: { at_start: 'last', leak_protection: false },
    key: 'file',
    ...more,
  };
}

const wave = (top: number, phase: number): number[] =>
  Array.from({ length: 60 }, (_, i) => Math.max(0, Math.round(top * (0.5 + 0.35 * Math.sin(i / 5 + phase) + 0.15 * Math.sin(i * 1.7)))));

export const OK: Service = { state: 'ok', detail: '', remedy: null, by_hand: null, version: '0.9.0', may_change: true };

export function snapshot(more: Partial<Snapshot> = {}): Snapshot {
  return {
    service: OK,
    now: { light: 'good', layer: null, sentence: 'home answers over Wi-Fi ‘Train’.', detail: 'Cellular ‘Telco LTE’ stands by.' },
    status: status(),
    throughput: {
      wlan0: { rx: wave(2_400_000, 0), tx: wave(310_000, 2) },
      wwan0: { rx: wave(900, 1), tx: wave(700, 3) },
    },
    settings: {
      theme: 'system',
      language: 'en',
      start_at_login: true,
      notifications: true,
      key_store: { name: 'Secret Service (GNOME Keyring)', usable: true, detail: 'It is unlocked.' },
      presence: false,
      version: '0.9.0',
    },
    story_version: 6,
    ...more,
  };
}

function samples(base: number, active: (minute: number) => boolean): History['paths'][number]['samples'] {
  return Array.from({ length: 720 }, (_, i) => {
    const minute = i / 12;
    const silent = base < 50 && minute > 25 && minute < 34;
    const rtt = base * (1 + 0.18 * Math.sin(i / 17) + 0.1 * Math.sin(i * 1.3));
    return { at_ms: NOW - 3_600_000 + i * 5000, srtt_ms: silent ? null : rtt, active: active(minute) };
  });
}

export const HISTORY: History = {
  interval_ms: 5000,
  paths: [
    { peer: 'home', interface: 'wlan0', remote: '203.0.113.7:6278', samples: samples(34, (m) => m < 25 || (m > 35 && m < 48) || m > 56) },
    { peer: 'home', interface: 'wwan0', remote: '[2001:db8::7]:6278', samples: samples(62, (m) => (m >= 25 && m <= 35) || (m >= 48.5 && m <= 56)) },
  ],
};

const used = (m: string, rx: number, tx: number) => ({ month: m, rx, tx, rx_overhead: rx * 0.04, tx_overhead: tx * 0.11 });

export const USAGE: UplinkUsage[] = [
  { uplink: 'network:Train', kind: 'wifi', metered: false, budget: null, months: [used('2026-11', 6.2e9, 0.8e9), used('2026-10', 3.1e9, 0.4e9)] },
  { uplink: 'network:Telco LTE', kind: 'cellular', metered: true, budget: 5e9, months: [used('2026-11', 1.9e9, 0.3e9), used('2026-10', 4.4e9, 0.6e9)] },
];
