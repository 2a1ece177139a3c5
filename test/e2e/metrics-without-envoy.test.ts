import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { startTestEnvoy } from '../support/envoy.js';
import { withHost } from '../support/host.js';
import { withManager } from '../support/manager.js';
import { type Asked, isCounted, type Metrics, scrape } from '../support/metrics.js';
import { freePorts } from '../support/ports.js';
import { eventually } from '../support/wait.js';

/** Scrapes until Envoy is not up, which a scrape says within `limitMs`; on a busy machine not each one. */
function untilDown(asked: Asked, limitMs: number): Promise<Metrics> {
  return eventually(
    'an Envoy that is not up',
    async () => {
      const startedAt = performance.now();
      const [now] = await Promise.all([scrape(asked), scrape(asked)]);
      const tookMs = performance.now() - startedAt;
      if (tookMs >= limitMs) throw new Error(`answered after ${tookMs} ms`);
      return now.value('envoy_up') === 0 && now;
    },
    30_000,
  );
}

describe('GET /metrics without an answer of Envoy', { concurrency: 2 }, () => {
  it('is answered within its bound while Envoy is stopped, with what is known without it', () =>
    withHost({ 'check-delay': '2m', 'drain-timeout': '3m' }, async (host) => {
      await host.startManager();
      const { envoy } = await host.startGeneration();
      await eventually('Envoy', async () => (await scrape(host)).value('envoy_up') === 1);
      const answer = host.http('POST', '/shutdown');
      await eventually('the delay', async () => {
        return (await scrape(host)).value('phase', { phase: 'delay' }) === 1;
      });
      envoy.kill('SIGSTOP');
      const metrics = await untilDown(host, 4_000);
      assert.equal(metrics.value('open_connections'), undefined);
      assert.equal(metrics.value('phase', { phase: 'delay' }), 1);
      assert.ok((metrics.value('drain_time_left_seconds', { command: 'shutdown' }) ?? 0) > 1);
      assert.equal(metrics.value('generations', { state: 'draining' }), 1);
      envoy.kill('SIGCONT');
      await eventually('Envoy', async () => (await scrape(host)).value('envoy_up') === 1);
      assert.equal((await host.http('DELETE', '/shutdown')).status, 200);
      assert.equal((await answer).status, 409);
    }));

  it('is answered a second later for an Envoy at admin-address', async () => {
    const envoy = await startTestEnvoy();
    try {
      const [port = 0] = await freePorts(1);
      const settings = { 'admin-address': envoy.adminUrl };
      await withManager({ folder: envoy.folder, port, settings }, async (manager) => {
        const asked: Asked = { http: (method, path) => manager.ask(path, { method }) };
        await eventually('Envoy', async () => {
          const before = await scrape(asked);
          return before.value('envoy_info', { version: '1.40.0', generation: '' }) === 1;
        });
        envoy.kill('SIGSTOP');
        const metrics = await untilDown(asked, 5_000);
        assert.equal(metrics.value('phase', { phase: 'idle' }), 1);
        envoy.kill('SIGCONT');

        await eventually('Envoy', async () => (await scrape(asked)).value('envoy_up') === 1);
        assert.equal((await asked.http('POST', '/shutdown')).status, 200);
        await isCounted(asked, 'shutdown drained 1');
      });
      await withManager({ folder: envoy.folder, port, settings }, (manager) =>
        isCounted(
          { http: (method, path) => manager.ask(path, { method }) },
          'shutdown drained 1',
        ).then(() => undefined),
      );
    } finally {
      await envoy.stop();
    }
  });

  it('says that an Envoy which was killed is not up, and counts the failed calls', () =>
    withHost({}, async (host) => {
      await host.startManager();
      const { envoy, proxy } = await host.startGeneration();
      await eventually('Envoy', async () => (await scrape(host)).value('envoy_up') === 1);
      proxy.close();
      await eventually('the failed call', async () => {
        const metrics = await scrape(host);
        const labels = { call: '/ready', code: 'admin-gone' };
        return (metrics.value('admin_errors_total', labels) ?? 0) > 0;
      });
      envoy.kill('SIGKILL');
      await envoy.exited;
      const metrics = await scrape(host);
      assert.equal(metrics.value('envoy_up'), 0);
      assert.equal(metrics.value('generations', { state: 'serving' }), 0);
    }));
});
