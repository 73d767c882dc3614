import { expect, test } from '@playwright/test';
import { accessible, layout } from './facts';
import { NARROW, SCENES } from './scenes/all';
import { open } from './service';

const COMPARE = process.env['MAST_PICTURES'] === 'compare';
const WHERE = process.env['MAST_PICTURES'] === 'take' ? 'tests/pictures' : 'test-results/pictures';

for (const theme of ['light', 'dark'] as const) {
  for (const name of Object.keys(SCENES)) {
    for (const size of NARROW.includes(name) ? ['wide', 'narrow'] : ['wide']) {
      test(`${name}, ${theme}, ${size}`, async ({ page }) => {
        if (size === 'narrow') await page.setViewportSize({ width: 360, height: 740 });
        await page.emulateMedia({ colorScheme: theme, reducedMotion: 'reduce' });
        const wrong: string[] = [];
        page.on('pageerror', (e) => wrong.push(e.message));
        page.on('console', (m) => m.type() === 'error' && wrong.push(m.text()));
        await open(page, name);
        await layout(page);
        const file = `${name}-${theme}${size === 'narrow' ? '-360' : ''}.png`;
        const options = { animations: 'disabled', caret: 'hide' } as const;
        if (COMPARE) await expect(page).toHaveScreenshot(file, { ...options, maxDiffPixelRatio: 0.02 });
        else await page.screenshot({ ...options, path: `${WHERE}/${file}` });
        await accessible(page);
        expect(await page.evaluate(() => window.alerted)).toBe(false);
        expect(wrong).toEqual([]);
      });
    }
  }
}
