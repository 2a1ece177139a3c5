import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { describe, it } from 'node:test';
import { holdTcp, request } from '../support/clients.js';
import { envoyBinary, startTestEnvoy, type TestEnvoy } from '../support/envoy.js';
import { preparePm2, statusOf, type TestPm2 } from '../support/pm2.js';
import { eventually, patiently } from '../support/wait.js';

const ECOSYSTEM = resolve(import.meta.dirname, '../../ecosystem.config.js');

/** All that is asked but /drain_listeners. */
const ALLOWED = [
  '/ready',
  '/server_info',
  '/stats',
  '/listeners',
  '/config_dump',
  '/healthcheck/fail',
  '/healthcheck/ok',
];

describe('an Envoy that pm2-envoy did not start (admin-address)', { concurrency: 2 }, () => {
  for (const name of ['ENVOY_BIN', 'OLDER_ENVOY_BIN'] as const) {
    it(`drains through the manager and stays up, for its owner to end (${name})`, () =>
      withForeign(name, async (envoy, pm2) => {
        await pm2.pm2('start', ECOSYSTEM);
        await pm2.untilReady();
        assert.equal(await pm2.pidOf('envoy'), 0, 'there is no runner');
        const held = await holdTcp(envoy.ports.tcp);
        const answer = pm2.http('POST', '/shutdown');
        await eventually('the drain to wait', async () => (await statusOf(pm2)).phase === 'wait');
        await assert.rejects(request(envoy.ports.http), /ECONNREFUSED/);
        await eventually('its count', async () => (await statusOf(pm2)).connections.open === 1);
        await held.echo('still here');
        held.close();
        const { status: code, body } = await answer;
        assert.deepEqual([code, JSON.parse(body).outcome], [200, 'drained']);
        assert.equal(await envoy.admin.state(), 'DRAINING');
      }));
  }

  it('drains by the command line alone; once gone it is unreachable', () =>
    withForeign('ENVOY_BIN', async (envoy, pm2) => {
      const first = await pm2.cli('shutdown', '--json');
      assert.deepEqual([first.code, JSON.parse(first.stdout).outcome], [0, 'drained']);
      const again = await pm2.cli('shutdown', '--json');
      assert.deepEqual(
        [again.code, again.stdout],
        [0, first.stdout],
        'a drain that has ended is not run again',
      );
      envoy.kill('SIGKILL');
      const gone = await patiently('Envoy to be gone', async () => {
        const reply = await pm2.cli('shutdown');
        return reply.code === 5 && reply;
      });
      assert.match(gone.stderr, /nothing listens there/);
    }));

  it('forbids drain_listeners by allow_paths: its drain is not called drained, and says why', () =>
    withForeign(
      'ENVOY_BIN',
      async (envoy, pm2) => {
        await pm2.pm2('start', ECOSYSTEM);
        await pm2.untilReady();
        const held = await holdTcp(envoy.ports.tcp);
        const answer = pm2.http('POST', '/shutdown');
        await eventually('the drain to wait', async () => (await statusOf(pm2)).phase === 'wait');
        assert.equal((await request(envoy.ports.http)).status, 200, 'it takes connections still');
        held.close();
        const { status: code, body } = await answer;
        assert.deepEqual([code, JSON.parse(body).outcome], [502, 'admin-unreachable']);
        const why =
          /refused to close its listeners: .*returned 403.*allow it in admin\.allow_paths/;
        assert.match((await statusOf(pm2)).lastError, why);
        // One that takes over is refused as well; one that only looks is told the result.
        const { code: exit, stderr } = await pm2.cli('shutdown');
        assert.equal(exit, 5, stderr);
        assert.match(stderr, why);
        await pm2.pm2('stop', 'envoy-manager');
        assert.equal((await pm2.cli('shutdown')).code, 5);
      },
      ALLOWED,
    ));

  it('killed by its owner: envoy-gone', () =>
    withForeign('ENVOY_BIN', async (envoy, pm2) => {
      await pm2.pm2('start', ECOSYSTEM);
      await pm2.untilReady();
      envoy.kill('SIGKILL');
      await eventually('Envoy to be gone', async () => {
        const { body } = await pm2.http('GET', '/readyz');
        return body.includes('admin-gone');
      });
      const { status: code, body } = await pm2.http('POST', '/shutdown');
      assert.deepEqual([code, JSON.parse(body).outcome], [200, 'envoy-gone']);
    }));
});

async function withForeign(
  name: 'ENVOY_BIN' | 'OLDER_ENVOY_BIN',
  use: (envoy: TestEnvoy, pm2: TestPm2) => Promise<void>,
  allowed: readonly string[] = [],
): Promise<void> {
  const envoy = await startTestEnvoy({
    binary: envoyBinary(name),
    ...(allowed.length > 0 ? { allowed } : {}),
  });
  const pm2 = await preparePm2({ 'admin-address': envoy.adminUrl });
  // Admin calls and calls of the manager must not go through a proxy.
  pm2.env['HTTP_PROXY'] = 'http://127.0.0.1:9';
  try {
    await use(envoy, pm2);
  } finally {
    await pm2.stop();
    await envoy.stop();
  }
}
