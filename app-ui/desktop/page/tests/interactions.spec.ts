// What a person does with keyboard and mouse, and what the service is asked then.

import { expect, test, type Page } from '@playwright/test';
import { layout } from './facts';
import { calls, open } from './service';

const last = async (page: Page, command: string): Promise<Record<string, unknown> | undefined> =>
  (await calls(page)).filter((c) => c.command === command).at(-1)?.args;

test('an interface is moved up with the keyboard', async ({ page }) => {
  await open(page, 'preference');
  await page.getByTestId('pref-grip-wwan0').focus();
  await page.keyboard.press('Space');
  await page.keyboard.press('ArrowUp');
  await page.keyboard.press('Space');
  await expect.poll(() => last(page, 'set_policy')).toMatchObject({ peer: null, mode: 'pin', fallback: true });
  expect((await last(page, 'set_policy'))?.['pin']).toEqual(['wwan0', 'wlan0', 'eth0']);
});

test('pin, only and never say what they say', async ({ page }) => {
  await open(page, 'preference');
  await page.getByTestId('pin-wwan0').click();
  await expect.poll(() => last(page, 'set_policy')).toMatchObject({ mode: 'pin', pin: ['wwan0'], fallback: true });
  await page.getByTestId('only-wwan0').click();
  await expect.poll(() => last(page, 'set_policy')).toMatchObject({ pin: ['wwan0'], fallback: false });
  await page.getByTestId('never-wlan0').click();
  await expect.poll(() => last(page, 'set_excluded')).toEqual({ name: 'wlan0', excluded: true });
});

test('several paths at once are chosen with the keyboard, with what belongs to them', async ({ page }) => {
  await open(page, 'preference');
  await page.getByTestId('pref-mode-one').focus();
  await page.keyboard.press('ArrowDown');
  await expect.poll(() => last(page, 'set_policy')).toEqual({ peer: null, mode: 'redundant', pin: [], fallback: true, small: false, metered: false });
  await page.getByTestId('pref-small').focus();
  await page.keyboard.press('Space');
  await expect.poll(() => last(page, 'set_policy')).toMatchObject({ mode: 'redundant', small: true, metered: false });
  await page.getByTestId('pref-metered').click();
  await expect.poll(() => last(page, 'set_policy')).toMatchObject({ mode: 'redundant', small: true, metered: true });
  await page.getByTestId('pref-mode-bonded').click();
  await expect.poll(() => last(page, 'set_policy')).toMatchObject({ mode: 'bonded', small: false, metered: true });
  await expect(page.getByTestId('pref-small')).toHaveCount(0);
  await page.getByTestId('pref-mode-one').click();
  await expect.poll(() => last(page, 'set_policy')).toMatchObject({ mode: 'auto', small: false, metered: false });
});

test('who cannot use several paths is named', async ({ page }) => {
  await open(page, 'preference-redundant');
  await expect(page.getByTestId('pref-mode-redundant')).toBeChecked();
  await expect(page.getByTestId('pref-small')).toBeChecked();
  await expect(page.getByTestId('pref-unable')).toContainText('office');
  await page.getByTestId('pref-scope').selectOption('office');
  await expect(page.getByTestId('pref-modes')).toHaveCount(0);
});

test('a peer is given a mode of its own', async ({ page }) => {
  await open(page, 'peers');
  await page.getByTestId('mode-home').selectOption('redundant');
  await expect.poll(() => last(page, 'set_policy')).toMatchObject({ peer: 'home', mode: 'redundant', pin: [], small: false });
});

test('the switch turns MAST off', async ({ page }) => {
  await open(page, 'now');
  await page.getByTestId('toggle').click();
  await expect.poll(() => calls(page)).toContainEqual({ command: 'down', args: {} });
});

test('every section is reached by keyboard alone, with the focus in sight', async ({ page }) => {
  await open(page, 'now');
  for (let i = 0; i < 40; i += 1) {
    await page.keyboard.press('Tab');
    const here = await page.evaluate(() => {
      const e = document.activeElement as HTMLElement;
      const style = getComputedStyle(e);
      const seen = style.outlineStyle !== 'none' || style.boxShadow !== 'none';
      return { id: e.dataset['testid'] ?? '', tag: e.tagName, seen };
    });
    expect(here.seen || here.tag === 'BODY', `no focus to be seen on ${here.tag} ${here.id}`).toBe(true);
    if (here.id === 'nav-settings') {
      await page.keyboard.press('Enter');
      await expect(page.getByTestId('key-place')).toBeVisible();
      return;
    }
  }
  throw new Error('Settings is not reached');
});

test('hostile names stay text', async ({ page }) => {
  for (const scene of ['names-now', 'names-interfaces', 'names-peers', 'names-story', 'names-preference']) {
    await open(page, scene);
    expect(await page.locator('main img, main script, main iframe').count(), scene).toBe(0);
    expect(await page.evaluate(() => window.alerted)).toBe(false);
  }
});

test('at 200 % nothing is lost', async ({ page }) => {
  // Twice as large in the same window is half the window.
  await page.setViewportSize({ width: 550, height: 380 });
  for (const scene of ['now', 'interfaces', 'preference', 'peers', 'story', 'data', 'settings']) {
    await open(page, scene);
    await layout(page);
  }
});

test('what happens is shown as it is told, and the story is not asked for again', async ({ page }) => {
  await open(page, 'story');
  const rows = page.getByTestId('story-event');
  await expect(rows.first()).toContainText('no longer best');
  const event = { time: '2026-11-24T12:03:59Z', peer: 'home', code: 'silent', from: 'wlan0', to: 'wlan0', reason: 'went silent', sentence: 'Wi-Fi ‘Train’ (IPv6) went silent → Wi-Fi ‘Train’ (IPv4) in 88 ms', gap_ms: 88, from_path: { remote: '[2001:db8::7]:6278' }, to_path: { remote: '203.0.113.7:6278' } };
  await page.evaluate((e) => window.emit('events', [e]), event);
  await expect(rows.first()).toContainText('IPv6');
  await expect(rows.first()).toContainText('88 ms');
  await expect(rows).toHaveCount(7);
  expect((await calls(page)).filter((c) => c.command === 'story')).toHaveLength(1);
});

test('the paths of one link stand together, each with its version of IP and its near end', async ({ page }) => {
  await open(page, 'peers-dual');
  const rows = page.locator('tbody tr');
  await expect(rows).toHaveCount(4);
  const column = (n: number): Promise<string[]> => page.locator(`tbody tr > :nth-child(${n})`).allTextContents();
  expect((await column(2)).join(' ')).toBe('IPv4 IPv6 IPv4 IPv6');
  expect((await column(9))[1]).toContain('2001:db8:1::20');
  const links = (await column(1)).map((name) => name.replace(/[\u2066-\u2069]/g, ''));
  expect([links[0] === links[1], links[2] === links[3], links[0] === links[2]]).toEqual([true, true, false]);
});

test('a service that is gone and back is shown as such', async ({ page }) => {
  await open(page, 'now');
  await page.evaluate(() => {
    const s = structuredClone(window.script.snapshot);
    s.service.state = 'lost';
    s.service.detail = 'The service stopped.';
    s.status = null;
    s.now = { light: 'bad', layer: 'service', sentence: 'The service stopped.', detail: '' };
    window.emit('snapshot', s);
  });
  await expect(page.getByText('The service stopped.').first()).toBeVisible();
  await page.evaluate(() => window.emit('snapshot', window.script.snapshot));
  await expect(page.getByTestId('now-light')).toHaveAttribute('data-light', 'good');
});

test('a layer that nobody checked has no tick, and each has what it is known by', async ({ page }) => {
  await open(page, 'fails-peer');
  const layer = (name: string) => page.getByTestId('now-layers').locator(`[data-layer="${name}"]`);
  await expect(layer('link')).toHaveAttribute('data-state', 'ok');
  await expect(layer('nat')).toHaveAttribute('data-state', 'unknown');
  await expect(layer('nat').locator('svg, time')).toHaveCount(0);
  await expect(layer('peer')).toHaveAttribute('data-state', 'bad');
  await expect(layer('peer')).toContainText('does not answer');
  await expect(layer('link').locator('time')).toBeVisible();
  // What cannot occur is not drawn: no peer has a name here.
  await open(page, 'now');
  await page.getByTestId('now-layers').locator('summary').click();
  await expect(layer('link')).toBeVisible();
  await expect(layer('dns')).toHaveCount(0);
});

test('a choice for all names who keeps their own, and one for them can be given up', async ({ page }) => {
  await open(page, 'preference-own');
  await expect(page.locator('main')).toContainText('keeps it, and does not follow this one');
  await page.getByTestId('pin-wwan0').click();
  await expect.poll(() => last(page, 'set_policy')).toMatchObject({ peer: null, pin: ['wwan0'] });
  await expect(page.getByTestId('pref-effect')).toContainText('Took effect');
  await page.getByTestId('pref-scope').selectOption('office');
  await page.getByRole('button', { name: 'Follow all peers' }).click();
  await expect.poll(() => last(page, 'clear_policy')).toEqual({ peer: 'office' });
});

test('who takes part in a mode is named, with who does not and why', async ({ page }) => {
  await open(page, 'preference-redundant');
  const parts = page.getByTestId('pref-parts');
  await expect(parts).toContainText('carries');
  await expect(parts).toContainText('metered');
  await expect(parts).toContainText('no link or no address');
});

test('how fit a path is stands beside it, with what is wrong', async ({ page }) => {
  await open(page, 'now-strained');
  await expect(page.getByTestId('fitness-home')).toContainText('strained: loses 5 %, 180 ms slower than it can be');
  await open(page, 'now-fading');
  await expect(page.getByTestId('uplinks-home')).toContainText('loses or delays too much');
  await expect(page.locator('main')).toContainText('before it broke');
});

test('off, paused and in part look different', async ({ page }) => {
  for (const [scene, light] of [['down', 'off'], ['paused', 'paused'], ['now-partial', 'partial'], ['now', 'good']] as const) {
    await open(page, scene);
    await expect(page.getByTestId('now-light')).toHaveAttribute('data-light', light);
  }
});

test('there is no control without effect', async ({ page }) => {
  await open(page, 'settings');
  await expect(page.getByText('Language')).toHaveCount(0);
  await open(page, 'add');
  await expect(page.getByText('camera', { exact: false })).toHaveCount(0);
});

test('an account is logged in and out, and what is wrong with it is said at its field', async ({ page }) => {
  await open(page, 'settings');
  const section = page.getByTestId('presence');
  await section.getByLabel('Account').fill(' alice@example.org ');
  await section.getByLabel('Password').fill('hush');
  await page.evaluate(() => {
    window.script.answers['presence_login'] = { account: 'alice@example.org', server: null, state: 'working', why: null, remedy: null, peers: [{ peer: 'home', account: 'alice@example.org', assumed: true }] };
  });
  await section.getByRole('button', { name: 'Log in' }).click();
  await expect.poll(() => last(page, 'presence_login')).toEqual({ account: 'alice@example.org', password: 'hush', server: null });
  await expect(page.getByTestId('presence-state')).toContainText(/Peers find this computer by .alice@example\.org/);
  await expect(section).toContainText(/Nobody said which account .home. has/);
  await page.evaluate(() => {
    window.script.answers['presence_logout'] = { account: null, server: null, state: 'off', why: null, remedy: null, peers: [] };
    window.script.refusals['presence_login'] = { message: 'an account has to be like alice@example.org', field: 'account' };
  });
  await section.getByRole('button', { name: 'Log out' }).click();
  await expect(section.getByLabel('Password')).toHaveValue('');
  await section.getByLabel('Account').fill('alice');
  await section.getByLabel('Password').fill('hush');
  await section.getByRole('button', { name: 'Log in' }).click();
  await expect(section.getByLabel('Account')).toHaveAttribute('aria-invalid', 'true');
  await expect(section.getByRole('alert')).toContainText('has to be like alice@example.org');
});

test('where the tray icon is not seen, it is said how to get it', async ({ page }) => {
  await open(page, 'no-tray');
  await expect(page.getByTestId('banner-tray')).toContainText('AppIndicator');
  await open(page, 'now');
  await expect(page.getByTestId('banner-tray')).toHaveCount(0);
});

test('the local network is a matter of leak protection', async ({ page }) => {
  await open(page, 'settings');
  await expect(page.getByTestId('setting-local')).toHaveCount(0);
  await open(page, 'settings-protected');
  const local = page.getByRole('switch', { name: 'Allow the local network' });
  await expect(local).toHaveAttribute('aria-checked', 'true');
  await local.focus();
  await page.keyboard.press('Space');
  await expect.poll(() => last(page, 'set_local_network')).toEqual({ on: false });
});

test('a peer is told what the user chooses, and what that takes is said', async ({ page }) => {
  await open(page, 'peers');
  const told = page.getByTestId('told-home');
  await expect(told).toHaveAccessibleDescription(/takes a relay/);
  await told.selectOption('public-only');
  await expect.poll(() => last(page, 'set_addresses')).toEqual({ name: 'home', addresses: 'public-only' });
  await page.getByTestId('own-home').focus();
  await page.keyboard.press('Space');
  await expect.poll(() => last(page, 'set_own')).toEqual({ name: 'home', on: true });
});

test('an invite is revoked with the keyboard, and only one that is open', async ({ page }) => {
  await open(page, 'invite');
  const list = page.getByTestId('invites');
  await expect(list.getByRole('listitem')).toHaveCount(3);
  await expect(list.getByRole('button')).toHaveCount(1);
  const revoke = page.getByTestId('revoke-00c0ffee');
  await expect(revoke).toHaveAccessibleName(/Revoke the invite of .*tablet/);
  await revoke.focus();
  await page.keyboard.press('Enter');
  await expect.poll(() => last(page, 'revoke_invite')).toEqual({ id: '00c0ffee' });
  await expect(page.getByTestId('invite-00c0ffee')).toHaveAttribute('data-state', 'revoked');
  await expect(list.getByRole('button')).toHaveCount(0);
  await expect(list.getByRole('status')).toContainText(/tablet.*revoked/);
  await expect(list.getByRole('heading')).toBeFocused();
});

test('an invite that the app was started with is shown, and not accepted', async ({ page }) => {
  await open(page, 'add');
  await expect(page.getByTestId('add-link')).toHaveValue('');
  await page.evaluate(() => {
    window.script.answers['offered_link'] = 'mast://1/offered';
    window.emit('show', 'add');
  });
  await expect(page.getByTestId('add-link')).toHaveValue('mast://1/offered');
  expect((await calls(page)).some((c) => c.command === 'add_link')).toBe(false);
});
