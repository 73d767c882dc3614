// The layers between here and the peer, and which of them fails.

import type { Layer, Now } from './api';

export const LAYERS = ['link', 'portal', 'dns', 'nat', 'peer', 'service'] as const;
export type Link = (typeof LAYERS)[number];
/** `unknown`: it lies behind the one that fails. */
export type LinkState = 'fine' | 'fails' | 'unknown';

export function chain(layer: Layer | null): { layer: Link; state: LinkState }[] {
  // The service is at this end: while it fails, nothing is known of the rest.
  const at = layer === null ? -1 : LAYERS.indexOf(layer as Link);
  return LAYERS.map((l, i) => {
    if (at < 0) return { layer: l, state: 'unknown' };
    if (i === at) return { layer: l, state: 'fails' };
    if (layer === 'service') return { layer: l, state: 'unknown' };
    return { layer: l, state: i < at || l === 'service' ? 'fine' : 'unknown' };
  });
}

export function showsChain(now: Now): boolean {
  return now.light === 'bad' && now.layer !== null && now.layer !== 'unknown';
}
