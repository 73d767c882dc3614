// The order of interfaces as the user sees it, and the policy it stands for.

import type { InterfaceKind, InterfaceStatus, PeerStatus, Policy, PolicyMode, Status } from './api';

const KINDS: readonly string[] = ['wifi', 'cellular', 'ethernet', 'other'];

export type Selector = { type: 'interface' | 'kind' | 'network'; value: string };

/** How an interface is named in a policy; one that is called like a kind must say that it is none. */
export function selectorFor(name: string): string {
  return KINDS.includes(name) || /^(network|interface):/.test(name) ? `interface:${name}` : name;
}

export function parse(selector: string): Selector {
  if (selector.startsWith('network:')) return { type: 'network', value: selector.slice(8) };
  if (selector.startsWith('interface:')) return { type: 'interface', value: selector.slice(10) };
  return { type: KINDS.includes(selector) ? 'kind' : 'interface', value: selector };
}

export function matches(selector: string, item: InterfaceStatus): boolean {
  const { type, value } = parse(selector);
  if (type === 'network') return item.network === value;
  if (type === 'kind') return item.kind === value;
  return item.name === value;
}

export interface Row {
  selector: string;
  type: Selector['type'];
  value: string;
  kind: InterfaceKind;
  /** Those it speaks of that are here now. */
  interfaces: InterfaceStatus[];
  /** In the policy; the others are what MAST chooses from by itself. */
  chosen: boolean;
  excluded: boolean;
}

const COST: Record<InterfaceKind, number> = { ethernet: 0, wifi: 1, other: 2, cellular: 3 };

/** The order in automatic mode: what carries now, then what costs nothing. */
export function automaticOrder(interfaces: readonly InterfaceStatus[], active: ReadonlySet<string>): string[] {
  const rank = (i: InterfaceStatus): number =>
    (active.has(i.name) ? 0 : 100) + (i.usable ? 0 : 50) + (i.metered ? 10 : 0) + COST[i.kind];
  return [...interfaces].sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name)).map((i) => i.name);
}

/** Those of `order` first, in its order; new ones after them. */
function inOrder(interfaces: readonly InterfaceStatus[], order: readonly string[]): InterfaceStatus[] {
  const at = (i: InterfaceStatus): number => {
    const found = order.indexOf(i.name);
    return found < 0 ? order.length : found;
  };
  return [...interfaces].sort((a, b) => at(a) - at(b));
}

function rowOf(selector: string, interfaces: readonly InterfaceStatus[], chosen: boolean): Row {
  const { type, value } = parse(selector);
  const found = interfaces.filter((i) => matches(selector, i));
  const kind = type === 'kind' ? (value as InterfaceKind) : (found[0]?.kind ?? (type === 'network' ? 'wifi' : 'other'));
  const excluded = found.length > 0 && found.every((i) => i.excluded);
  return { selector, type, value, kind, interfaces: found, chosen, excluded };
}

/** The policy's rows, then every interface that it does not name. */
export function rows(policy: Policy, interfaces: readonly InterfaceStatus[], order: readonly string[]): Row[] {
  const pinned = policy.mode === 'auto' ? [] : [...new Set(policy.pin)];
  const chosen = pinned.map((s) => rowOf(s, interfaces, true));
  const named = new Set(chosen.filter((r) => r.type === 'interface').map((r) => r.value));
  const rest = inOrder(interfaces, order).filter((i) => !named.has(i.name));
  return [...chosen, ...rest.map((i) => rowOf(selectorFor(i.name), interfaces, false))];
}

/** The list with one item elsewhere; the place is held within the list. */
export function moved<T>(list: readonly T[], from: number, to: number): T[] {
  const next = [...list];
  const [item] = next.splice(from, 1);
  if (item === undefined) return next;
  next.splice(Math.max(0, Math.min(next.length, to)), 0, item);
  return next;
}

function inOrderOf(pin: string[], fallback: boolean): Policy {
  return { mode: 'pin', pin, fallback, small: false, metered: false };
}

/** What an order by hand means: all of it, as it is seen, without what is never to be used. */
export function ordered(list: readonly Row[], fallback: boolean): Policy {
  return inOrderOf(list.filter((r) => !r.excluded).map((r) => r.selector), fallback);
}

export function pinned(selector: string): Policy {
  return inOrderOf([selector], true);
}

export function only(selector: string): Policy {
  return inOrderOf([selector], false);
}

export const AUTOMATIC: Policy = { mode: 'auto', pin: [], fallback: true, small: false, metered: false };

/** Whether a mode uses several paths at once. */
export function isSeveral(mode: PolicyMode): boolean {
  return mode === 'redundant' || mode === 'bonded';
}

/** A mode that uses several paths at once; what was said of cost still counts. */
export function severalPaths(mode: PolicyMode, before: Policy): Policy {
  return { ...AUTOMATIC, mode, metered: isSeveral(before.mode) && before.metered };
}

/** The modes of several paths that one of the peers can follow at least. */
export function offered(peers: readonly PeerStatus[]): PolicyMode[] {
  const modes: PolicyMode[] = ['redundant', 'bonded'];
  return modes.filter((mode) => peers.some((p) => p.modes.includes(mode)));
}

/** A rule becomes the most wanted of those chosen; what was only shown stays unchosen. */
export function withRule(policy: Policy, selector: string): Policy {
  const pin = policy.mode === 'pin' ? policy.pin.filter((s) => s !== selector) : [];
  return inOrderOf([selector, ...pin], policy.mode === 'pin' ? policy.fallback : true);
}

/** Without its last rule a policy is automatic. */
export function without(policy: Policy, selector: string): Policy {
  const pin = policy.pin.filter((s) => s !== selector);
  return pin.length === 0 ? AUTOMATIC : { ...policy, pin };
}

export function isPinned(policy: Policy, selector: string): boolean {
  return policy.mode === 'pin' && policy.pin[0] === selector && policy.pin.length === 1 && policy.fallback;
}

export function isOnly(policy: Policy, selector: string): boolean {
  return policy.mode === 'pin' && policy.pin.length === 1 && policy.pin[0] === selector && !policy.fallback;
}

export function same(a: Policy, b: Policy): boolean {
  if (a.mode !== b.mode) return false;
  if (isSeveral(a.mode)) return a.metered === b.metered && (a.mode === 'bonded' || a.small === b.small);
  if (a.mode !== 'pin') return true;
  return a.fallback === b.fallback && a.pin.length === b.pin.length && a.pin.every((s, i) => s === b.pin[i]);
}

/** The policy of one peer, or that of all. An older service does not tell that of all, which then is that of a peer that
 * has none of its own. Null: cannot be known. */
export function policyOf({ peers, policy }: Pick<Status, 'peers' | 'policy'>, scope: string | null): Policy | null {
  if (scope !== null) return peers.find((p) => p.name === scope)?.policy ?? null;
  if (policy) return policy;
  const followers = peers.filter((p) => !p.own_policy);
  // Whoever can do little follows "auto" where all the others use several paths.
  return (followers.find((p) => p.modes.some(isSeveral)) ?? followers[0])?.policy ?? null;
}
