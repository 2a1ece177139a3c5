import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { createAdminClient } from '../../src/admin/client.js';
import { METRICS } from '../../src/manager/metrics/catalogue.js';
import { holdIdle, holdTcp } from '../support/clients.js';
import { counted, isCounted, readMetrics, scrape } from '../support/metrics.js';
import { preparePm2, statusOf, type TestPm2, withPm2 } from '../support/pm2.js';
import { eventually, patiently } from '../support/wait.js';

const atPhase = (pm2: TestPm2, phase: string) =>
  eventually(`the phase ${phase}`, async () => (await statusOf(pm2)).phase === phase);

describe('GET /metrics', { concurrency: 2 }, () => {
  it('gives what is open on each listener, and every metric that the documentation names', () =>
    withPm2({}, async (pm2) => {
      const reply = await fetch(`http://127.0.0.1:${pm2.ports.serve}/metrics`);
      assert.equal(reply.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8');
      const idle = readMetrics(await reply.text());
      assert.deepEqual(
        idle.names,
        METRICS.map(({ name }) => name),
      );
      assert.equal(idle.value('open_connections'), 0);
      assert.equal(idle.value('phase', { phase: 'idle' }), 1);
      assert.equal(idle.value('drain_time_left_seconds', { command: 'shutdown' }), undefined);
      assert.equal(idle.value('drain_timeout_seconds'), 40);
      assert.equal(idle.value('generations', { state: 'serving' }), 1);
      assert.equal(idle.value('envoy_info', { version: '1.40.0', generation: '1' }), 1);
      assert.deepEqual(await counted(pm2), []);
      const startedAt = idle.value('process_start_time_seconds') ?? 0;
      assert.ok(Math.abs(startedAt - Date.now() / 1_000) < 60, `started at ${startedAt}`);
      assert.ok((idle.value('process_open_fds') ?? 0) > 10);

      const held = [await holdTcp(pm2.ports.tcp), await holdIdle(pm2.ports.http)];
      const busy = await eventually('both connections', async () => {
        const now = await scrape(pm2);
        return now.value('open_connections') === 2 && now;
      });
      const onListener = (port: number) =>
        busy.value('listener_open_connections', { listener: `127.0.0.1_${port}` });
      assert.deepEqual([onListener(pm2.ports.tcp), onListener(pm2.ports.http)], [1, 1]);
      const kinds = ['tcp', 'http1', 'http2'].map((kind) =>
        busy.value('kind_open_connections', { kind }),
      );
      assert.deepEqual(kinds, [1, 1, 0]);
      assert.ok((busy.value('admin_calls_total', { call: '/stats' }) ?? 0) > 0);
      assert.ok((busy.value('admin_call_seconds_total', { call: '/stats' }) ?? 0) > 0);
      for (const one of held) one.close();
    }));

  it('is for all, by GET and HEAD; who is refused elsewhere is counted', () =>
    withPm2({}, async (pm2) => {
      const ask = (path: string, method: string) =>
        fetch(`http://127.0.0.1:${pm2.ports.serve}${path}`, { method, headers: { via: '1.1 x' } });
      assert.equal((await ask('/metrics', 'GET')).status, 200);
      assert.equal((await ask('/metrics', 'HEAD')).status, 200);
      const wrong = await ask('/metrics', 'POST');
      assert.deepEqual([wrong.status, wrong.headers.get('allow')], [405, 'GET, HEAD']);
      const missing = await (await ask('/nowhere', 'GET')).text();
      assert.match(missing, / and \/metrics"/);

      for (const path of ['/shutdown', '/status', '/events']) {
        assert.equal((await ask(path, 'GET')).status, 403);
      }
      const metrics = await scrape(pm2);
      assert.equal(metrics.value('refused_requests_total', { reason: 'proxy' }), 3);
      assert.equal(metrics.value('refused_requests_total', { reason: 'browser' }), 0);
    }));

  it('tells how a drain goes, counts it once, and goes on counting after a restart', () =>
    withPm2({ 'check-delay': '1s' }, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      const answer = pm2.http('POST', '/shutdown');
      const command = 'shutdown';
      let scrapedAt = 0;
      const during = await eventually('the drain to wait', async () => {
        scrapedAt = Date.now() / 1_000;
        const now = await scrape(pm2);
        const isWaiting = now.value('phase', { phase: 'wait' }) === 1;
        return isWaiting && now.value('drain_open_connections', { command }) === 1 && now;
      });
      const leftSeconds = during.value('drain_time_left_seconds', { command }) ?? 0;
      assert.ok(leftSeconds > 20 && leftSeconds < 40, `${leftSeconds} s left`);
      const deadline = during.value('drain_deadline_timestamp_seconds', { command }) ?? 0;
      const scraped = deadline - leftSeconds;
      assert.ok(scraped > scrapedAt - 1 && scraped < Date.now() / 1_000 + 1, `until ${deadline}`);
      assert.equal(during.value('orphaned_drain'), 0);
      held.close();
      assert.equal((await answer).status, 200);

      assert.deepEqual(await counted(pm2), ['shutdown drained 1']);
      const after = await scrape(pm2);
      assert.equal(after.value('phase', { phase: 'finish' }), 1);
      assert.equal(after.value('drain_duration_seconds_count', { command }), 1);
      assert.ok((after.value('drain_duration_seconds_sum', { command }) ?? 0) > 1);
      assert.equal(after.value('connections_cut_total', { command }), 0);

      await pm2.pm2('restart', 'envoy-manager');
      await isCounted(pm2, 'shutdown drained 1');
      // After these, the records of the first generation are gone.
      for (const handovers of [1, 2, 3]) {
        await pm2.pm2('restart', 'envoy');
        await isCounted(pm2, 'shutdown drained 1', `handover drained ${handovers}`);
      }
      await pm2.untilReady();
      assert.equal(existsSync(join(pm2.folder, 'run/generations/1')), false);
      await pm2.pm2('restart', 'envoy-manager');
      await isCounted(pm2, 'shutdown drained 1', 'handover drained 3');
      assert.equal((await pm2.http('POST', '/shutdown')).status, 200);
      assert.deepEqual(await counted(pm2), ['shutdown drained 2', 'handover drained 3']);
    }));

  it('counts what a drain leaves open', () =>
    withPm2({ 'drain-timeout': '5s' }, async (pm2) => {
      const held = [await holdTcp(pm2.ports.tcp), await holdTcp(pm2.ports.tcp)];
      assert.equal((await pm2.http('POST', '/shutdown')).status, 504);
      assert.deepEqual(await counted(pm2), ['shutdown timeout 1']);
      assert.equal((await scrape(pm2)).value('connections_cut_total', { command: 'shutdown' }), 2);
      for (const one of held) one.close();
    }));

  it('counts a hand-over once, and tells of it meanwhile', () =>
    withPm2({}, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      const reloading = pm2.pm2('reload', 'envoy');
      const command = 'handover';
      const during = await patiently('the hand-over', async () => {
        const now = await scrape(pm2);
        const isSeen =
          now.value('drain_open_connections', { command }) === 1 &&
          // A scrape in whose middle it began still names the first one.
          now.value('envoy_info', { generation: '2' }) === 1;
        return isSeen && now;
      });
      assert.ok((during.value('drain_time_left_seconds', { command }) ?? 0) > 20);
      assert.equal(during.value('generations', { state: 'handing-over' }), 1);
      assert.equal(during.value('phase', { phase: 'idle' }), 1);
      held.close();
      await reloading;
      await isCounted(pm2, 'handover drained 1');
      const after = await scrape(pm2);
      assert.equal(after.value('drain_time_left_seconds', { command }), undefined);
      assert.equal(after.value('drain_duration_seconds_count', { command }), 1);
    }));

  it('counts a drain that was cancelled, although no one looked meanwhile', () =>
    withPm2({ 'check-delay': '2m', 'drain-timeout': '3m' }, async (pm2) => {
      const answer = pm2.http('POST', '/shutdown');
      await eventually('the resumption', async () => {
        const { body } = await pm2.http('DELETE', '/shutdown');
        return JSON.parse(body).resumed;
      });
      assert.equal((await answer).status, 409);
      assert.deepEqual(await counted(pm2), ['shutdown cancelled 1']);
      const metrics = await scrape(pm2);
      assert.equal(metrics.value('drain_duration_seconds_count', { command: 'shutdown' }), 0);
      assert.equal(metrics.value('phase', { phase: 'idle' }), 1);
    }));

  it('counts a drain once that a runner leads, and says that Envoy is gone', () =>
    withPm2({}, async (pm2) => {
      await eventually('Envoy', async () => (await scrape(pm2)).value('envoy_up') === 1);
      await pm2.pm2('stop', 'envoy');
      await isCounted(pm2, 'shutdown drained 1');
      const metrics = await scrape(pm2);
      assert.equal(metrics.value('envoy_up'), 0);
      assert.equal(metrics.value('envoy_info'), undefined);
      assert.equal(metrics.value('generations', { state: 'serving' }), 0);
    }));

  for (const [how, restart] of [
    ['restarted', (pm2: TestPm2) => pm2.pm2('restart', 'envoy-manager')],
    [
      'killed -9',
      async (pm2: TestPm2) => process.kill(await pm2.pidOf('envoy-manager'), 'SIGKILL'),
    ],
  ] as const) {
    it(`counts a drain once in the middle of which the manager is ${how}`, () =>
      withPm2({}, async (pm2) => {
        const held = await holdTcp(pm2.ports.tcp);
        const answer = pm2.http('POST', '/shutdown').catch(() => undefined);
        await atPhase(pm2, 'wait');
        const before = await pm2.pidOf('envoy-manager');
        const restarting = restart(pm2);
        if (how === 'restarted') {
          await patiently('it to leave', () => / leaving/.test(pm2.log('envoy-manager')));
          assert.equal((await scrape(pm2)).value('phase', { phase: 'wait' }), 1);
        } else {
          await restarting;
          await patiently('its successor', async () => {
            const pid = await pm2.pidOf('envoy-manager');
            return pid !== before && pid > 0 && (await counted(pm2)).length === 0;
          });
        }
        held.close();
        await Promise.all([answer, restarting]);
        await isCounted(pm2, 'shutdown drained 1');
        assert.notEqual(await pm2.pidOf('envoy-manager'), before);
        const after = await scrape(pm2);
        assert.equal(after.value('drain_duration_seconds_count', { command: 'shutdown' }), 1);
      }));
  }

  it('counts a hand-over that ends while there is no manager', () =>
    withPm2({}, async (pm2) => {
      await pm2.pm2('stop', 'envoy-manager');
      await pm2.pm2('reload', 'envoy');
      await pm2.pm2('start', 'envoy-manager');
      await pm2.untilReady();
      await isCounted(pm2, 'handover drained 1');
    }));

  it('counts a reload that fails', () =>
    withPm2({}, async (pm2) => {
      writeFileSync(join(pm2.folder, 'envoy.yaml'), 'static_resources: { listeners: 7 }');
      await assert.rejects(pm2.pm2('reload', 'envoy'));
      await eventually('it', async () => (await scrape(pm2)).value('reload_failures_total') === 1);
      const metrics = await scrape(pm2);
      assert.equal(metrics.value('reload_failures_total'), 1);
      assert.equal(metrics.value('envoy_up'), 1);
    }));

  it('says 1 of an orphaned drain until it is cancelled', () =>
    withPm2({}, async (pm2) => {
      assert.equal((await scrape(pm2)).value('orphaned_drain'), 0);
      const path = pm2.generations()[0]?.adminSocket ?? '';
      const admin = createAdminClient({ kind: 'unix', path });
      await admin.failHealthCheck();
      admin.close();
      await eventually('1', async () => (await scrape(pm2)).value('orphaned_drain') === 1);
      assert.equal((await pm2.cli('resume')).code, 0);
      await eventually('0', async () => (await scrape(pm2)).value('orphaned_drain') === 0);
      assert.deepEqual(await counted(pm2), []);
    }));

  it('counts the failures of hooks by their names', async () => {
    const pm2 = await preparePm2();
    try {
      const plugin = join(pm2.folder, 'bad.mjs');
      writeFileSync(
        plugin,
        `export default class Bad {
          hooks = { 'before:shutdown:close': () => { throw new Error('deliberately'); } };
        }`,
      );
      pm2.env['PM2_ENVOY_PLUGINS'] = plugin;
      await pm2.start();
      const failures = async () => {
        const metrics = await scrape(pm2);
        return ['before:shutdown:close', 'shutdown:close'].map((hook) =>
          metrics.value('hook_failures_total', { hook }),
        );
      };
      assert.deepEqual(await failures(), [0, 0]);
      await pm2.http('POST', '/shutdown');
      assert.deepEqual(await failures(), [1, 0]);
    } finally {
      await pm2.stop();
    }
  });
});
