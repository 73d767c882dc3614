// Events in plain words.

import type { Ends, InterfaceStatus, StoryEvent } from './api';
import { millis } from './format';
import { has, t } from './i18n/index.svelte';
import { family, spoken } from './names';

/** Why, as what an interface did; a code without words of the page is told in the service's. */
function told(event: StoryEvent): string {
  if (event.code === 'unfit') return unfit(event);
  const key = `story.reason.${event.code ?? ''}`;
  return has(key) ? t(key) : event.reason;
}

/** What was wrong with a path that was left while it worked. Less than so much is what every path does. */
function unfit({ lost_percent: lost = 0, late_ms: late = 0, stalled = false }: StoryEvent): string {
  const all = [
    lost >= 3 ? t('story.unfit.lost', { lost }) : '',
    late >= 50 ? t('story.unfit.late', { late: millis(late) }) : '',
    stalled ? t('story.unfit.stalled') : '',
  ].filter(Boolean);
  if (all.length === 0) return t('story.unfit');
  return all.reduce((one, other) => t('story.unfit.and', { one, other }));
}

/** What tells two paths of one interface apart: the version of IP, or else the address. */
function apart(one: Ends, other: Ends): [string, string] {
  const [a, b] = [family(one.remote), family(other.remote)];
  if (a !== b) return [a, b];
  if (one.local !== other.local) return [one.local ?? '?', other.local ?? '?'];
  const bare = (remote: string): string => remote.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
  return [bare(one.remote), bare(other.remote)];
}

/** "Wi-Fi ‘Train’ went silent → cellular ‘Cell’ in 140 ms". */
export function sentence(event: StoryEvent, interfaces: readonly InterfaceStatus[]): string {
  let from = event.from === null ? null : spoken(event.from, interfaces);
  let to = event.to === null ? null : spoken(event.to, interfaces);
  if (from !== null && to !== null && event.from === event.to && event.from_path && event.to_path) {
    const [before, now] = apart(event.from_path, event.to_path);
    from = t('story.part', { link: from, part: before });
    to = t('story.part', { link: to, part: now });
  }
  const reason = event.from === null ? event.reason : told(event);
  const gap = event.gap_ms === null ? null : millis(event.gap_ms);
  if (from !== null && to !== null) {
    const params = { from, to, reason };
    const moved = event.code === 'unfit' ? t('story.before', params) : gap === null ? t('story.moved', params) : t('story.moved_gap', { ...params, gap });
    return event.sessions ? moved + t('story.sessions', { count: event.sessions }) : moved;
  }
  if (from !== null) return t('story.lost', { from, reason });
  const first = reason.charAt(0).toUpperCase() + reason.slice(1);
  if (to !== null) {
    return gap === null ? t('story.over', { to, reason: first }) : t('story.over_gap', { to, reason: first, gap });
  }
  return first;
}

/** The story with what happened since. What was read already, because it happened while the story was read, is left out. */
export function continued(story: readonly StoryEvent[], more: readonly StoryEvent[], most: number): StoryEvent[] {
  const same = (e: StoryEvent): string => JSON.stringify([e.time, e.peer, e.reason, e.from, e.to]);
  const last = new Set(story.slice(-Math.max(256, more.length)).map(same));
  return [...story, ...more.filter((e) => !last.has(same(e)))].slice(-most);
}

export function isSwitch(event: StoryEvent): boolean {
  return event.from !== null && event.to !== null && event.from !== event.to;
}

export interface StoryFilter {
  text: string;
  peer: string;
  switches: boolean;
}

/** Newest first. */
export function filtered(
  events: readonly StoryEvent[],
  filter: StoryFilter,
  interfaces: readonly InterfaceStatus[],
): StoryEvent[] {
  const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
  const plain = (e: StoryEvent): string =>
    `${e.peer} ${e.from ?? ''} ${e.to ?? ''} ${sentence(e, interfaces)}`.toLowerCase();
  const fits = (e: StoryEvent): boolean => {
    if (filter.peer !== '' && e.peer !== filter.peer) return false;
    if (filter.switches && !isSwitch(e)) return false;
    if (words.length === 0) return true;
    const text = plain(e);
    return words.every((w) => text.includes(w));
  };
  return events.filter(fits).reverse();
}

/** Which rows of a list of rows of one height are to be drawn. */
export function visibleRows(
  scroll: number,
  height: number,
  row: number,
  count: number,
): { first: number; end: number } {
  const spare = 6;
  const first = Math.max(0, Math.min(count, Math.floor(scroll / row) - spare));
  const end = Math.min(count, Math.ceil((scroll + height) / row) + spare);
  return { first, end: Math.max(first, end) };
}
