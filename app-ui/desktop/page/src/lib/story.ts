// Events in plain words.

import type { InterfaceStatus, StoryEvent } from './api';
import { millis } from './format';
import { has, t } from './i18n/index.svelte';
import { spoken } from './names';

/** The service's short words as what an interface did; others stay as they are. */
function told(reason: string): string {
  const key = `story.reason.${reason}`;
  return has(key) ? t(key) : reason;
}

/** "Wi-Fi ‘Train’ went silent → cellular ‘Cell’ in 140 ms". */
export function sentence(event: StoryEvent, interfaces: readonly InterfaceStatus[]): string {
  const from = event.from === null ? null : spoken(event.from, interfaces);
  const to = event.to === null ? null : spoken(event.to, interfaces);
  const reason = event.from === null ? event.reason : told(event.reason);
  const gap = event.gap_ms === null ? null : millis(event.gap_ms);
  if (from !== null && to !== null) {
    const params = { from, to, reason };
    const moved = gap === null ? t('story.moved', params) : t('story.moved_gap', { ...params, gap });
    return event.sessions ? moved + t('story.sessions', { count: event.sessions }) : moved;
  }
  if (from !== null) return t('story.lost', { from, reason });
  const first = reason.charAt(0).toUpperCase() + reason.slice(1);
  if (to !== null) {
    return gap === null ? t('story.over', { to, reason: first }) : t('story.over_gap', { to, reason: first, gap });
  }
  return first;
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
