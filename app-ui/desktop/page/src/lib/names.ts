// Things as the user knows them.

import type { InterfaceKind, InterfaceStatus, PathStatus, PeerStatus, Status } from './api';
import { t, type Key } from './i18n/index.svelte';

export function kindName(kind: InterfaceKind): string {
  return t(`kind.${kind}` satisfies Key);
}

/** "Wi-Fi ‘Train’", or the interface's name where no network is known. */
export function spoken(name: string, interfaces: readonly InterfaceStatus[]): string {
  const found = interfaces.find((i) => i.name === name);
  if (!found?.network) return name;
  return t('name.network', { kind: kindName(found.kind), network: found.network });
}

/** The version of IP of an address with its port. */
export function family(remote: string): 'IPv4' | 'IPv6' {
  return remote.startsWith('[') ? 'IPv6' : 'IPv4';
}

/** The paths of one link beside one another, in the order of the links' first paths. */
export function byLink(paths: readonly PathStatus[]): PathStatus[] {
  const links = [...new Set(paths.map((p) => p.interface))];
  return links.flatMap((link) => paths.filter((p) => p.interface === link));
}

export function activePath(peer: PeerStatus): PathStatus | null {
  return peer.paths.find((p) => p.active) ?? null;
}

/** Interfaces over which some peer's traffic goes now. */
export function carriers(status: Status): Set<string> {
  if (!status.up) return new Set();
  const all = status.peers.flatMap((p) => p.paths.filter((path) => path.active).map((path) => path.interface));
  return new Set(all);
}

export type InterfaceState = 'carries' | 'ready' | 'testing' | 'suspect' | 'failed' | 'excluded' | 'unusable' | 'idle';

export interface InterfaceView {
  interface: InterfaceStatus;
  state: InterfaceState;
  /** Of its best path. */
  path: PathStatus | null;
  /** Peers whose traffic it carries. */
  carries: string[];
}

const RANK: Record<PathStatus['state'], number> = {
  validated: 0,
  suspect: 1,
  validating: 2,
  candidate: 3,
  failed: 4,
  unknown: 5,
};

/** An active path before all, then the healthiest, then the quickest. */
function best(paths: PathStatus[]): PathStatus | null {
  const sorted = [...paths].sort(
    (a, b) =>
      Number(b.active) - Number(a.active) ||
      RANK[a.state] - RANK[b.state] ||
      (a.srtt_ms ?? Infinity) - (b.srtt_ms ?? Infinity),
  );
  return sorted[0] ?? null;
}

export function interfaceView(status: Status, item: InterfaceStatus): InterfaceView {
  const over = (p: PeerStatus): PathStatus[] => p.paths.filter((path) => path.interface === item.name);
  const path = best(status.peers.flatMap(over));
  const carries = status.up ? status.peers.filter((p) => over(p).some((x) => x.active)).map((p) => p.name) : [];
  return { interface: item, path, carries, state: stateOf(item, path, carries) };
}

function stateOf(item: InterfaceStatus, path: PathStatus | null, carries: string[]): InterfaceState {
  if (item.excluded) return 'excluded';
  if (!item.usable) return 'unusable';
  if (carries.length > 0) return 'carries';
  switch (path?.state) {
    case 'validated':
      return 'ready';
    case 'suspect':
      return 'suspect';
    case 'failed':
      return 'failed';
    case 'candidate':
    case 'validating':
      return 'testing';
    default:
      return 'idle';
  }
}
