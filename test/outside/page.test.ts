import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Browser } from 'playwright-core';
import { cluster, listener, tcpTo } from '../support/bootstrap.js';
import { startBrowser } from '../support/browser.js';
import { holdIdle, holdTcp, holdWebSocket } from '../support/clients.js';
import { dial } from '../support/dial.js';
import { withEnvoy } from '../support/envoy.js';
import { startForwarder } from '../support/forwarder.js';
import { withHeldDelay } from '../support/held-delay.js';
import { withManager } from '../support/manager.js';
import { type OpenedPage, withPage } from '../support/page.js';
import { type TestPm2, withPm2 } from '../support/pm2.js';
import { freePorts } from '../support/ports.js';
import { eventually } from '../support/wait.js';

const urlOf = ({ ports }: TestPm2): string => `http://127.0.0.1:${ports.serve}/`;
const lineOf = async ({ page }: OpenedPage): Promise<string> =>
  (await page.getAttribute('#chart .line >> nth=-1', 'd')) ?? '';
/** What the browser logs of requests to a manager that is away. */
const AWAY = /net::ERR_(CONNECTION_|INCOMPLETE_CHUNKED|EMPTY_RESPONSE|SOCKET_)/;

describe('the page in a real browser', () => {
  let browser: Browser;
  before(async () => {
    browser = await startBrowser();
  });
  after(() => browser?.close());

  it('shows an Envoy in service, and a drain from its beginning to its end', () =>
    withHeldDelay((pm2, endDelay) =>
      withPage(browser, { url: urlOf(pm2) }, async (opened) => {
        const { page, reads, press, focused } = opened;
        await reads('#headline', /^In service/);
        await reads('#link', /^live last heard \ds ago$/);
        const held = [
          await holdTcp(pm2.ports.tcp),
          await holdIdle(pm2.ports.http),
          await holdWebSocket(pm2.ports.http),
        ];
        await reads('#facts', /Open connections\s+3 now/);
        await reads(
          '#listeners',
          new RegExp(
            `127\\.0\\.0\\.1_${pm2.ports.http}\\s+2\\s+127\\.0\\.0\\.1_${pm2.ports.tcp}\\s+1`,
          ),
        );
        await reads('#kinds', /HTTP\/1\s+1[\s\S]*TCP\s+1\s+WebSocket\s+1/);
        const peer = new RegExp(
          `127\\.0\\.0\\.1:\\d+\\s+127\\.0\\.0\\.1:${pm2.ports.tcp}\\s+\\d+s`,
        );
        await reads('#peers', peer);
        await reads('#generations', /1\s+serving\s+3\s+1\.40\.0/);
        await reads('#envoy', /State\s+LIVE\s+Version\s+1\.40\.0[\s\S]*Workers\s+2/);

        // By the keyboard alone: the question, no, and then yes.
        await opened.tabTo('shutdown');
        await press('Enter');
        await reads(
          '#confirm',
          /Drain Envoy on .*\?[\s\S]*Open connections: 3\.[\s\S]*You can cancel for 2s/,
        );
        assert.equal(await focused(), 'confirm-no');
        await press('Escape');
        assert.equal(await page.isVisible('#confirm'), false);
        assert.equal(await focused(), 'shutdown', 'the focus is where it was');
        assert.equal((await pm2.http('GET', '/readyz')).status, 200);
        await press('Enter', 'Tab', 'Enter');

        await reads('#headline', /^Draining: waiting for load balancers/);
        await reads('#steps [aria-current]', /^delay/);
        await reads('#facts', /Time left\s+\S+ until \d\d:\d\d:\d\d/);
        assert.equal(await focused(), 'shutdown', 'the focus has stayed');
        assert.equal(await opened.isPressable('shutdown'), false);
        endDelay();
        await reads('#headline', /^Draining: waiting for open connections/);
        await reads('#chart', /drain begins\s*listeners closed/);
        await reads('#log', /listeners closed/);
        const before = await lineOf(opened);
        held.pop()?.close();
        await reads('#facts', /Open connections\s+2 of 3 at the start/);
        await eventually('the chart to move on', async () => (await lineOf(opened)) !== before);
        assert.equal(await opened.isPressable('resume'), false);
        assert.match(await reads('#resume-why', /./), /too late.*pm2-envoy redeploy/);

        for (const one of held) one.close();
        await reads('#headline', /^Drained/);
        await reads('#answer', /The drain ended: drained after \S+, 0 connections left\.$/);
        await reads('#steps', /finish\s+drained/);
        await reads('#facts', /Drain took\s+\S+s[\s\S]*Left at its end\s+0/);
        assert.match(await page.title(), /^drained, 0 open · /);
      }),
    ));

  it('cancels a drain, through a forwarded port too (ssh -L)', () =>
    withPm2({ 'check-delay': '1m', 'drain-timeout': '2m' }, async (pm2) => {
      const forwarder = await startForwarder(pm2.ports.serve);
      const url = `http://localhost:${forwarder.port}/`;
      await withPage(browser, { url }, async (opened) => {
        const { reads, press } = opened;
        const answer = pm2.http('POST', '/shutdown');
        await reads('#headline', /^Draining: waiting for load balancers/);
        await opened.tabTo('resume');
        await press('Enter');
        await reads('#answer', /Cancelled: Envoy passes its health check again\.$/);
        await reads('#headline', /^In service/);
        assert.equal((await answer).status, 409);
        await reads('#log', /the drain was cancelled/);
      }).finally(forwarder.close);
    }));

  it('shows why something was refused', () =>
    withHeldDelay((pm2, endDelay) =>
      withPage(browser, { url: urlOf(pm2), expected: /409 \(Conflict\)/ }, async (opened) => {
        const { page, reads } = opened;
        const held = await holdTcp(pm2.ports.tcp);
        const answer = pm2.http('POST', '/shutdown');
        await reads('#headline', /^Draining: waiting for load balancers/);
        // The press comes in time, its request too late.
        await page.route('**/shutdown', async (route) => {
          endDelay();
          await eventually('the wait', async () =>
            /"phase":"wait"/.test((await pm2.http('GET', '/status')).body),
          );
          await route.continue();
        });
        const refused = page.waitForResponse((response) => response.status() === 409);
        await page.click('#resume');
        await refused;
        await reads(
          '#answer',
          /Refused \(409\): .*listeners are closed.*pm2-envoy redeploy brings up a new Envoy\.$/,
        );
        await reads('#resume-why', /^too late/);
        await page.click('#resume', { force: true });
        await reads('#answer', /Not now: too late/);
        held.close();
        assert.equal((await answer).status, 200);
      }),
    ));

  it('says that the manager is away, shows nothing as live meanwhile, and goes on when it is back', () =>
    withPm2({}, (pm2) =>
      withPage(browser, { url: urlOf(pm2), expected: AWAY }, async (opened) => {
        const { page, reads, barriers } = opened;
        const held = await holdTcp(pm2.ports.tcp);
        await reads('#facts', /Open connections\s+1 now/);
        await pm2.pm2('stop', 'envoy-manager');
        await reads(
          '#headline',
          /^No connection to the manager\s+At \d\d:\d\d:\d\d it said: In service\./,
        );
        await reads('#link', /^not connected last heard ([4-9]|\d{2,})s ago$/);
        assert.equal(await page.getAttribute('main', 'class'), 'stale');
        assert.equal(await opened.isPressable('shutdown'), false);
        assert.match(await reads('#shutdown-why', /./), /no connection to the manager/);
        assert.match(await page.title(), /^no connection · /);
        assert.deepEqual(await barriers(), []);
        await pm2.pm2('restart', 'envoy-manager');
        await reads('#link', /^live/);
        await reads('#headline', /^In service/);
        await reads(
          '#log',
          /connection to the manager lost[\s\S]*connected to the manager again, after \d\S*s$/,
        );
        assert.equal(await opened.isPressable('shutdown'), true);
        assert.equal(await page.locator('#chart .gap[x]').count(), 1);
        held.close();
        await reads('#facts', /Open connections\s+0 now/);
      }),
    ));

  it('says that the manager does not answer', () =>
    withPm2({}, (pm2) =>
      withPage(browser, { url: urlOf(pm2), expected: AWAY }, async (opened) => {
        const { page, reads } = opened;
        await reads('#link', /^live/);
        const manager = await pm2.pidOf('envoy-manager');
        process.kill(manager, 'SIGSTOP');
        await reads('#link', /^no answer last heard \d+s ago$/);
        assert.equal(await page.getAttribute('main', 'class'), 'stale');
        await reads('#headline', /^No connection to the manager[\s\S]*it does not answer\.$/);
        process.kill(manager, 'SIGCONT');
        await reads('#link', /^live/);
        await reads('#headline', /^In service/);
      }),
    ));

  it('asks by itself where the stream is refused, and tries that again now and then', () =>
    withPm2({}, (pm2) =>
      withPage(browser, { url: urlOf(pm2), expected: /503/ }, async ({ page, reads }) => {
        let refused = 0;
        const fromMs = performance.now();
        await page.route('**/events', (route) => {
          refused += 1;
          return route.fulfill({ status: 503, body: '{}' });
        });
        await page.reload();
        await reads('#link', /^live/);
        const held = await holdTcp(pm2.ports.tcp);
        await reads('#facts', /Open connections\s+1 now/);
        held.close();
        const before = refused;
        await eventually('another try', () => refused > before);
        // Every 5 s, besides the first.
        const mostTries = 2 + (performance.now() - fromMs) / 5_000;
        assert.ok(refused <= mostTries, `${refused} tries`);
        await page.unroute('**/events');
        await page.waitForRequest('**/events');
        await reads('#link', /^live/);
      }),
    ));

  it('shows the generations of a reload', () =>
    withPm2({}, (pm2) =>
      withPage(browser, { url: urlOf(pm2) }, async ({ reads }) => {
        const held = await holdTcp(pm2.ports.tcp);
        await reads('#generations', /1\s+serving\s+1\s/);
        const reload = pm2.pm2('reload', 'envoy');
        await reads(
          '#generations',
          /1\s+handing over, at most to \d\d:\d\d:\d\d\s+1\s[^\n]*\n2\s+serving/,
        );
        await reads('#headline', /^In service, handing over to generation 2/);
        await reads('#peers', /Gen\.[\s\S]*127\.0\.0\.1:\d+\s+1\s/);
        held.close();
        await reload;
        await reads('#generations', /pid\n2\s+serving[^\n]*$/);
        await reads('#log', /the hand-over ended: drained[\s\S]*generation 1 has ended/);
        await reads('#headline', /^In service\n/);
      }),
    ));

  for (const colorScheme of ['light', 'dark'] as const) {
    it(`keeps no one out, on a phone and on a wide screen, in service and in a drain: ${colorScheme}`, () =>
      withPm2({}, (pm2) =>
        withPage(
          browser,
          { url: urlOf(pm2), colorScheme, reducedMotion: 'reduce' },
          async ({ page, reads, barriers }) => {
            const fits = async (): Promise<void> => {
              for (const width of [360, 1440]) {
                await page.setViewportSize({ width, height: 800 });
                assert.equal(
                  await page.evaluate(() => document.documentElement.scrollWidth),
                  width,
                );
                assert.deepEqual(await barriers(), []);
              }
            };
            const held = [await holdTcp(pm2.ports.tcp), await holdIdle(pm2.ports.http)];
            await reads('#facts', /Open connections\s+2 now/);
            await fits();
            const ground = await page.evaluate(
              () => getComputedStyle(document.body).backgroundColor,
            );
            assert.equal(
              ground,
              colorScheme === 'light' ? 'rgb(246, 247, 248)' : 'rgb(19, 22, 25)',
            );
            await page.click('#shutdown');
            await fits();
            await page.click('#confirm-yes');
            await reads('#headline', /^Draining: waiting for open connections/);
            await fits();
            for (const one of held) one.close();
            await reads('#headline', /^Drained/);
            await fits();
          },
        ),
      ));
  }

  it('can be read without JavaScript', () =>
    withPm2({}, (pm2) =>
      withPage(browser, { url: urlOf(pm2), javaScriptEnabled: false }, async ({ page, reads }) => {
        await reads('#headline', /^In service/);
        await reads('#link', /^as it was at \d\d:\d\d:\d\d UTC$/);
        await reads('noscript', /Without JavaScript this page does not change/);
        assert.equal(await page.isVisible('#shutdown'), false);
      }),
    ));

  it('shows hostile names as they are, and runs nothing of them', async () => {
    const name = `</script><img src="/x" onerror="window.hacked = 1">&lt;`;
    const [port = 0, serve = 0] = await freePorts(2);
    const named = { ...Object(listener('x', port, tcpTo('x'))), stat_prefix: name };
    const resources = { listeners: [named], clusters: [cluster('x', serve)] };
    await withEnvoy({ bootstrap: { static_resources: resources } }, async (envoy) => {
      const settings = { 'admin-address': envoy.adminUrl };
      await withManager({ folder: envoy.folder, port: serve, settings }, () =>
        withPage(browser, { url: `http://localhost:${serve}/` }, async ({ page, reads }) => {
          await reads('#listeners', /No listener has had a connection/);
          await dial(port);
          await eventually('the name', async () =>
            (await page.innerText('#listeners')).includes(name),
          );
          await page.reload();
          assert.ok((await page.innerText('#listeners')).includes(name));
          assert.equal(await page.evaluate(() => 'hacked' in globalThis), false);
          assert.equal(await page.locator('img').count(), 0);
        }),
      );
    });
  });
});
