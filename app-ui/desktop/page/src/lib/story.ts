// What happened: what of it is shown. Its words come with it.

import type { StoryEvent } from './api';

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
export function filtered(events: readonly StoryEvent[], filter: StoryFilter): StoryEvent[] {
  const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
  const plain = (e: StoryEvent): string =>
    `${e.peer} ${e.from ?? ''} ${e.to ?? ''} ${e.sentence}`.toLowerCase();
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
