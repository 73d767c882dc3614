// What an uplink carried in a month, and how that stands to its budget.

import type { MonthUsage, UplinkUsage } from './api';

const GB = 1_000_000_000;

/** `rx` and `tx` hold the overhead too; it is told apart here. */
export interface Parts {
  yours: number;
  overhead: number;
  total: number;
}

export function parts(m: MonthUsage): Parts {
  const total = m.rx + m.tx;
  const overhead = Math.min(total, m.rx_overhead + m.tx_overhead);
  return { yours: total - overhead, overhead, total };
}

export type BudgetState = 'none' | 'fine' | 'near' | 'over';

/** Only the running month counts against it. */
export function budgetState(u: UplinkUsage, month: string): { state: BudgetState; share: number } {
  if (u.budget === null || u.budget <= 0) return { state: 'none', share: 0 };
  const now = u.months.find((m) => m.month === month);
  const share = (now ? parts(now).total : 0) / u.budget;
  return { share, state: share >= 1 ? 'over' : share >= 0.8 ? 'near' : 'fine' };
}

export function monthOf(now: number): string {
  const d = new Date(now);
  return `${d.getFullYear()}-${String(d.getMonth() + 1).padStart(2, '0')}`;
}

/** Gigabytes as typed, with point or comma. Null: nothing typed. NaN: no amount. */
export function gigabytes(text: string): number | null {
  const plain = text.trim().replace(',', '.');
  if (plain === '') return null;
  const value = /^\d+(\.\d+)?$/.test(plain) ? Number(plain) : NaN;
  return value > 0 && value <= 1_000_000 ? Math.round(value * GB) : NaN;
}

export function asGigabytes(bytes: number | null): string {
  return bytes === null ? '' : String(Math.round(bytes / (GB / 1000)) / 1000);
}

export function uplinkName(uplink: string): string {
  return uplink.startsWith('network:') ? uplink.slice(8) : uplink;
}
