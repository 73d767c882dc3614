// What a drill found, as bars.

import type { DrillStep } from './api';

/** A gap above this is felt in a call. */
export const FELT = 1000;

/** Milliseconds at the right edge: the longest gap, a second at least. */
export function scale(steps: readonly DrillStep[]): number {
  return Math.max(FELT, ...steps.map((s) => s.gap_ms ?? 0)) * 1.1;
}

/** 0 to 1; a path whose traffic found no other way fills it. */
export function barLength(step: DrillStep, top: number): number {
  return step.gap_ms === null ? (step.to === null ? 1 : 0) : Math.min(1, step.gap_ms / top);
}
