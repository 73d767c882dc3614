import { cleanup, fireEvent, render, screen } from '@testing-library/svelte';
import { afterEach, expect, it, vi } from 'vitest';
import { SCENES } from '../../tests/scenes/all';
import type { PeerStatus, Policy, Snapshot } from '../lib/api';
import { AUTOMATIC, severalPaths } from '../lib/preference';
import { take } from '../lib/state.svelte';
import PrefModes from './PrefModes.svelte';

const scene = SCENES['preference-redundant']?.snapshot as Snapshot;
const [able, plain] = scene.status?.peers as [PeerStatus, PeerStatus];
const twice: Policy = { ...severalPaths('redundant', AUTOMATIC), metered: true };

take(scene);
afterEach(cleanup);

function shown(peers: PeerStatus[], policy: Policy, answer?: boolean) {
  const send = vi.fn((_: Policy) => Promise.resolve(answer));
  render(PrefModes, { peers, policy, send });
  return send;
}

it('offers nothing where nobody can follow', () => {
  shown([plain], AUTOMATIC);
  expect(screen.queryByTestId('pref-modes')).toBeNull();
});

it('sends the mode that is chosen, and keeps what was said of cost', async () => {
  const send = shown([able, plain], twice);
  expect(screen.getByTestId<HTMLInputElement>('pref-mode-redundant').checked).toBe(true);
  expect(screen.getByTestId('pref-unable').textContent).toContain('office');
  await fireEvent.click(screen.getByTestId('pref-mode-bonded'));
  expect(send).toHaveBeenLastCalledWith({ mode: 'bonded', pin: [], fallback: true, small: false, metered: true });
  await fireEvent.click(screen.getByTestId('pref-mode-one'));
  expect(send).toHaveBeenLastCalledWith(AUTOMATIC);
});

it('sends options, and shows a refused one as it was', async () => {
  const send = shown([able], twice, false);
  const small = screen.getByTestId<HTMLInputElement>('pref-small');
  await fireEvent.click(small);
  expect(send).toHaveBeenLastCalledWith({ ...twice, small: true });
  await vi.waitFor(() => expect(small.checked).toBe(false));
});

it('has no small packets where several paths share the traffic', () => {
  shown([able], severalPaths('bonded', AUTOMATIC));
  expect(screen.queryByTestId('pref-small')).toBeNull();
  expect(screen.getByTestId<HTMLInputElement>('pref-metered').checked).toBe(false);
});
