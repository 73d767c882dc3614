import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

// What the app's window allows, so that the tests run under the same rules.
const csp =
  "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; script-src 'self'; " +
  'connect-src ipc: http://ipc.localhost';

export default defineConfig({
  plugins: [svelte()],
  build: { target: ['safari15', 'chrome105'], assetsInlineLimit: 0, modulePreload: false },
  preview: { port: 4183, strictPort: true, host: '127.0.0.1', headers: { 'Content-Security-Policy': csp } },
  resolve: process.env['VITEST'] ? { conditions: ['browser'] } : {},
  test: { environment: 'jsdom', include: ['src/**/*.test.ts'], restoreMocks: true, env: { TZ: 'UTC' } },
});
