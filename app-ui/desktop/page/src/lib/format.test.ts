import { describe, expect, it } from 'vitest';
import { digits, left } from './countdown';
import { bytes, clock, duration, millis, percent, rate } from './format';

describe('numbers in words', () => {
  it('writes bytes with three figures at most', () => {
    expect([0, 999, 1000, 12_345, 999_499, 999_600, 5e9, -1, NaN].map(bytes)).toEqual([
      '0 B', '999 B', '1.0 kB', '12.3 kB', '999 kB', '1.0 MB', '5.0 GB', '–', '–',
    ]);
    expect(rate(1500)).toBe('1.5 kB/s');
  });

  it('writes times as people say them', () => {
    expect([null, 0.4, 34.4, 999.6, 1234, 5000].map(millis)).toEqual(['–', '0.4 ms', '34 ms', '1 s', '1.2 s', '5 s']);
    expect([0, 65_000, 3_600_000, 90_000_000].map(duration)).toEqual(['0 s', '1 min 5 s', '1 h', '1 d 1 h']);
    expect(clock('nonsense')).toBe('--:--');
    expect(clock('2026-11-24T12:04:05Z', true)).toBe('12:04:05');
  });

  it('writes shares', () => {
    expect([null, 0, 0.0001, 0.004, 0.12, 1].map(percent)).toEqual(['–', '0 %', '< 0.1 %', '0.4 %', '12 %', '100 %']);
  });

  it('counts down to nothing and not below', () => {
    expect(digits(left('2026-11-24T13:00:00Z', Date.parse('2026-11-24T12:00:57Z')))).toBe('59:03');
    expect(digits(left('2026-11-24T13:00:00Z', Date.parse('2026-11-24T12:00:00Z')))).toBe('1:00:00');
    expect(left('2026-11-24T13:00:00Z', Date.parse('2026-11-24T14:00:00Z'))).toBe(0);
    expect(left('never', 0)).toBe(0);
  });
});
