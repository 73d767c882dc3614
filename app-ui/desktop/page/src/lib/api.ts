// What the page may ask of the app (Rust, src-tauri). All text from peers and networks is untrusted: it is only ever shown
// as text.

import { invoke } from '@tauri-apps/api/core';
import { listen, type UnlistenFn } from '@tauri-apps/api/event';

import type {
  Added,
  AddressesTold,
  AppSettings,
  AtStart,
  DrillProgress,
  DrillReport,
  History,
  Invitation,
  InviteStatus,
  Metered,
  PolicyStatus,
  PresenceReport,
  Snapshot,
  StoryEvent,
  UplinkUsage,
} from './wire';

// Made of the program's own types; nothing of it is written here.
export type * from './wire';
export type { Invitation as Invited, PolicyStatus as Policy } from './wire';

export const api = {
  snapshot: () => invoke<Snapshot>('snapshot'),
  onSnapshot: (f: (s: Snapshot) => void): Promise<UnlistenFn> => listen<Snapshot>('snapshot', (e) => f(e.payload)),
  /** What happened, as it happens, oldest first. */
  onEvents: (f: (events: StoryEvent[]) => void): Promise<UnlistenFn> =>
    listen<StoryEvent[]>('events', (e) => f(e.payload)),
  onDrill: (f: (p: DrillProgress) => void): Promise<UnlistenFn> =>
    listen<DrillProgress>('drill', (e) => f(e.payload)),
  /** The tray, or a second start of the app, wants a section shown: `now`, `peers`, `settings`, … */
  onShow: (f: (section: string) => void): Promise<UnlistenFn> => listen<string>('show', (e) => f(e.payload)),

  up: () => invoke<void>('up'),
  down: () => invoke<void>('down'),
  pause: (seconds: number) => invoke<void>('pause', { seconds }),
  /** Does the service's remedy (by polkit where it needs an administrator). */
  mend: () => invoke<void>('mend'),

  /** Without a peer: for all, and for those to come. Takes effect before it returns. */
  setPolicy: (peer: string | null, { mode, pin, fallback, small, metered }: PolicyStatus) =>
    invoke<void>('set_policy', { peer, mode, pin, fallback, small, metered }),
  clearPolicy: (peer: string) => invoke<void>('clear_policy', { peer }),
  setMetered: (name: string, metered: Metered) => invoke<void>('set_metered', { name, metered }),
  setExcluded: (name: string, excluded: boolean) => invoke<void>('set_excluded', { name, excluded }),

  /** An invite that the app was started with; once. */
  offeredLink: () => invoke<string | null>('offered_link'),
  addLink: (link: string, name: string | null) => invoke<Added>('add_link', { link, name }),
  /** A wg-quick file. */
  addFile: (fileName: string, contents: string, name: string | null) =>
    invoke<Added>('add_file', { fileName, contents, name }),
  /** Looks for a QR code in a picture (PNG or JPEG, base64) and answers with its text: a link or a wg-quick file. */
  readQr: (picture: string) => invoke<string>('read_qr', { picture }),
  removePeer: (name: string) => invoke<void>('remove_peer', { name }),
  setFullTunnel: (name: string, on: boolean) => invoke<void>('set_full_tunnel', { name, on }),
  setAddresses: (name: string, addresses: AddressesTold) => invoke<void>('set_addresses', { name, addresses }),
  setOwn: (name: string, on: boolean) => invoke<void>('set_own', { name, on }),
  invite: (expiresS: number, name: string | null) => invoke<Invitation>('invite', { expiresS, name }),
  /** Those that are remembered, oldest first, without their secrets. */
  invites: () => invoke<InviteStatus[]>('invites'),
  revokeInvite: (id: string) => invoke<void>('revoke_invite', { id }),

  story: (limit: number) => invoke<StoryEvent[]>('story', { limit }),
  /** Asks where to, writes JSON, answers with the path, or null when the user thought better of it. */
  exportStory: (events: StoryEvent[]) => invoke<string | null>('export_story', { events }),
  history: () => invoke<History>('history'),
  usage: () => invoke<UplinkUsage[]>('usage'),
  setBudget: (uplink: string, bytes: number | null) => invoke<void>('set_budget', { uplink, bytes }),
  drill: (peer: string) => invoke<DrillReport>('drill', { peer }),

  setAtStart: (atStart: AtStart) => invoke<void>('set_at_start', { atStart }),
  setLeakProtection: (on: boolean) => invoke<void>('set_leak_protection', { on }),
  setLocalNetwork: (on: boolean) => invoke<void>('set_local_network', { on }),
  setTheme: (theme: AppSettings['theme']) => invoke<void>('set_theme', { theme }),
  setStartAtLogin: (on: boolean) => invoke<void>('set_start_at_login', { on }),
  setNotifications: (on: boolean) => invoke<void>('set_notifications', { on }),
  /** `login`: the private key goes into this user's key store, and the service has it only while they are logged in. */
  setKeyPlace: (place: 'service' | 'login') => invoke<void>('set_key_place', { place }),
  /** By which account peers find this machine, and how that fares. */
  presence: () => invoke<PresenceReport>('presence'),
  /** Answers when the server did, or after some seconds. */
  presenceLogin: (account: string, password: string, server: string | null) =>
    invoke<PresenceReport>('presence_login', { account, password, server }),
  presenceLogout: () => invoke<PresenceReport>('presence_logout'),
  logs: () => invoke<string[]>('logs'),
  /** Writes logs, doctor's report and versions, without keys, addresses and names; answers with the path. */
  saveBundle: () => invoke<string | null>('save_bundle'),
  copy: (text: string) => invoke<void>('copy', { text }),
};
