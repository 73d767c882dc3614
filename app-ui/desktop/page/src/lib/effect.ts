// Sends a policy and measures until a snapshot shows it.

import { api, type PeerStatus, type Policy, type Snapshot } from './api';
import { isSeveral, same } from './preference';
import { take, watch } from './state.svelte';

const PATIENCE = 5000;

function shows(snapshot: Snapshot, scope: string | null, policy: Policy): boolean {
  const peers = snapshot.status?.peers ?? [];
  const meant = (p: PeerStatus): boolean => (scope === null ? !p.own_policy : p.name === scope);
  if (scope === null && snapshot.status?.policy && !same(snapshot.status.policy, policy)) return false;
  const found = peers.filter(meant);
  // A peer that cannot follow the policy of all keeps its way.
  return found.every((p) => same(p.policy, policy) || (isSeveral(policy.mode) && !p.modes.includes(policy.mode)));
}

/** Milliseconds from the command to the first snapshot that shows it; null when none did in time. */
export async function apply(command: () => Promise<void>, scope: string | null, policy: Policy): Promise<number | null> {
  const began = performance.now();
  await command();
  return new Promise((done) => {
    const stop = watch((s) => {
      if (shows(s, scope, policy)) finish(performance.now() - began);
    });
    const timer = setTimeout(() => finish(null), PATIENCE);
    function finish(ms: number | null): void {
      stop();
      clearTimeout(timer);
      done(ms);
    }
    // The next one by itself may be half a second away.
    api.snapshot().then(take, () => undefined);
  });
}
