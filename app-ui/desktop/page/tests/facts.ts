// What must be so on every page, whatever the fonts.

import AxeBuilder from '@axe-core/playwright';
import { expect, type Page } from '@playwright/test';

/** Nothing is wider than the window, nothing that is pressed or read lies on another such thing. */
export async function layout(page: Page): Promise<void> {
  const wide = await page.evaluate(() => {
    const w = document.documentElement.clientWidth;
    const boxes = [document.documentElement, ...document.querySelectorAll('main, nav')];
    if (boxes.some((b) => b.scrollWidth > b.clientWidth + 1)) {
      const bad = [...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > w + 1 && !e.closest('.scroll-x, .hidden-text'));
      return bad.slice(0, 5).map((e) => `${e.tagName}.${e.getAttribute('class')} ${e.textContent?.slice(0, 30)}`).concat('the page');
    }
    return [];
  });
  expect(wide, 'wider than the window').toEqual([]);
  const laps = await page.evaluate(() => {
    const parts = [...document.querySelectorAll<HTMLElement>('main button, main select, main input:not(.hidden-text), main textarea, main h1:not(.hidden-text), main h2, main .tag')]
      .filter((e) => e.checkVisibility() && e.getBoundingClientRect().width > 1);
    const out: string[] = [];
    parts.forEach((a, i) => {
      const r = a.getBoundingClientRect();
      for (const b of parts.slice(i + 1)) {
        if (a.contains(b) || b.contains(a)) continue;
        const s = b.getBoundingClientRect();
        const x = Math.min(r.right, s.right) - Math.max(r.left, s.left);
        const y = Math.min(r.bottom, s.bottom) - Math.max(r.top, s.top);
        if (x > 1 && y > 1) out.push(`${a.tagName} ${a.textContent?.slice(0, 20)} / ${b.tagName} ${b.textContent?.slice(0, 20)}`);
      }
    });
    return out.slice(0, 5);
  });
  expect(laps, 'on one another').toEqual([]);
}

export async function accessible(page: Page): Promise<void> {
  const found = await new AxeBuilder({ page }).withTags(['wcag2a', 'wcag2aa', 'wcag21aa', 'best-practice']).analyze();
  const told = found.violations.map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => n.target.join(' ')).join(' | ')}`);
  expect(told).toEqual([]);
}
