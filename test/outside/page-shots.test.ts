import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join, resolve } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { Browser } from 'playwright-core';
import { renderDocument } from '../../src/manager/page/document.js';
import type { Span } from '../../src/manager/page/state.js';
import type { Status } from '../../src/status/status.js';
import { startBrowser } from '../support/browser.js';
import { makeFolder } from '../support/folder.js';
import { withPage } from '../support/page.js';
import {
  makeDrain,
  makeGeneration,
  makeSnapshot,
  makeStatus,
  NOW_MS,
} from '../unit/page-states.js';

const STYLE = readFileSync(resolve(import.meta.dirname, '../../assets/page.css'), 'utf8');
const LONG = 'listener_manager_for_the_edge_of_europe_west_https_with_a_long_name';
const { envoy, settings, connections } = makeStatus();
const byListener = { [LONG]: 7, 'public_10.0.0.1_443': 4, edge_http: 1 };
const PEERS = [1, 2, 3, 4].map((at) => ({
  peer: `10.20.130.${at < 3 ? 7 : at}:5123${at}`,
  local: '10.20.130.140:10443',
  generation: at % 2 === 0 ? 2 : 3,
  seenForMs: 400_000 / at,
}));
const busy = { connections: connections && { ...connections, byListener }, oldestPeers: PEERS };
const old = makeGeneration({
  number: 2,
  state: 'handing-over',
  connections: 4,
  deadline: '2026-11-24T14:07:50.000Z',
  paceLeftMs: 42_000,
});
const by = { startedBy: { kind: 'cli', detail: 'root' } } as const;

/** Each state that an operator may find the page in. */
const STATES: Readonly<Record<string, Status>> = {
  idle: makeStatus(busy),
  delay: makeDrain({
    ...{ ...busy, ...by, phase: 'delay', paceLeftMs: null },
    ...{ listenersCloseAt: '2026-11-24T14:03:28.000Z', checkDelayMs: 8_000 },
    generations: [makeGeneration({ state: 'draining' })],
  }),
  wait: makeDrain({ ...busy, ...by, generations: [makeGeneration({ state: 'draining' })] }),
  'wait-for-requests': makeDrain({
    ...{ ...busy, ...by, holding: 1 },
    settings: { ...settings, drainUntil: 'requests' },
  }),
  'hand-over': makeStatus({ ...busy, generations: [old, makeGeneration()] }),
  drained: makeDrain({
    ...{ ...by, phase: 'finish', outcome: 'drained', durationMs: 12_300, connectionsLeft: 0 },
    ...{ deadline: null, timeLeftMs: null, paceLeftMs: null },
    connections: { open: 0, byListener: { edge_http: 0 }, byKind: { ...NONE() } },
    ...{ oldestPeers: [], generations: [makeGeneration({ state: 'drained', connections: 0 })] },
  }),
  hung: makeStatus({
    envoy: envoy && {
      ...envoy,
      ...{ state: null, silentSince: '2026-11-24T14:01:20.000Z', version: null },
      ...{ uptimeSeconds: null, concurrency: null },
    },
    ...{ connections: null, activeRequests: null, newConnectionsPerSecond: null, lastPoll: null },
    ...{ oldestPeers: null, oldestPeersNote: 'Envoy does not answer' },
    lastError: 'GET /ready on unix:/run/pm2-envoy/generations/3/admin.sock: no answer within 2 s',
  }),
  'no-envoy': makeStatus(gone()),
  'does-not-start': makeStatus({
    ...gone(),
    failedStart: {
      at: '2026-11-24T14:03:10.000Z',
      since: '2026-11-24T13:58:00.000Z',
      count: 23,
      reason:
        "Envoy exited with code 1 before it was LIVE: error adding listener '0.0.0.0:10000': cannot bind '0.0.0.0:10000': Address already in use",
    },
  }),
};

function NONE() {
  return { http1: 0, http2: 0, http3: 0, tcp: 0, websocket: 0, udp: 0 };
}

function gone(): Partial<Status> {
  return {
    ...{ envoy: null, generations: [], connections: null, activeRequests: null },
    ...{ newConnectionsPerSecond: null, oldestPeers: [], lastPoll: null },
  };
}

/** With a time at which no one was looking. */
const SPANS: Span[] = [
  [NOW_MS - 55_000, NOW_MS - 40_000, 40],
  [NOW_MS - 30_000, NOW_MS - 22_000, 31],
  [NOW_MS - 22_000, NOW_MS - 12_000, 18],
  [NOW_MS - 12_000, NOW_MS, 12],
];
const LOG = [
  [
    'drain',
    'a drain has started by `pm2-envoy shutdown` of user root: Envoy fails its health check',
  ],
  ['drain', 'listeners closed, 21 connections open'],
  ['generation', 'generation 3 is serving (Envoy 1.40.0)'],
  ['fault', 'a reload failed: Envoy refuses the bootstrap file /etc/pm2-envoy/envoy.yaml'],
].map(([kind, text], at) => ({
  ...{ id: String(at), at: new Date(NOW_MS - 50_000 + at * 9_000).toISOString() },
  ...{ kind: kind as 'drain', text: text ?? '' },
}));

const VIEWS = {
  desktop: { viewport: { width: 1440, height: 900 }, colorScheme: 'light', isChecked: false },
  dark: { viewport: { width: 1440, height: 900 }, colorScheme: 'dark', isChecked: true },
  phone: { viewport: { width: 360, height: 800 }, colorScheme: 'light', isChecked: true },
} as const;

/** Set PAGE_SHOTS to a folder to look at them. */
describe('the page in each state, as it looks', { concurrency: 2 }, () => {
  const scratch = makeFolder();
  const folder = process.env['PAGE_SHOTS'] ?? scratch.path;
  mkdirSync(folder, { recursive: true });
  let browser: Browser;
  let url = '';
  const server = createServer((request, response) => {
    const name = (request.url ?? '').slice(1);
    const status = STATES[name];
    if (request.url === '/page/page.css') response.setHeader('content-type', 'text/css').end(STYLE);
    else if (status) {
      const snapshot = makeSnapshot({ host: 'edge-7.europe-west.example', spans: SPANS, log: LOG });
      response.setHeader('content-type', 'text/html').end(renderDocument(snapshot, status));
    } else response.writeHead(204).end();
  });
  before(async () => {
    browser = await startBrowser();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  after(async () => {
    await browser?.close();
    server.closeAllConnections();
    server.close();
    scratch.remove();
  });

  for (const name of Object.keys(STATES)) {
    it(`${name}: nothing is cut off, and no one kept out`, () =>
      withPage(
        browser,
        // Its script is not there: what it was made as stays.
        { url: `${url}/${name}`, expected: /Failed to load module script/ },
        async ({ page, barriers }) => {
          for (const [view, { viewport, colorScheme, isChecked }] of Object.entries(VIEWS)) {
            await page.setViewportSize(viewport);
            await page.emulateMedia({ colorScheme });
            await page.screenshot({ path: join(folder, `${name}-${view}.png`), fullPage: true });
            const { wide, clipped, empty } = await page.evaluate(measure);
            assert.equal(wide, viewport.width, `${view}: the page is no wider than the window`);
            assert.deepEqual(clipped, [], view);
            assert.ok(empty < 60, `${view}: ${empty} px are empty below the chart`);
            if (isChecked) assert.deepEqual(await barriers(), [], view);
          }
        },
      ));
  }
});

/** In the browser, where no function of this file is known. */
function measure(): { wide: number; clipped: string[]; empty: number } {
  const [outer, inner] = ['section.chart', '#chart > :last-child'].map(
    (selector) => document.querySelector(selector)?.getBoundingClientRect().bottom ?? 0,
  );
  return {
    wide: document.documentElement.scrollWidth,
    clipped: [...document.querySelectorAll('.scroll:not(#log)')]
      .filter((one) => one.scrollWidth > one.clientWidth)
      .map((one) => `${one.id}: ${one.scrollWidth} in ${one.clientWidth}`),
    empty: (outer ?? 0) - (inner ?? 0),
  };
}
