import { describe, expect, it } from 'vitest';
import type { UplinkUsage } from './api';
import { barLength, scale } from './drill';
import { spark } from './spark';
import { asGigabytes, budgetState, gigabytes, parts } from './usage';

const uplink = (rx: number, budget: number | null): UplinkUsage => ({
  uplink: 'wwan0', kind: 'cellular', metered: true, budget,
  months: [{ month: '2026-11', rx, tx: 0, rx_overhead: 10, tx_overhead: 0 }],
});

describe('usage', () => {
  it('tells the overhead apart', () => {
    expect(parts({ month: '', rx: 100, tx: 50, rx_overhead: 10, tx_overhead: 5 })).toEqual({ yours: 135, overhead: 15, total: 150 });
  });

  it('warns near the budget and beyond it, in the running month only', () => {
    const state = (rx: number, month = '2026-11'): string => budgetState(uplink(rx, 1000), month).state;
    expect([state(799), state(800), state(1000), state(5000, '2026-12')]).toEqual(['fine', 'near', 'over', 'fine']);
    expect(budgetState(uplink(5, null), '2026-11').state).toBe('none');
  });

  it('reads gigabytes as typed', () => {
    expect([gigabytes('5'), gigabytes(' 2,5 '), gigabytes('')]).toEqual([5e9, 2.5e9, null]);
    for (const text of ['x', '-1', '0', '1e9', '99999999']) expect(gigabytes(text)).toBeNaN();
    expect(asGigabytes(2.5e9)).toBe('2.5');
  });
});

describe('pictures', () => {
  it('hold what they are given, however little', () => {
    for (const data of [{ rx: [], tx: [] }, { rx: [0], tx: [0] }, { rx: [1, 5e9], tx: [2, 0] }]) {
      expect(JSON.stringify(spark(data, 200, 40))).not.toMatch(/NaN|null/);
    }
    const step = { path: 1, paths: 1, interface: 'a', to: null, gap_ms: null, sent: 1, lost: 1 };
    expect(barLength(step, scale([step]))).toBeGreaterThan(0);
  });
});
