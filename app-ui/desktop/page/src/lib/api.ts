// What the app (Rust, src-tauri) tells the page, and what the page may ask of it. The types of `Status` and below are
// those of core/control, as JSON. All text from peers and networks is untrusted: it is only ever shown as text.

import { invoke } from '@tauri-apps/api/core';
import { listen, type UnlistenFn } from '@tauri-apps/api/event';

export type InterfaceKind = 'wifi' | 'cellular' | 'ethernet' | 'other';
export type PeerState = 'connected' | 'partial' | 'connecting' | 'unreachable' | 'down' | 'unknown';
export type PeerKind = 'mast' | 'wireguard' | 'unknown';
export type PathState = 'candidate' | 'validating' | 'validated' | 'suspect' | 'failed' | 'unknown';
export type PolicyMode = 'auto' | 'pin' | 'redundant' | 'bonded' | 'unknown';
export type Layer = 'link' | 'portal' | 'dns' | 'nat' | 'peer' | 'service' | 'unknown';
export type AtStart = 'last' | 'up' | 'down';
export type Metered = 'yes' | 'no' | 'auto';

export interface InterfaceStatus {
  name: string;
  kind: InterfaceKind;
  network: string | null;
  addresses: string[];
  metered: boolean;
  usable: boolean;
  metered_by_hand: boolean | null;
  excluded: boolean;
}

export interface PathStatus {
  id: number;
  interface: string;
  local: string;
  remote: string;
  via?: 'direct' | 'relay' | 'unknown';
  /** The peer's number for its link, where it tells one. */
  peer_link?: number;
  state: PathState;
  active: boolean;
  srtt_ms: number | null;
  /** 0 to 1. */
  loss: number | null;
  mtu: number;
  rx_bytes: number;
  tx_bytes: number;
}

export interface Eids {
  local_v4: string | null;
  local_v6: string | null;
  remote_v4: string | null;
  remote_v6: string | null;
}

/** `pin` holds interface names, kinds, or `network:NAME`, best first (`interface:NAME` where a name is like a kind). */
export interface Policy {
  mode: PolicyMode;
  pin: string[];
  fallback: boolean;
  /** With `redundant`: only small packets go over two paths. */
  small: boolean;
  /** With `redundant` and `bonded`: metered paths take part, too. */
  metered: boolean;
}

export interface PeerStatus {
  name: string;
  public_key: string;
  state: PeerState;
  kind: PeerKind;
  eid: Eids;
  policy: Policy;
  rx_bytes: number;
  tx_bytes: number;
  last_heard_ms: number | null;
  paths: PathStatus[];
  /** Else the policy of all counts. */
  own_policy: boolean;
  /** null: cannot be had with this peer. */
  full_tunnel: boolean | null;
  /** What the service offers. */
  modes: PolicyMode[];
}

/** The addresses at the two ends of a path. */
export interface Ends {
  local?: string;
  remote: string;
}

export interface StoryEvent {
  /** RFC 3339. */
  time: string;
  /** Empty when it concerns no peer. */
  peer: string;
  /** What happened, or why data moved: `silent`. Absent from an older service; `other` says it by `reason` alone. */
  code?: string;
  from: string | null;
  to: string | null;
  from_path?: Ends;
  to_path?: Ends;
  /** The code in the service's English, in words that continue "wifi …": "went silent". */
  reason: string;
  gap_ms: number | null;
  /** How many sessions went over with it. */
  sessions?: number;
  /** With the code `unfit`: what was wrong with the path that was left. */
  lost_percent?: number;
  late_ms?: number;
  stalled?: boolean;
}

export interface Status {
  up: boolean;
  name: string;
  version: string;
  public_key: string;
  interfaces: InterfaceStatus[];
  peers: PeerStatus[];
  events: StoryEvent[];
  paused_until: string | null;
  trouble: { layer: Layer; code?: string; detail: string } | null;
  settings: { at_start: AtStart; leak_protection: boolean };
  key: 'file' | 'session' | 'locked' | 'unknown';
}

/** How the app stands with the service. */
export interface Service {
  /**
   * `ok`: connected. `connecting`: at the start, for a moment. `missing`: not installed. `stopped`: installed, does not
   * run. `lost`: it was there until a moment ago, and is being tried again. `old`, `new`: its version does not fit.
   * `forbidden`: its socket may not be opened. `broken`: it answers nonsense, or not at all.
   */
  state: 'ok' | 'connecting' | 'missing' | 'stopped' | 'lost' | 'old' | 'new' | 'forbidden' | 'broken';
  /** A sentence; empty when ok. */
  detail: string;
  /** The one step that mends it, which `mend` does; null where the user must do it by hand. */
  remedy: { label: string; command: string } | null;
  /** The command to be typed where `remedy` is null or fails. */
  by_hand: string | null;
  version: string | null;
  /** False: everything can be seen, nothing changed. */
  may_change: boolean;
}

export interface Now {
  /** `good` only while a peer answers, `working` while trying, `bad` when something fails, `off` when down or paused. */
  light: 'good' | 'working' | 'bad' | 'off';
  /** The layer that fails, when bad. */
  layer: Layer | null;
  /** One honest sentence. */
  sentence: string;
  /** What to do or what else to know; may be empty. */
  detail: string;
}

/** Bytes a second, one entry a second, oldest first, at most 60. */
export interface Throughput {
  rx: number[];
  tx: number[];
}

export interface AppSettings {
  theme: 'system' | 'light' | 'dark';
  /** A language of the page, such as `en`. */
  language: string;
  /** The app, in the tray, when the user logs in. */
  start_at_login: boolean;
  notifications: boolean;
  /** In which key store secrets are kept, in words, and whether it can be used now. */
  key_store: { name: string; usable: boolean; detail: string };
  /** Whether a presence password is kept. */
  presence: boolean;
  version: string;
}

export interface Snapshot {
  service: Service;
  now: Now;
  /** The last one known; null before the first, and once the service has been gone for a second. */
  status: Status | null;
  /** By interface. */
  throughput: Record<string, Throughput>;
  settings: AppSettings;
  /** Grows when `story` must be asked for again. What happens while the page is seen comes as `events`. */
  story_version: number;
}

export interface MonthUsage {
  /** `2026-11`. */
  month: string;
  rx: number;
  tx: number;
  rx_overhead: number;
  tx_overhead: number;
}

export interface UplinkUsage {
  /** `network:NAME` or the interface's name. */
  uplink: string;
  kind: InterfaceKind;
  metered: boolean;
  /** Newest first. */
  months: MonthUsage[];
  /** Bytes a month. */
  budget: number | null;
}

export interface PathHistory {
  peer: string;
  interface: string;
  local?: string;
  remote: string;
  samples: { at_ms: number; srtt_ms: number | null; active: boolean }[];
}

export interface History {
  interval_ms: number;
  paths: PathHistory[];
}

export interface DrillStep {
  path: number;
  interface: string;
  to: string | null;
  gap_ms: number | null;
  sent: number;
  lost: number;
}

export interface DrillReport {
  steps: DrillStep[];
  verdict: 'passed' | 'failed' | 'inconclusive';
  detail: string;
}

export interface Invited {
  link: string;
  /** RFC 3339. */
  expires: string;
  /** The link's QR code: `size` modules a side, row after row, '1' is dark. */
  qr: { size: number; modules: string };
}

/** What every refused command throws. */
export interface Refusal {
  /** What is wrong and what to do, for the user. */
  message: string;
  /** The field that is wrong, where one is. */
  field: string | null;
}

export const api = {
  snapshot: () => invoke<Snapshot>('snapshot'),
  onSnapshot: (f: (s: Snapshot) => void): Promise<UnlistenFn> => listen<Snapshot>('snapshot', (e) => f(e.payload)),
  /** What happened, as it happens, oldest first. */
  onEvents: (f: (events: StoryEvent[]) => void): Promise<UnlistenFn> =>
    listen<StoryEvent[]>('events', (e) => f(e.payload)),
  onDrill: (f: (p: { message: string; step: DrillStep | null }) => void): Promise<UnlistenFn> =>
    listen<{ message: string; step: DrillStep | null }>('drill', (e) => f(e.payload)),
  /** The tray, or a second start of the app, wants a section shown: `now`, `peers`, `settings`, … */
  onShow: (f: (section: string) => void): Promise<UnlistenFn> => listen<string>('show', (e) => f(e.payload)),

  up: () => invoke<void>('up'),
  down: () => invoke<void>('down'),
  pause: (seconds: number) => invoke<void>('pause', { seconds }),
  /** Does the service's remedy (by polkit where it needs an administrator). */
  mend: () => invoke<void>('mend'),

  /** Without a peer: for all, and for those to come. Takes effect before it returns. */
  setPolicy: (peer: string | null, { mode, pin, fallback, small, metered }: Policy) =>
    invoke<void>('set_policy', { peer, mode, pin, fallback, small, metered }),
  clearPolicy: (peer: string) => invoke<void>('clear_policy', { peer }),
  setMetered: (name: string, metered: Metered) => invoke<void>('set_metered', { name, metered }),
  setExcluded: (name: string, excluded: boolean) => invoke<void>('set_excluded', { name, excluded }),

  addLink: (link: string, name: string | null) => invoke<{ name: string }>('add_link', { link, name }),
  /** A wg-quick file. */
  addFile: (fileName: string, contents: string, name: string | null) =>
    invoke<{ name: string }>('add_file', { fileName, contents, name }),
  /** Looks for a QR code in a picture (PNG or JPEG, base64) and answers with its text: a link or a wg-quick file. */
  readQr: (picture: string) => invoke<string>('read_qr', { picture }),
  removePeer: (name: string) => invoke<void>('remove_peer', { name }),
  setFullTunnel: (name: string, on: boolean) => invoke<void>('set_full_tunnel', { name, on }),
  invite: (expiresS: number, name: string | null) => invoke<Invited>('invite', { expiresS, name }),

  story: (limit: number) => invoke<StoryEvent[]>('story', { limit }),
  /** Asks where to, writes JSON, answers with the path, or null when the user thought better of it. */
  exportStory: (events: StoryEvent[]) => invoke<string | null>('export_story', { events }),
  history: () => invoke<History>('history'),
  usage: () => invoke<UplinkUsage[]>('usage'),
  setBudget: (uplink: string, bytes: number | null) => invoke<void>('set_budget', { uplink, bytes }),
  drill: (peer: string) => invoke<DrillReport>('drill', { peer }),

  setAtStart: (atStart: AtStart) => invoke<void>('set_at_start', { atStart }),
  setLeakProtection: (on: boolean) => invoke<void>('set_leak_protection', { on }),
  setTheme: (theme: AppSettings['theme']) => invoke<void>('set_theme', { theme }),
  setLanguage: (language: string) => invoke<void>('set_language', { language }),
  setStartAtLogin: (on: boolean) => invoke<void>('set_start_at_login', { on }),
  setNotifications: (on: boolean) => invoke<void>('set_notifications', { on }),
  /** `login`: the private key goes into this user's key store, and the service has it only while they are logged in. */
  setKeyPlace: (place: 'service' | 'login') => invoke<void>('set_key_place', { place }),
  /** null forgets it. */
  setPresence: (password: string | null) => invoke<void>('set_presence', { password }),
  logs: () => invoke<string[]>('logs'),
  /** Writes logs, doctor's report and versions, without keys, addresses and names; answers with the path. */
  saveBundle: () => invoke<string | null>('save_bundle'),
  copy: (text: string) => invoke<void>('copy', { text }),
};
