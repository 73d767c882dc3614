// Geometry of the little picture of a minute's traffic.

import type { Throughput } from './api';

export const SECONDS = 60;

export interface Spark {
  rxLine: string;
  rxArea: string;
  txLine: string;
  /** Of both, bytes a second; the top edge of the picture. */
  top: number;
}

/** Whole powers of ten times 1, 2 or 5, so that the scale does not breathe with every sample. */
export function niceTop(value: number): number {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 2, 5, 10].find((s) => s * power >= value * 0.999999) ?? 10;
  return step * power;
}

function points(values: readonly number[], top: number, width: number, height: number): [number, number][] {
  const shown = values.slice(-SECONDS);
  const dx = width / (SECONDS - 1);
  const x0 = width - (shown.length - 1) * dx;
  const y = (v: number): number => height - (Math.min(Math.max(v, 0), top) / top) * height;
  return shown.map((v, i) => [round(x0 + i * dx), round(y(v))]);
}

const round = (n: number): number => Math.round(n * 10) / 10;
const path = (list: readonly [number, number][]): string =>
  list.map(([x, y], i) => `${i === 0 ? 'M' : 'L'}${x} ${y}`).join('');

export function spark(data: Throughput, width: number, height: number): Spark {
  const top = niceTop(Math.max(1000, ...data.rx.slice(-SECONDS), ...data.tx.slice(-SECONDS)));
  const rx = points(data.rx, top, width, height);
  const tx = points(data.tx, top, width, height);
  const first = rx[0];
  const last = rx.at(-1);
  const area = first && last ? `${path(rx)}L${last[0]} ${height}L${first[0]} ${height}Z` : '';
  return { rxLine: path(rx), rxArea: area, txLine: path(tx), top };
}

export function summary(data: Throughput): { rx: number; tx: number; rxTop: number; txTop: number } {
  const top = (v: readonly number[]): number => v.slice(-SECONDS).reduce((a, b) => Math.max(a, b), 0);
  return { rx: data.rx.at(-1) ?? 0, tx: data.tx.at(-1) ?? 0, rxTop: top(data.rx), txTop: top(data.tx) };
}
