import { cleanup, fireEvent, render, screen } from '@testing-library/svelte';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { SCENES } from '../../tests/scenes/all';
import { api, type InviteStatus, type Snapshot } from '../lib/api';
import { take } from '../lib/state.svelte';
import InviteList from './InviteList.svelte';

const scene = SCENES['now']?.snapshot as Snapshot;
const invite = (id: string, minutes: number, more: Partial<InviteStatus> = {}): InviteStatus => ({ id, name: 'tablet', expires: new Date(Date.now() + minutes * 60_000).toISOString(), state: 'open', ...more });

beforeEach(() => take(scene));
afterEach(() => {
  cleanup();
  vi.restoreAllMocks();
});

it('offers to revoke what is open, and nothing that is over by now', async () => {
  vi.spyOn(api, 'invites').mockResolvedValue([invite('aaaaaaaa', 9), invite('bbbbbbbb', -1), invite('cccccccc', 9, { state: 'used' })]);
  render(InviteList, { changed: '', revoked: vi.fn() });
  await vi.waitFor(() => expect(screen.getAllByRole('listitem')).toHaveLength(3));
  expect(screen.getByTestId('invite-bbbbbbbb').dataset['state']).toBe('expired');
  expect(screen.getAllByRole('button').map((b) => b.dataset['testid'])).toEqual(['revoke-aaaaaaaa']);
});

it('asks the service, and tells until when the revoked one was good', async () => {
  const open = invite('aaaaaaaa', 9);
  vi.spyOn(api, 'invites').mockResolvedValueOnce([open]).mockResolvedValue([{ ...open, state: 'revoked' }]);
  const revoke = vi.spyOn(api, 'revokeInvite').mockResolvedValue();
  const revoked = vi.fn();
  render(InviteList, { changed: '', revoked });
  await fireEvent.click(await screen.findByTestId('revoke-aaaaaaaa'));
  await vi.waitFor(() => expect(screen.queryByRole('button')).toBeNull());
  expect(revoke).toHaveBeenCalledWith('aaaaaaaa');
  expect(revoked).toHaveBeenCalledWith(open.expires);
});

it('leaves a refused one as it is', async () => {
  vi.spyOn(api, 'invites').mockResolvedValue([invite('aaaaaaaa', 9)]);
  vi.spyOn(api, 'revokeInvite').mockRejectedValue({ message: 'no', field: null });
  const revoked = vi.fn();
  render(InviteList, { changed: '', revoked });
  await fireEvent.click(await screen.findByTestId('revoke-aaaaaaaa'));
  expect(screen.getByTestId('invite-aaaaaaaa').dataset['state']).toBe('open');
  expect(revoked).not.toHaveBeenCalled();
});

it('is asked for by nobody who may not change things', () => {
  const list = vi.spyOn(api, 'invites').mockResolvedValue([]);
  take({ ...scene, service: { ...scene.service, may_change: false } });
  render(InviteList, { changed: '', revoked: vi.fn() });
  expect(list).not.toHaveBeenCalled();
  expect(screen.queryByTestId('invites')).toBeNull();
});
