// The app's Rust side, scripted: what the page asks is written down, what a scene says is answered.

import type { Page } from '@playwright/test';
import type { InviteStatus, Policy, Snapshot } from '../src/lib/api';
import { SCENES, type Scene } from './scenes/all';
import { EVENTS, HISTORY, INVITES, NOW, USAGE } from './scenes/world';

export interface Call {
  command: string;
  args: Record<string, unknown>;
}

interface Script {
  snapshot: Snapshot;
  answers: Record<string, unknown>;
  refusals: Record<string, unknown>;
  endless: boolean;
  drill: unknown[];
}

declare global {
  interface Window {
    calls: Call[];
    script: Script;
    emit: (event: string, payload: unknown) => void;
    alerted: boolean;
  }
}

/** Runs in the page, before the page's own code. */
function install(script: Script): void {
  const callbacks = new Map<number, (e: unknown) => void>();
  const listeners = new Map<string, number[]>();
  let next = 1;
  window.calls = [];
  window.script = script;
  window.alerted = false;
  window.alert = () => (window.alerted = true);
  window.emit = (event, payload) => {
    for (const id of listeners.get(event) ?? []) callbacks.get(id)?.({ event, id, payload });
  };
  const invoke = async (command: string, args: Record<string, unknown> = {}): Promise<unknown> => {
    if (command === 'plugin:event|listen') {
      const event = String(args['event']);
      listeners.set(event, [...(listeners.get(event) ?? []), Number(args['handler'])]);
      return Number(args['handler']);
    }
    if (command.startsWith('plugin:')) return null;
    const s = window.script;
    if (command === 'snapshot') return structuredClone(s.snapshot);
    window.calls.push({ command, args });
    if (s.refusals[command]) throw s.refusals[command];
    if (command === 'set_policy' && s.snapshot.status) {
      const { mode, pin, fallback, small, metered } = args as unknown as Policy;
      const policy = { mode, pin, fallback, small, metered };
      if (args['peer'] === null) s.snapshot.status.policy = policy;
      for (const p of s.snapshot.status.peers) if (args['peer'] === null ? !p.own_policy : args['peer'] === p.name) p.policy = policy;
    }
    if (command === 'set_excluded') {
      for (const i of s.snapshot.status?.interfaces ?? []) if (i.name === args['name']) i.excluded = args['excluded'] === true;
      setTimeout(() => window.emit('snapshot', structuredClone(s.snapshot)), 0);
    }
    if (command === 'revoke_invite') {
      for (const i of s.answers['invites'] as InviteStatus[]) if (i.id === args['id']) i.state = 'revoked';
    }
    if (command === 'drill') {
      for (const p of s.drill) window.emit('drill', p);
      if (s.endless) return new Promise(() => undefined);
    }
    return structuredClone(s.answers[command] ?? null);
  };
  Object.assign(window, {
    __TAURI_INTERNALS__: {
      invoke,
      transformCallback: (f: (e: unknown) => void) => {
        callbacks.set(next, f);
        return next++;
      },
      unregisterCallback: (id: number) => callbacks.delete(id),
    },
    __TAURI_EVENT_PLUGIN_INTERNALS__: { unregisterListener: () => undefined },
  });
}

export async function open(page: Page, name: string): Promise<void> {
  const scene = SCENES[name] as Scene;
  const script: Script = {
    snapshot: scene.snapshot,
    answers: { story: EVENTS, history: HISTORY, usage: USAGE, invites: INVITES, logs: ['12:00:01 INFO mastd ready'], presence: { account: null, server: null, state: 'off', why: null, remedy: null, peers: [] }, add_link: { name: 'new' }, add_file: { name: 'wg0' }, ...scene.answers },
    refusals: scene.refusals ?? {},
    endless: scene.endless ?? false,
    drill: scene.drill ?? [],
  };
  await page.clock.setFixedTime(NOW);
  await page.addInitScript(install, script);
  // Another scene at the same place is another page.
  await page.goto('about:blank');
  await page.goto(`/#/${scene.section ?? 'now'}`);
  await page.locator('main').waitFor();
  if (scene.press) {
    if (scene.press === 'add-submit') await page.getByTestId('add-link').fill('mast://1/nonsense');
    await page.getByTestId(scene.press).click();
  }
  if (scene.open) await page.getByTestId(scene.open).locator('summary').first().click();
  await page.evaluate(() => document.fonts.ready);
}

export const calls = (page: Page): Promise<Call[]> => page.evaluate(() => window.calls);
