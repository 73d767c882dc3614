// The one snapshot that everything is drawn from, and the way commands are sent.

import { api, type Refusal, type Snapshot, type Status } from './api';
import { t } from './i18n/index.svelte';
import { go } from './route.svelte';

let snapshot = $state.raw<Snapshot | null>(null);
let lastStatus = $state.raw<Status | null>(null);
/** Came while the window was hidden. */
let waiting: Snapshot | null = null;
const watchers = new Set<(s: Snapshot) => void>();

export const app = {
  get snapshot() {
    return snapshot;
  },
  /** While the service is lost, the last one known. */
  get status(): Status | null {
    return snapshot?.status ?? (snapshot?.service.state === 'lost' ? lastStatus : null);
  },
  get lost() {
    return snapshot?.service.state === 'lost';
  },
  /** Whether anything may be changed now. */
  get may() {
    return snapshot?.service.state === 'ok' && snapshot.service.may_change;
  },
};

export function take(next: Snapshot): void {
  if (document.visibilityState === 'hidden') {
    waiting = next;
    return;
  }
  waiting = null;
  if (next.status) lastStatus = next.status;
  snapshot = next;
  dress(next);
  for (const watcher of [...watchers]) watcher(next);
}

/** Calls with every snapshot from now on. */
export function watch(f: (s: Snapshot) => void): () => void {
  watchers.add(f);
  return () => watchers.delete(f);
}

let theme: Snapshot['settings']['theme'] = 'system';
const dark = window.matchMedia?.('(prefers-color-scheme: dark)');

function dress(next: Snapshot): void {
  theme = next.settings.theme;
  paint();
}

function paint(): void {
  const wanted = theme === 'system' ? (dark?.matches ? 'dark' : 'light') : theme;
  if (document.documentElement.dataset['theme'] !== wanted) document.documentElement.dataset['theme'] = wanted;
}

export async function start(): Promise<() => void> {
  const shown = (): void => {
    if (document.visibilityState === 'visible' && waiting) take(waiting);
  };
  document.addEventListener('visibilitychange', shown);
  dark?.addEventListener('change', paint);
  paint();
  const stops = await Promise.all([api.onSnapshot(take), api.onShow(go)]);
  try {
    take(await api.snapshot());
  } catch (e) {
    complain(refusal(e).message);
  }
  return () => {
    document.removeEventListener('visibilitychange', shown);
    dark?.removeEventListener('change', paint);
    for (const stop of stops) stop();
  };
}

export interface Notice {
  id: number;
  text: string;
  bad: boolean;
}

let notices = $state<Notice[]>([]);
let nextNotice = 1;

export const notes = {
  get all() {
    return notices;
  },
};

function notice(text: string, bad: boolean): void {
  // The same said again replaces what was said.
  notices = [...notices.filter((n) => n.text !== text), { id: nextNotice++, text, bad }].slice(-4);
}

export function complain(text: string): void {
  notice(text, true);
}

export function tell(text: string): void {
  notice(text, false);
}

export function dismiss(id: number): void {
  notices = notices.filter((n) => n.id !== id);
}

/** Whatever was thrown, as words. */
export function refusal(e: unknown): Refusal {
  if (typeof e === 'object' && e !== null && typeof (e as Refusal).message === 'string') {
    const { message, field } = e as Refusal;
    return { message, field: typeof field === 'string' ? field : null };
  }
  return { message: typeof e === 'string' && e !== '' ? e : t('error.unknown'), field: null };
}

/** Runs a command; what it refuses is told. True when it was done. */
export async function run(command: () => Promise<unknown>): Promise<boolean> {
  try {
    await command();
    return true;
  } catch (e) {
    complain(refusal(e).message);
    return false;
  }
}
