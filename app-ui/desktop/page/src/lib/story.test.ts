import { describe, expect, it } from 'vitest';
import type { InterfaceStatus, StoryEvent } from './api';
import { addLanguage, setLanguage, t } from './i18n/index.svelte';
import { continued, filtered, isSwitch, sentence, visibleRows } from './story';

const train: InterfaceStatus = {
  name: 'wlan0', kind: 'wifi', network: 'Train', addresses: [], metered: false, usable: true, metered_by_hand: null, excluded: false,
};
const event = (more: Partial<StoryEvent>): StoryEvent => ({
  time: '2026-11-24T12:04:00Z', peer: 'nas', from: null, to: null, code: 'silent', reason: 'went silent', gap_ms: null, ...more,
});
const bare = (text: string): string => text.replace(/[\u2066-\u2069]/g, '');

describe('the story', () => {
  it('says what was wrong with a path that was left in time', () => {
    const unfit = (more: Partial<StoryEvent>): string =>
      bare(sentence(event({ from: 'wlan0', to: 'wwan0', code: 'unfit', gap_ms: 30, ...more }), [train]));
    expect(unfit({ lost_percent: 14, late_ms: 20, stalled: true })).toBe('Wi-Fi ‘Train’ lost 14 % and stalled → wwan0 before it broke');
    expect(unfit({ lost_percent: 1, late_ms: 420 })).toBe('Wi-Fi ‘Train’ was 420 ms slower than it can be → wwan0 before it broke');
    expect(unfit({})).toBe('Wi-Fi ‘Train’ was no longer fit → wwan0 before it broke');
  });

  it('is told in plain words', () => {
    expect(bare(sentence(event({ from: 'wlan0', to: 'wwan0', gap_ms: 140 }), [train]))).toBe('Wi-Fi ‘Train’ went silent → wwan0 in 140 ms');
    expect(bare(sentence(event({ from: 'wwan0', to: 'wlan0', code: 'better', reason: 'better path' }), [train]))).toBe('wwan0 was no longer best → Wi-Fi ‘Train’');
    expect(bare(sentence(event({ from: 'wlan0', to: 'wwan0', code: 'teleported', reason: 'something new' }), [train]))).toBe('Wi-Fi ‘Train’ something new → wwan0');
    expect(bare(sentence(event({ from: 'wlan0', to: 'wwan0', gap_ms: 140, sessions: 3 }), [train]))).toBe('Wi-Fi ‘Train’ went silent → wwan0 in 140 ms; 3 sessions kept');
    expect(bare(sentence(event({ from: 'wlan0' }), [train]))).toContain('no path left');
    expect(sentence(event({ code: 'pause-over', reason: 'the pause is over' }), [])).toBe('The pause is over');
  });

  it('names the version of IP where data moves within one link, or else the address', () => {
    const within = (from: string, to: string): string => bare(sentence(event({ from: 'wlan0', to: 'wlan0', from_path: { local: 'a', remote: from }, to_path: { local: 'a', remote: to } }), [train]));
    expect(within('[fd09::2]:6278', '10.9.0.2:6278')).toBe('Wi-Fi ‘Train’ (IPv6) went silent → Wi-Fi ‘Train’ (IPv4)');
    expect(within('10.8.0.2:6278', '10.9.0.2:6278')).toBe('Wi-Fi ‘Train’ (10.8.0.2) went silent → Wi-Fi ‘Train’ (10.9.0.2)');
  });

  it('of an older service is told in its own words', () => {
    const { code: _, ...older } = event({ from: 'wlan0', to: 'wwan0', reason: 'better path' });
    expect(bare(sentence(older, [train]))).toBe('Wi-Fi ‘Train’ better path → wwan0');
  });

  it('goes on with what is told, once', () => {
    const [a, b, c] = [event({ time: '1' }), event({ time: '2' }), event({ time: '3' })] as const;
    expect(continued([a, b], [b, c], 10)).toEqual([a, b, c]);
    expect(continued([a, b], [c], 2)).toEqual([b, c]);
  });

  it('is filtered by words, peer and kind, the newest first', () => {
    const all = [event({ from: 'a', to: 'b' }), event({ code: 'other', reason: 'invited' }), event({ peer: 'office', from: 'b', to: 'a' })];
    const none = { text: '', peer: '', switches: false };
    expect(filtered(all, none, [])[0]?.peer).toBe('office');
    expect(filtered(all, { ...none, peer: 'nas', switches: true }, [])).toHaveLength(1);
    expect(filtered(all, { ...none, text: 'INVITED nas' }, [])).toHaveLength(1);
    expect(isSwitch(event({ from: 'a', to: 'a' }))).toBe(false);
  });

  it('draws only the rows that can be seen', () => {
    const rows = visibleRows(100_000, 600, 40, 10_000);
    expect(rows.end - rows.first).toBeLessThan(40);
    expect(visibleRows(0, 600, 40, 3)).toEqual({ first: 0, end: 3 });
    expect(visibleRows(1e9, 600, 40, 10).end).toBe(10);
  });
});

describe('languages', () => {
  it('fall back to English where they have a gap, and for what is no language', () => {
    addLanguage('xx', 'Test', { 'nav.now': 'Jetzt' });
    setLanguage('xx');
    expect([t('nav.now'), t('nav.interfaces')]).toEqual(['Jetzt', 'Interfaces']);
    setLanguage('nonsense');
    expect(t('nav.now')).toBe('Now');
  });
});
