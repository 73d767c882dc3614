// Everything a user may find themselves in. What is shown is made by the program; here stands where it is looked at, and
// what is pressed.

import type { DrillProgress, DrillStep, Invited, Snapshot, StoryEvent, UplinkUsage } from '../../src/lib/api';
import scenes from './made.json' with { type: 'json' };
import { EVENTS, NAMED_EVENTS, NOW, USAGE } from './world';

export interface Scene {
  snapshot: Snapshot;
  /** Where it is looked at. */
  section?: string;
  /** A button, by its test id, that is pressed before the picture is taken. */
  press?: string;
  /** What is folded, by its test id, and opened before the picture is taken. */
  open?: string;
  answers?: Record<string, unknown>;
  /** What a command refuses with. */
  refusals?: Record<string, { message: string; field: string | null }>;
  /** Its drill never ends. */
  endless?: boolean;
  drill?: DrillProgress[];
}

/** Made by the program. */
const made = (name: keyof typeof scenes): Snapshot => scenes[name] as unknown as Snapshot;

const steps: DrillStep[] = [
  { path: 1, paths: 1, interface: 'wlan0', to: 'wwan0', gap_ms: 148, sent: 200, lost: 14 },
  { path: 2, paths: 1, interface: 'wwan0', to: 'wlan0', gap_ms: 61, sent: 200, lost: 5 },
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

const tenThousand: StoryEvent[] = Array.from({ length: 10_000 }, (_, i) => {
  const e = EVENTS[i % EVENTS.length] as StoryEvent;
  return { ...e, time: new Date(NOW - (10_000 - i) * 61_000).toISOString(), peer: i % 7 === 0 ? 'office' : 'home' };
});

const used = (share: number): UplinkUsage[] => [{ ...(USAGE[1] as UplinkUsage), months: [{ month: '2026-11', rx: 4e9 * share, tx: 1e9 * share, rx_overhead: 1e8, tx_overhead: 9e7 }] }];
export const SCENES: Record<string, Scene> = {
  now: { snapshot: made('now') },
  'now-named': { snapshot: made('now-named'), open: 'now-layers' },
  'now-strained': { snapshot: made('now-strained') },
  'now-fading': { snapshot: made('now-fading') },
  'now-partial': { snapshot: made('now-partial') },
  interfaces: { snapshot: made('now'), section: 'interfaces' },
  'interfaces-stopped': { snapshot: made('interfaces-stopped'), section: 'interfaces' },
  preference: { snapshot: made('now'), section: 'preference' },
  'preference-own': { snapshot: made('preference-own'), section: 'preference' },
  peers: { snapshot: made('peers'), section: 'peers' },
  'peers-dual': { snapshot: made('peers-dual'), section: 'peers' },
  story: { snapshot: made('now'), section: 'story' },
  data: { snapshot: made('now'), section: 'data' },
  add: { snapshot: made('now'), section: 'add' },
  invite: { snapshot: made('now'), section: 'invite' },
  drill: { snapshot: made('now'), section: 'drill' },
  settings: { snapshot: made('now'), section: 'settings' },
  'settings-presence': { snapshot: made('now'), section: 'settings', answers: { presence: { account: 'alice@example.org', server: null, state: 'failed', why: 'The presence server does not accept the password of alice@example.org.', remedy: 'Log in again: mast presence login alice@example.org.', peers: [{ peer: 'home', account: 'bob@example.org', assumed: false }, { peer: 'nas', account: 'alice@example.org', assumed: true }] } } },
  'settings-protected': { snapshot: made('protected'), section: 'settings' },
  'service-missing': { snapshot: made('service-missing') },
  'service-stopped': { snapshot: made('service-stopped') },
  'service-forbidden': { snapshot: made('service-forbidden') },
  'service-old': { snapshot: made('service-old') },
  'service-new': { snapshot: made('service-new') },
  'service-broken': { snapshot: made('service-broken') },
  'service-connecting': { snapshot: made('service-connecting') },
  lost: { snapshot: made('lost') },
  'no-peers': { snapshot: made('no-peers') },
  'no-tray': { snapshot: made('no-tray') },
  working: { snapshot: made('working') },
  'fails-link': { snapshot: made('fails-link') },
  'fails-portal': { snapshot: made('fails-portal') },
  'fails-dns': { snapshot: made('fails-dns') },
  'fails-peer': { snapshot: made('fails-peer') },
  'fails-service': { snapshot: made('fails-service') },
  paused: { snapshot: made('paused') },
  down: { snapshot: made('down') },
  'peers-50': { snapshot: made('peers-50'), section: 'peers' },
  'now-50': { snapshot: made('now-50') },
  'interfaces-12': { snapshot: made('interfaces-12'), section: 'interfaces' },
  'preference-12': { snapshot: made('preference-12'), section: 'preference' },
  'preference-redundant': { snapshot: made('preference-redundant'), section: 'preference' },
  'preference-pinned': { snapshot: made('preference-pinned'), section: 'preference' },
  'story-10000': { snapshot: made('now'), section: 'story', answers: { story: tenThousand } },
  'names-now': { snapshot: made('named') },
  'names-interfaces': { snapshot: made('named'), section: 'interfaces' },
  'names-preference': { snapshot: made('named'), section: 'preference' },
  'names-peers': { snapshot: made('named'), section: 'peers' },
  'names-story': { snapshot: made('named'), section: 'story', answers: { story: NAMED_EVENTS } },
  readonly: { snapshot: made('readonly'), section: 'preference' },
  locked: { snapshot: made('locked'), section: 'settings' },
  'no-key-store': { snapshot: made('no-key-store'), section: 'settings' },
  'drill-running': { snapshot: made('now'), section: 'drill', press: 'drill-run', endless: true, drill: [{ message: 'Silencing wwan0…', links: 2, step: steps[0] as DrillStep }] },
  'drill-passed': { snapshot: made('now'), section: 'drill', press: 'drill-run', answers: { drill: { steps, verdict: 'passed', detail: 'Every path was lost once, and the session went on.' } } },
  'drill-failed': { snapshot: made('now'), section: 'drill', press: 'drill-run', answers: { drill: { steps: [{ ...steps[0], to: null, gap_ms: null, lost: 200 }, { ...steps[1], gap_ms: 2400 }], verdict: 'failed', detail: 'Without wlan0 nothing arrived.' } } },
  'invite-made': { snapshot: made('now'), section: 'invite', press: 'invite-make', answers: { invite: invite(3_540_000) } },
  'invite-expired': { snapshot: made('now'), section: 'invite', press: 'invite-make', answers: { invite: invite(-1000) } },
  'budget-near': { snapshot: made('now'), section: 'data', answers: { usage: used(0.86) } },
  'budget-over': { snapshot: made('now'), section: 'data', answers: { usage: used(1.12) } },
  'add-refused': { snapshot: made('now'), section: 'add', press: 'add-submit', refusals: { add_link: { message: 'The link is damaged: it ends too early. Copy it again, whole.', field: 'link' } } },
  'toggle-refused': { snapshot: made('now'), press: 'toggle', refusals: { down: { message: 'The service did not answer within five seconds. Try again.', field: null } } },
};

/** Also taken in a narrow window. */
export const NARROW = ['now', 'now-named', 'now-fading', 'now-partial', 'interfaces', 'preference', 'peers', 'story', 'data', 'add', 'invite-made', 'drill-passed', 'settings', 'settings-protected', 'invite', 'fails-portal', 'names-now', 'names-interfaces', 'names-preference', 'names-peers', 'names-story', 'service-stopped', 'preference-pinned', 'preference-redundant', 'readonly'];
