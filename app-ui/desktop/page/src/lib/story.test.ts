import { describe, expect, it } from 'vitest';
import type { StoryEvent } from './api';
import { continued, filtered, isSwitch, visibleRows } from './story';

const event = (more: Partial<StoryEvent>): StoryEvent => ({
  time: '2026-11-24T12:04:00Z', peer: 'nas', from: null, to: null, code: 'silent', reason: 'went silent', sentence: 'Went silent', gap_ms: null, ...more,
}) as StoryEvent;

describe('the story', () => {
  it('goes on with what is told, once', () => {
    const [a, b, c] = [event({ time: '1' }), event({ time: '2' }), event({ time: '3' })] as const;
    expect(continued([a, b], [b, c], 10)).toEqual([a, b, c]);
    expect(continued([a, b], [c], 2)).toEqual([b, c]);
  });

  it('is filtered by words, peer and kind, the newest first', () => {
    const all = [event({ from: 'a', to: 'b' }), event({ code: 'other', sentence: 'Invited' }), event({ peer: 'office', from: 'b', to: 'a' })];
    const none = { text: '', peer: '', switches: false };
    expect(filtered(all, none)[0]?.peer).toBe('office');
    expect(filtered(all, { ...none, peer: 'nas', switches: true })).toHaveLength(1);
    expect(filtered(all, { ...none, text: 'INVITED nas' })).toHaveLength(1);
    expect(isSwitch(event({ from: 'a', to: 'a' }))).toBe(false);
  });

  it('draws only the rows that can be seen', () => {
    const rows = visibleRows(100_000, 600, 40, 10_000);
    expect(rows.end - rows.first).toBeLessThan(40);
    expect(visibleRows(0, 600, 40, 3)).toEqual({ first: 0, end: 3 });
    expect(visibleRows(1e9, 600, 40, 10).end).toBe(10);
  });
});
