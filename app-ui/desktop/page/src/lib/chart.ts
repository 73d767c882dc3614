// Geometry of the picture of an hour's round trips.

import type { History, PathHistory, StoryEvent } from './api';
import { isSwitch } from './story';
import { niceTop } from './spark';

export const HOUR = 3_600_000;
export const MOST_PATHS = 6;
const BUCKETS = 240;

export interface Frame {
  width: number;
  height: number;
  left: number;
  bottom: number;
}

export interface Curve {
  key: string;
  peer: string;
  interface: string;
  remote: string;
  /** All of it. */
  line: string;
  /** The stretches over which it carried the traffic. */
  active: string;
  min: number | null;
  median: number | null;
  max: number | null;
  now: number | null;
}

export interface Picture {
  curves: Curve[];
  /** Milliseconds at the top edge. */
  top: number;
  marks: { x: number; event: StoryEvent }[];
  /** Paths that were left out. */
  more: number;
}

interface Point {
  x: number;
  y: number;
  active: boolean;
}

/** One value a bucket, the median, so that a day of samples costs no more than an hour. */
function bucketed(path: PathHistory, start: number, end: number): { at: number; rtt: number | null; active: boolean }[] {
  const size = (end - start) / BUCKETS;
  const out = new Map<number, { values: number[]; active: boolean; silent: boolean }>();
  for (const s of path.samples) {
    if (s.at_ms < start || s.at_ms > end) continue;
    const i = Math.min(BUCKETS - 1, Math.floor((s.at_ms - start) / size));
    const b = out.get(i) ?? { values: [], active: false, silent: false };
    if (s.srtt_ms === null) b.silent = true;
    else b.values.push(s.srtt_ms);
    b.active ||= s.active;
    out.set(i, b);
  }
  return [...out].sort((a, b) => a[0] - b[0]).map(([i, b]) => ({
    at: start + (i + 0.5) * size,
    rtt: b.values.length > 0 ? median(b.values) : null,
    active: b.active,
  }));
}

export function median(values: readonly number[]): number | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const [a, b] = [sorted[middle - 1] ?? 0, sorted[middle] ?? 0];
  return sorted.length % 2 === 1 ? b : (a + b) / 2;
}

const round = (n: number): number => Math.round(n * 10) / 10;

/** Stretches of points that satisfy, none across a silence. */
function line(points: readonly (Point | null)[], wanted: (p: Point) => boolean): string {
  let d = '';
  let pen = false;
  for (const p of points) {
    if (p === null || !wanted(p)) {
      pen = false;
      continue;
    }
    d += `${pen ? 'L' : 'M'}${round(p.x)} ${round(p.y)}`;
    pen = true;
  }
  return d;
}

export function picture(
  history: History,
  events: readonly StoryEvent[],
  peer: string,
  now: number,
  frame: Frame,
): Picture {
  const start = now - HOUR;
  const all = history.paths.filter((p) => peer === '' || p.peer === peer);
  const busy = (p: PathHistory): number => p.samples.filter((s) => s.active).length;
  const shown = [...all].sort((a, b) => busy(b) - busy(a)).slice(0, MOST_PATHS);
  const data = shown.map((path) => ({ path, points: bucketed(path, start, now) }));
  const values = data.flatMap((d) => d.points.flatMap((p) => (p.rtt === null ? [] : [p.rtt])));
  const top = niceTop(values.reduce((a, b) => Math.max(a, b), 10));
  const x = (at: number): number => frame.left + ((at - start) / HOUR) * (frame.width - frame.left);
  const y = (rtt: number): number => (1 - rtt / top) * (frame.height - frame.bottom - 8) + 8;
  const gap = HOUR / BUCKETS + 2 * Math.max(history.interval_ms, HOUR / BUCKETS);
  const curves = data.map(({ path, points }, i): Curve => {
    const placed: (Point | null)[] = [];
    let before = -Infinity;
    for (const p of points) {
      if (p.at - before > gap) placed.push(null);
      placed.push(p.rtt === null ? null : { x: x(p.at), y: y(p.rtt), active: p.active });
      before = p.at;
    }
    const rtts = points.flatMap((p) => (p.rtt === null ? [] : [p.rtt]));
    return {
      key: `${i} ${path.peer} ${path.interface} ${path.remote}`,
      peer: path.peer,
      interface: path.interface,
      remote: path.remote,
      line: line(placed, () => true),
      active: line(placed, (p) => p.active),
      min: rtts.length > 0 ? rtts.reduce((a, b) => Math.min(a, b)) : null,
      median: median(rtts),
      max: rtts.length > 0 ? rtts.reduce((a, b) => Math.max(a, b)) : null,
      now: points.at(-1)?.rtt ?? null,
    };
  });
  const marks = events
    .filter((e) => isSwitch(e) && (peer === '' || e.peer === peer))
    .map((event) => ({ event, at: Date.parse(event.time) }))
    .filter((m) => m.at >= start && m.at <= now)
    .map((m) => ({ x: round(x(m.at)), event: m.event }));
  return { curves, top, marks, more: all.length - shown.length };
}
