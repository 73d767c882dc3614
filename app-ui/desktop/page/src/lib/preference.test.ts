import { describe, expect, it } from 'vitest';
import type { InterfaceStatus, PeerStatus, Policy } from './api';
import { AUTOMATIC, isOnly, isPinned, isSeveral, matches, moved, offered, only, ordered, parse, pinned, policyOf, rows, same, selectorFor, severalPaths, without, withRule } from './preference';

const item = (name: string, more: Partial<InterfaceStatus> = {}): InterfaceStatus => ({
  name, kind: 'wifi', network: null, addresses: [], metered: false, usable: true, metered_by_hand: null, excluded: false, weak: false, spent: false, layers: [], ...more,
});
const laptop = [item('wlan0', { network: 'Home' }), item('wwan0', { kind: 'cellular' }), item('eth0', { kind: 'ethernet' })];

describe('preference', () => {
  it('tells an interface from a kind of the same name', () => {
    expect(selectorFor('wlan0')).toBe('wlan0');
    expect(selectorFor('wifi')).toBe('interface:wifi');
    expect(parse('wifi')).toEqual({ type: 'kind', value: 'wifi' });
    expect(parse('interface:wifi')).toEqual({ type: 'interface', value: 'wifi' });
    expect(parse('network:a:b')).toEqual({ type: 'network', value: 'a:b' });
    expect(matches('network:Home', laptop[0]!)).toBe(true);
    expect(matches('cellular', laptop[0]!)).toBe(false);
  });

  it('lists what is chosen first, and every interface once', () => {
    const policy: Policy = { mode: 'pin', pin: ['network:Home', 'eth0'], fallback: true, small: false, metered: false };
    expect(rows(policy, laptop, ['wlan0', 'wwan0', 'eth0']).map((r) => r.selector)).toEqual(['network:Home', 'eth0', 'wlan0', 'wwan0']);
  });

  it('makes a policy of an order, without what is never used', () => {
    const list = rows(AUTOMATIC, [laptop[0]!, item('tun9', { excluded: true }), laptop[1]!], ['wlan0', 'tun9', 'wwan0']);
    expect(ordered(moved(list, 2, 0), true)).toEqual({ mode: 'pin', pin: ['wwan0', 'wlan0'], fallback: true, small: false, metered: false });
    expect(moved(['a', 'b', 'c'], 0, 99)).toEqual(['b', 'c', 'a']);
    expect(moved(['a'], 7, 0)).toEqual(['a']);
  });

  it('pins, and undoes that', () => {
    expect(isPinned(pinned('eth0'), 'eth0')).toBe(true);
    expect(isOnly(only('eth0'), 'eth0')).toBe(true);
    expect(isPinned(only('eth0'), 'eth0')).toBe(false);
    const policy = withRule(withRule(AUTOMATIC, 'cellular'), 'network:Home');
    expect(policy.pin).toEqual(['network:Home', 'cellular']);
    expect(without(without(policy, 'cellular'), 'network:Home')).toEqual(AUTOMATIC);
    expect(same(pinned('a'), only('a'))).toBe(false);
  });

  it('goes to several paths and back with what belongs to the mode', () => {
    const twice: Policy = { ...severalPaths('redundant', only('eth0')), small: true, metered: true };
    expect(severalPaths('redundant', only('eth0'))).toEqual({ mode: 'redundant', pin: [], fallback: true, small: false, metered: false });
    expect(severalPaths('bonded', twice)).toEqual({ mode: 'bonded', pin: [], fallback: true, small: false, metered: true });
    expect(same(twice, { ...twice, small: false })).toBe(false);
    expect(same(twice, { ...twice, metered: false })).toBe(false);
    expect(same(twice, { ...twice })).toBe(true);
    expect(withRule(twice, 'wifi')).toEqual(pinned('wifi'));
    expect(['auto', 'pin', 'redundant', 'bonded', 'unknown'].map((m) => isSeveral(m as Policy['mode']))).toEqual([false, false, true, true, false]);
  });

  it('takes the policy of all from a peer that can follow it', () => {
    const of = (name: string, more: Partial<PeerStatus>) => ({ name, own_policy: false, policy: AUTOMATIC, modes: ['auto', 'pin'], ...more }) as PeerStatus;
    const plain = of('office', {});
    const bonded = severalPaths('bonded', AUTOMATIC);
    const home = of('home', { policy: bonded, modes: ['auto', 'pin', 'redundant', 'bonded'] });
    expect(policyOf({ peers: [plain, home], policy: null }, null)).toEqual(bonded);
    expect(policyOf({ peers: [plain], policy: null }, null)).toEqual(AUTOMATIC);
    expect(policyOf({ peers: [of('x', { own_policy: true })], policy: null }, null)).toBeNull();
    expect(policyOf({ peers: [of('x', { own_policy: true })], policy: bonded }, null)).toEqual(bonded);
    expect(policyOf({ peers: [plain, home], policy: bonded }, 'office')).toEqual(AUTOMATIC);
    expect(offered([plain])).toEqual([]);
    expect(offered([plain, home])).toEqual(['redundant', 'bonded']);
  });
});
