// Everything a user may find themselves in.

import type { DrillStep, Invited, Layer, PeerStatus, Service, Snapshot, StoryEvent, UplinkUsage } from '../../src/lib/api';
import { EVENTS, item, LAPTOP, NOW, OK, path, peer, snapshot, status, USAGE } from './world';

export interface Scene {
  snapshot: Snapshot;
  /** Where it is looked at. */
  section?: string;
  /** A button, by its test id, that is pressed before the picture is taken. */
  press?: string;
  answers?: Record<string, unknown>;
  /** What a command refuses with. */
  refusals?: Record<string, { message: string; field: string | null }>;
  /** Its drill never ends. */
  endless?: boolean;
  drill?: { message: string; step: DrillStep | null }[];
}

const broken = (state: Service['state'], detail: string, more: Partial<Service> = {}): Scene => ({
  snapshot: snapshot({
    status: null,
    service: { ...OK, state, detail, may_change: false, version: null, ...more },
    now: { light: 'bad', layer: 'service', sentence: detail, detail: '' },
  }),
});

const fails = (layer: Layer, sentence: string, detail: string): Scene => ({
  snapshot: snapshot({
    now: { light: 'bad', layer, sentence, detail },
    status: status({
      trouble: { layer, detail },
      interfaces: layer === 'link' ? LAPTOP.map((i) => ({ ...i, usable: false })) : LAPTOP,
      peers: [peer('home', { state: 'unreachable', last_heard_ms: 64_000, paths: layer === 'link' ? [] : [path(1, 'wlan0', { state: 'failed', srtt_ms: null, loss: 1 })] })],
    }),
  }),
});

const start = { label: 'Start the service', command: 'systemctl start mastd' };
const steps: DrillStep[] = [
  { path: 1, interface: 'wlan0', to: 'wwan0', gap_ms: 148, sent: 200, lost: 14 },
  { path: 2, interface: 'wwan0', to: 'wlan0', gap_ms: 61, sent: 200, lost: 5 },
];

function modules(size: number): string {
  const finder = (x: number, y: number): boolean | null => {
    for (const [a, b] of [[0, 0], [size - 7, 0], [0, size - 7]] as const) {
      const [u, v] = [x - a, y - b];
      if (u < -1 || v < -1 || u > 7 || v > 7) continue;
      const ring = Math.max(Math.abs(u - 3), Math.abs(v - 3));
      return ring !== 2 && ring <= 3;
    }
    return null;
  };
  let out = '';
  for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) out += (finder(x, y) ?? (x * 7 + y * 13 + x * y) % 3 === 0) ? '1' : '0';
  return out;
}

const invite = (leftMs: number): Invited => ({
  link: `mast://1/${'k3J9xQ2mVb7TzR5nLw8Yc1Hs6Pd4Fg0A'.repeat(5)}`,
  expires: new Date(NOW + leftMs).toISOString(),
  qr: { size: 41, modules: modules(41) },
});

const STATES: PeerStatus['state'][] = ['connected', 'connected', 'connected', 'unreachable', 'connected', 'connecting', 'connected', 'down'];
const fifty = Array.from({ length: 50 }, (_, i) =>
  peer(`machine-${String(i + 1).padStart(2, '0')}`, { state: STATES[i % 8] ?? 'connected', kind: i % 9 === 4 ? 'wireguard' : 'mast' }),
);
const twelve = Array.from({ length: 12 }, (_, i) =>
  item(`if${i}`, { kind: (['wifi', 'cellular', 'ethernet', 'other'] as const)[i % 4] ?? 'other', network: i % 3 === 0 ? `Network ${i}` : null, metered: i % 4 === 1, usable: i % 5 !== 4, excluded: i === 7 }),
);
const tenThousand: StoryEvent[] = Array.from({ length: 10_000 }, (_, i) => {
  const e = EVENTS[i % EVENTS.length] ?? { peer: '', from: null, to: null, reason: 'restarted', gap_ms: null };
  return { ...e, time: new Date(NOW - (10_000 - i) * 61_000).toISOString(), peer: i % 7 === 0 ? 'office' : 'home' };
});

export const NAMES = {
  hostile: '<img src=x onerror=alert(1)>',
  long: 'A very long network name that somebody thought was a fun idea',
  rtl: 'شبكة القطار السريع',
  emoji: '🚂📶 Zug 👩‍👩‍👧‍👦',
};
const named = snapshot({
  now: { light: 'good', layer: null, sentence: `${NAMES.hostile} answers over Wi-Fi ‘${NAMES.rtl}’.`, detail: '' },
  status: status({
    interfaces: [item('wlan0', { network: NAMES.rtl }), item('wlan1', { network: NAMES.long }), item('wlan2', { network: NAMES.emoji, metered: true }), item('wwan0', { kind: 'cellular', network: NAMES.hostile })],
    peers: [peer(NAMES.hostile), peer(NAMES.long), peer(NAMES.rtl), peer(NAMES.emoji)],
    events: [{ ...(EVENTS[1] as StoryEvent), peer: NAMES.hostile }],
  }),
});

const used = (share: number): UplinkUsage[] => [{ ...(USAGE[1] as UplinkUsage), months: [{ month: '2026-11', rx: 4e9 * share, tx: 1e9 * share, rx_overhead: 1e8, tx_overhead: 9e7 }] }];
const readonly = { ...OK, may_change: false, detail: 'You are not in the group mast.', remedy: { label: 'Join the group', command: 'usermod' }, by_hand: 'sudo usermod -aG mast $USER' };
const pinned = { mode: 'pin' as const, pin: ['network:Home', 'ethernet', 'wwan0'], fallback: false, small: false, metered: false };
const twice = { mode: 'redundant' as const, pin: [], fallback: true, small: true, metered: false };

const v6 = { local: '2001:db8:1::20', remote: '[2001:db8::7]:6278' };
const silent = { state: 'failed' as const, srtt_ms: null, loss: 1 };
// In the order in which they were found, not by link.
const dual = [path(1, 'wlan0', silent), path(2, 'wwan0', { active: true, srtt_ms: 61.7 }), path(3, 'wlan0', { ...silent, ...v6 }), path(4, 'wwan0', v6)];

export const SCENES: Record<string, Scene> = {
  now: { snapshot: snapshot() },
  interfaces: { snapshot: snapshot(), section: 'interfaces' },
  preference: { snapshot: snapshot(), section: 'preference' },
  peers: { snapshot: snapshot({ status: status({ peers: [peer('home'), peer('office', { kind: 'wireguard', full_tunnel: null, modes: ['auto', 'pin'], state: 'unreachable', last_heard_ms: 64_000, paths: [] })] }) }), section: 'peers' },
  'peers-dual': { snapshot: snapshot({ status: status({ peers: [peer('home', { paths: dual })] }), now: { light: 'good', layer: null, sentence: 'home answers over Cellular ‘Telco LTE’.', detail: 'Wi-Fi ‘Train’ does not answer.' } }), section: 'peers' },
  story: { snapshot: snapshot(), section: 'story' },
  data: { snapshot: snapshot(), section: 'data' },
  add: { snapshot: snapshot(), section: 'add' },
  invite: { snapshot: snapshot(), section: 'invite' },
  drill: { snapshot: snapshot(), section: 'drill' },
  settings: { snapshot: snapshot(), section: 'settings' },
  'service-missing': broken('missing', 'mastd is not installed on this computer.', { by_hand: 'sudo apt install mast' }),
  'service-stopped': broken('stopped', 'The service (mastd) is installed, but it does not run.', { remedy: start, by_hand: 'sudo systemctl enable --now mastd' }),
  'service-forbidden': broken('forbidden', 'The socket of mastd may not be opened by you.', { by_hand: 'sudo usermod -aG mast $USER' }),
  'service-old': broken('old', 'mastd is 0.7.1; this window needs 0.9 or newer.', { by_hand: 'sudo apt upgrade mast', version: '0.7.1' }),
  'service-new': broken('new', 'mastd is 2.0.0; this window is 0.9.0.', { by_hand: 'sudo apt upgrade mast-desktop' }),
  'service-broken': broken('broken', 'mastd answers nothing that can be understood.', { remedy: { label: 'Restart the service', command: 'systemctl restart mastd' }, by_hand: 'sudo systemctl restart mastd' }),
  'service-connecting': broken('connecting', ''),
  lost: { snapshot: snapshot({ service: { ...OK, state: 'lost', may_change: false, detail: 'mastd went away.' }, now: { light: 'bad', layer: 'service', sentence: 'The service stopped.', detail: '' } }) },
  'no-peers': { snapshot: snapshot({ now: { light: 'working', layer: null, sentence: 'MAST is on, and knows no peer yet.', detail: 'Invite another machine, or add one that invited you.' }, status: status({ peers: [], events: [] }) }) },
  working: { snapshot: snapshot({ now: { light: 'working', layer: null, sentence: 'Reaching home …', detail: '' }, status: status({ peers: [peer('home', { state: 'connecting', paths: [path(1, 'wlan0', { state: 'validating', srtt_ms: null, loss: null })] })] }) }) },
  'fails-link': fails('link', 'There is no network.', 'As soon as one appears, everything that is open goes on.'),
  'fails-portal': fails('portal', 'The network wants a login first.', 'Open a browser and sign in. Everything that is open goes on by itself then.'),
  'fails-dns': fails('dns', 'Names cannot be looked up.', 'The name home.example.org cannot be looked up. It is tried again; is it spelled right, and does DNS work?'),
  'fails-nat': fails('nat', 'The network does not let MAST through.', 'UDP does not get out of this network.'),
  'fails-peer': fails('peer', 'home does not answer.', 'This machine has a network, and nothing comes back. The other machine may be off, or a firewall keeps UDP from it.'),
  'fails-service': fails('service', 'The service cannot do its work.', 'The kernel module tun is missing.'),
  paused: { snapshot: snapshot({ now: { light: 'off', layer: null, sentence: 'MAST is paused.', detail: 'It comes back by itself. Until then, connections through it stand still.' }, status: status({ up: false, peers: [peer('home', { state: 'down', paths: [] })], paused_until: '2026-11-24T13:04:00Z' }) }) },
  down: { snapshot: snapshot({ now: { light: 'off', layer: null, sentence: 'MAST is off.', detail: 'Connections through it stand still; everything else goes its usual way.' }, status: status({ up: false, peers: [peer('home', { state: 'down', paths: [] })] }) }) },
  'peers-50': { snapshot: snapshot({ status: status({ peers: fifty }) }), section: 'peers' },
  'now-50': { snapshot: snapshot({ now: { light: 'good', layer: null, sentence: '32 of 50 peers answer.', detail: '18 do not answer.' }, status: status({ peers: fifty }) }) },
  'interfaces-12': { snapshot: snapshot({ status: status({ interfaces: twelve, peers: [peer('home', { paths: [path(1, 'if0', { active: true }), path(2, 'if1', { state: 'suspect' }), path(3, 'if2', { state: 'failed', srtt_ms: null })] })] }) }), section: 'interfaces' },
  'preference-12': { snapshot: snapshot({ status: status({ interfaces: twelve }) }), section: 'preference' },
  'preference-redundant': { snapshot: snapshot({ status: status({ peers: [peer('home', { policy: twice }), peer('office', { kind: 'wireguard', full_tunnel: null, modes: ['auto', 'pin'] })] }) }), section: 'preference' },
  'preference-pinned': { snapshot: snapshot({ status: status({ interfaces: [...LAPTOP.slice(0, 2), { ...(LAPTOP[2] as (typeof LAPTOP)[0]), excluded: true }], peers: [peer('home', { policy: pinned })] }) }), section: 'preference' },
  'story-10000': { snapshot: snapshot(), section: 'story', answers: { story: tenThousand } },
  'names-now': { snapshot: named },
  'names-interfaces': { snapshot: named, section: 'interfaces' },
  'names-preference': { snapshot: named, section: 'preference' },
  'names-peers': { snapshot: named, section: 'peers' },
  'names-story': { snapshot: named, section: 'story', answers: { story: [...EVENTS, { time: '2026-11-24T12:00:00Z', peer: NAMES.hostile, from: 'wlan1', to: 'wlan0', reason: NAMES.hostile, gap_ms: 12 }] } },
  readonly: { snapshot: snapshot({ service: readonly }), section: 'preference' },
  locked: { snapshot: snapshot({ now: { light: 'bad', layer: 'service', sentence: 'The service waits for its private key.', detail: 'It is in the key store of the user who put it there. It is asked for when they log in.' }, status: status({ key: 'locked' }) }), section: 'settings' },
  'no-key-store': { snapshot: snapshot({ settings: { ...snapshot().settings, key_store: { name: 'Secret Service', usable: false, detail: 'No program offers it on this computer.' } } }), section: 'settings' },
  'drill-running': { snapshot: snapshot(), section: 'drill', press: 'drill-run', endless: true, drill: [{ message: 'Silencing wwan0…', step: steps[0] ?? null }] },
  'drill-passed': { snapshot: snapshot(), section: 'drill', press: 'drill-run', answers: { drill: { steps, verdict: 'passed', detail: 'Every path was lost once, and the session went on.' } } },
  'drill-failed': { snapshot: snapshot(), section: 'drill', press: 'drill-run', answers: { drill: { steps: [{ ...steps[0], to: null, gap_ms: null, lost: 200 }, { ...steps[1], gap_ms: 2400 }], verdict: 'failed', detail: 'Without wlan0 nothing arrived.' } } },
  'invite-made': { snapshot: snapshot(), section: 'invite', press: 'invite-make', answers: { invite: invite(3_540_000) } },
  'invite-expired': { snapshot: snapshot(), section: 'invite', press: 'invite-make', answers: { invite: invite(-1000) } },
  'budget-near': { snapshot: snapshot(), section: 'data', answers: { usage: used(0.86) } },
  'budget-over': { snapshot: snapshot(), section: 'data', answers: { usage: used(1.12) } },
  'add-refused': { snapshot: snapshot(), section: 'add', press: 'add-submit', refusals: { add_link: { message: 'The link is damaged: it ends too early. Copy it again, whole.', field: 'link' } } },
  'toggle-refused': { snapshot: snapshot(), press: 'toggle', refusals: { down: { message: 'The service did not answer within five seconds. Try again.', field: null } } },
};

/** Also taken in a narrow window. */
export const NARROW = ['now', 'interfaces', 'preference', 'peers', 'story', 'data', 'add', 'invite-made', 'drill-passed', 'settings', 'fails-portal', 'names-now', 'names-interfaces', 'names-preference', 'names-peers', 'names-story', 'service-stopped', 'preference-pinned', 'preference-redundant', 'readonly'];
