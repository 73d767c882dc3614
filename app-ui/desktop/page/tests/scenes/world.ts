// What the page is answered when it asks: as long as an hour, or made up of nothing but numbers. Everything that is said
// of the service comes from `made.json` and `said.json`, which the program makes (src-tauri/src/record).

import type { History, InviteStatus, StoryEvent, UplinkUsage } from '../../src/lib/api';
import said from './said.json' with { type: 'json' };

export const NOW = Date.parse('2026-11-24T12:04:00Z');
export const EVENTS = said.events as StoryEvent[];
export const NAMED_EVENTS = said.named as StoryEvent[];

function samples(base: number, active: (minute: number) => boolean): History['paths'][number]['samples'] {
  return Array.from({ length: 720 }, (_, i) => {
    const minute = i / 12;
    const silent = base < 50 && minute > 25 && minute < 34;
    const rtt = base * (1 + 0.18 * Math.sin(i / 17) + 0.1 * Math.sin(i * 1.3));
    return { at_ms: NOW - 3_600_000 + i * 5000, srtt_ms: silent ? null : rtt, active: active(minute) };
  });
}

export const HISTORY: History = {
  interval_ms: 5000,
  paths: [
    { peer: 'home', interface: 'wlan0', local: '192.168.1.20', remote: '203.0.113.7:6278', samples: samples(34, (m) => m < 25 || (m > 35 && m < 48) || m > 56) },
    { peer: 'home', interface: 'wwan0', local: '10.160.4.9', remote: '[2001:db8::7]:6278', samples: samples(62, (m) => (m >= 25 && m <= 35) || (m >= 48.5 && m <= 56)) },
  ],
};

const used = (m: string, rx: number, tx: number) => ({ month: m, rx, tx, rx_overhead: rx * 0.04, tx_overhead: tx * 0.11 });

export const USAGE: UplinkUsage[] = [
  { uplink: 'network:Train', kind: 'wifi', metered: false, budget: null, months: [used('2026-11', 6.2e9, 0.8e9), used('2026-10', 3.1e9, 0.4e9)] },
  { uplink: 'network:Telco LTE', kind: 'cellular', metered: true, budget: 5e9, months: [used('2026-11', 1.9e9, 0.3e9), used('2026-10', 4.4e9, 0.6e9)] },
];

const at = (minutes: number): string => new Date(NOW + minutes * 60_000).toISOString();

export const INVITES: InviteStatus[] = [
  { id: '5d1e09b2', name: 'desk', expires: at(-300), state: 'used' },
  { id: '77aa01f3', name: null, expires: at(-41), state: 'expired' },
  { id: '00c0ffee', name: 'tablet', expires: at(52), state: 'open' },
];
