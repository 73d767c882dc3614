import { defineConfig } from '@playwright/test';

// The built page in a real browser, against a scripted service. `npm run browser` runs all, `npm run pictures` takes
// the pictures of record anew. Pictures are always taken and the facts of their layout checked; they are compared
// with those of record only with MAST_PICTURES=compare, because another machine has other fonts.

// Workers read this file too, and shall find the same port.
const port = (process.env['MAST_PAGE_PORT'] ??= String(20_000 + (process.pid % 20_000)));
export default defineConfig({
  testDir: 'tests',
  snapshotPathTemplate: 'tests/pictures/{arg}{ext}',
  outputDir: 'test-results',
  fullyParallel: true,
  workers: 2,
  retries: 0,
  forbidOnly: true,
  timeout: 30_000,
  reporter: [['line']],
  use: {
    baseURL: `http://127.0.0.1:${port}`,
    viewport: { width: 1100, height: 760 },
    timezoneId: 'UTC',
    locale: 'en-GB',
    contextOptions: { reducedMotion: 'reduce' },
    launchOptions: {
      executablePath: process.env['CHROMIUM'] ?? '/usr/bin/chromium',
      args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--no-first-run'],
    },
  },
  webServer: { command: `npx vite preview --port ${port}`, url: `http://127.0.0.1:${port}`, reuseExistingServer: false },
});
