import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { HostDrain } from '../../src/drain/host-drain.js';
import { createApp } from '../../src/manager/http/app.js';
import { createPage } from '../../src/manager/http/page.js';
import { serve } from '../../src/manager/http/serve.js';
import type { Status } from '../../src/status/status.js';
import { type Answer, ask } from '../support/ask.js';
import { createFakeClock, createFakeLog } from '../unit/fakes.js';
import { HOSTILE, makeDrain, makeStatus } from '../unit/page-states.js';

const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/** Asks the page's server; the status behind it is made up. */
type Ask = (
  path: string,
  how?: { method?: string; headers?: Record<string, string> },
) => Promise<Answer>;

async function withPage(status: Status, use: (ask: Ask) => Promise<void>): Promise<void> {
  const { log } = createFakeLog();
  const clock = createFakeClock();
  const history = [
    { atMs: clock.nowMs() - 2_000, open: 40 },
    { atMs: clock.nowMs() - 1_000, open: 12 },
  ];
  const entries = [
    { id: 'a-1', at: '2026-11-24T14:02:50.000Z', kind: 'drain' as const, text: HOSTILE },
  ];
  const server = await serve({
    listener: createApp({
      config: { shutdownToken: undefined, shutdownTokenFile: undefined },
      hostDrain: {} as HostDrain,
      health: { unhealthy: () => undefined, unready: async () => undefined },
      readStatus: async () => status,
      scrape: () => Promise.reject(new Error('not asked for')),
      events: { handler: (_request, response) => void response.end() },
      page: createPage({
        status: { read: async () => status, peek: async () => status, history: () => history },
        journal: { entries: () => entries },
        host: 'edge-7',
        clock,
      }),
      log,
    }),
    address: '127.0.0.1',
    port: 0,
    isHeldByManager: () => false,
    log,
  });
  try {
    await use((path, how) => ask({ port: server.port, path, ...how }));
  } finally {
    await server.close();
  }
}

/** Addresses that a file asks the browser to load. */
function addressesIn(text: string, base: string): string[] {
  const found = [...text.matchAll(/(?:src|href)="([^"]+)"|^import .* from '([^']+)'/gm)];
  return found
    .map(([, attribute, module]) => new URL(attribute ?? module ?? '', `http://x${base}`))
    .map(({ pathname }) => pathname)
    .filter((path) => path.startsWith('/page/'));
}

/** The page and everything that it loads, by address. */
async function loadAll(ask: Ask): Promise<Map<string, Answer>> {
  const loaded = new Map<string, Answer>();
  const waiting = ['/'];
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    if (loaded.has(path)) continue;
    const answer = await ask(path);
    loaded.set(path, answer);
    waiting.push(...addressesIn(answer.body, path));
  }
  return loaded;
}

describe('GET /', () => {
  it('is a page that may load what is its own, and nothing else', () =>
    withPage(makeDrain(), async (ask) => {
      const { status, headers, body } = await ask('/');
      assert.equal(status, 200);
      assert.equal(headers['content-type'], 'text/html; charset=utf-8');
      assert.equal(headers['content-security-policy'], POLICY);
      assert.equal(headers['x-frame-options'], 'DENY');
      assert.equal(headers['cache-control'], 'no-store');
      assert.match(body, /^<!doctype html>\n<html lang="en">/);
      assert.match(body, /<h2 class="busy">Draining: waiting for open connections<\/h2>/);
      assert.match(body, /aria-label="Open connections in the last [^"]*: 40 at first/);
    }));

  it('has text from elsewhere as text only', () =>
    withPage(makeDrain({ lastError: HOSTILE }), async (ask) => {
      const { body } = await ask('/');
      assert.doesNotMatch(body, /<img/);
      assert.equal(body.split('</script>').length, 2);
      assert.ok(body.split('&lt;/script&gt;').length > 2);
    }));

  it('loads files that are there, with their types', () =>
    withPage(makeDrain(), async (ask) => {
      const loaded = await loadAll(ask);
      const types = [...loaded].map(([path, { status, headers }]) => {
        assert.equal(status, 200, path);
        assert.equal(headers['x-content-type-options'], 'nosniff');
        assert.equal(headers['cross-origin-resource-policy'], 'same-origin');
        return `${path.split('.').at(-1)} ${headers['content-type']}`;
      });
      assert.deepEqual(
        new Set(types),
        new Set([
          '/ text/html; charset=utf-8',
          'js text/javascript; charset=utf-8',
          'css text/css; charset=utf-8',
          'svg image/svg+xml; charset=utf-8',
        ]),
      );
    }));

  it('is small: page, script and style are under 38 kB', () =>
    withPage(makeStatus(), async (ask) => {
      const loaded = await loadAll(ask);
      loaded.delete('/page/icon.svg');
      const sizes = [...loaded.values()].map(({ body }) => Buffer.byteLength(body));
      const bytes = sizes.reduce((sum, size) => sum + size, 0);
      assert.ok(bytes < 38_000, `${bytes} bytes`);
      assert.doesNotMatch(loaded.get('/page/main.js')?.body ?? '', /\/\*\*|sourceMappingURL/);
    }));

  it("serves one script to the browser, and none of the server's own", () =>
    withPage(makeDrain(), async (ask) => {
      const served = [...(await loadAll(ask)).keys()].filter((path) => path.endsWith('.js'));
      assert.deepEqual(served, ['/page/main.js']);
      assert.doesNotMatch((await ask('/page/main.js')).body, /^import /m);
      assert.equal((await ask('/page/document.js')).status, 404);
    }));

  it('answers HEAD as GET, without the body', () =>
    withPage(makeDrain(), async (ask) => {
      for (const path of ['/', '/page/main.js']) {
        const [head, get] = [await ask(path, { method: 'HEAD' }), await ask(path)];
        assert.equal(head.status, 200);
        assert.equal(head.body, '');
        assert.equal(head.headers['content-type'], get.headers['content-type']);
        assert.equal(
          head.headers['content-security-policy'],
          get.headers['content-security-policy'],
        );
      }
    }));

  it('is for those who are trusted, and so are its files', () =>
    withPage(makeDrain(), async (ask) => {
      for (const path of ['/', '/page/main.js', '/page/page.css', '/page/nothing']) {
        for (const headers of [
          { 'x-forwarded-for': '10.0.0.9' },
          { host: 'attacker.example' },
          { 'sec-fetch-site': 'cross-site' },
        ]) {
          const refused = await ask(path, { headers });
          assert.equal(refused.status, 403, path);
          assert.equal(JSON.parse(refused.body).error.code, 'refused');
          assert.equal(
            refused.headers['content-security-policy'],
            "default-src 'none';base-uri 'none';frame-ancestors 'none'",
          );
        }
      }
    }));

  it('opens on any loopback name and port, as through ssh -L', () =>
    withPage(makeDrain(), async (ask) => {
      const navigation = {
        'sec-fetch-site': 'none',
        'sec-fetch-mode': 'navigate',
        'user-agent': 'Mozilla/5.0',
      };
      for (const host of ['localhost:9000', '127.0.0.1:9000', '[::1]:9000']) {
        assert.equal((await ask('/', { headers: { ...navigation, host } })).status, 200, host);
      }
    }));

  it('allows no other method', () =>
    withPage(makeDrain(), async (ask) => {
      for (const path of ['/', '/page/main.js']) {
        for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
          const { status, headers } = await ask(path, { method });
          assert.deepEqual([status, headers['allow']], [405, 'GET, HEAD']);
        }
      }
    }));

  it('gives no other file, and all other answers keep their policy', () =>
    withPage(makeDrain(), async (ask) => {
      for (const path of [
        '/page/__proto__',
        '/page/..%2f..%2fpackage.json',
        '/page/main.js.map',
        '/page/',
        '/page',
        '/page/main.js/x',
      ]) {
        const { status, headers, body } = await ask(path);
        assert.equal(status, 404, path);
        assert.match(
          headers['content-security-policy'] ?? '',
          /^default-src 'none';base-uri 'none'/,
        );
        assert.match(JSON.parse(body).error.message, /there are \/, \/healthz/);
      }
      const { headers } = await ask('/page/main.js');
      assert.match(headers['content-security-policy'] ?? '', /^default-src 'none';base-uri/);
    }));
});
