import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { createAdminClient } from '../../src/admin/client.js';
import { holdTcp } from '../support/clients.js';
import { statusOf, type TestPm2, withPm2 } from '../support/pm2.js';
import { letPass, patiently } from '../support/wait.js';

/** Who begins the drain; the manager is there again once it has. */
const BEGINNERS: Readonly<Record<string, (pm2: TestPm2) => Promise<unknown>>> = {
  '/shutdown': (pm2) => pm2.http('POST', '/shutdown'),
  'the runner, told to stop': async (pm2) => {
    process.kill(await pm2.pidOf('envoy'), 'SIGTERM');
  },
  'the command line, without a manager': async (pm2) => {
    await pm2.pm2('stop', 'envoy-manager');
    const drained = pm2.cli('shutdown');
    await patiently('the drain', async () => (await stateOfEnvoy(pm2)) === 'DRAINING');
    await pm2.pm2('start', 'envoy-manager');
    await patiently('the manager', () => pm2.http('GET', '/healthz'));
    return drained;
  },
};

describe('a drain of pm2-envoy’s, with orphaned-drain resume', { concurrency: 3 }, () => {
  for (const [who, begin] of Object.entries(BEGINNERS)) {
    it(`begun by ${who}, is not taken back by the manager, while a reload fails and after`, () =>
      withPm2(
        {
          'orphaned-drain': 'resume',
          'envoy-lost-after': '400ms',
          'check-delay': '8s',
          'drain-timeout': '3m',
        },
        async (pm2) => {
          const held = await holdTcp(pm2.ports.tcp);
          const drained = begin(pm2);
          // In its delay, or on a slow machine after it.
          await patiently('the drain', async () => (await statusOf(pm2)).phase !== 'idle');
          const bootstrap = String(pm2.settings['envoy-config']);
          const good = readFileSync(bootstrap);
          writeFileSync(bootstrap, 'not: [valid');
          // Where the old runner leads the drain, pm2 waits for that.
          const reload = pm2.pm2('reload', 'envoy').catch(() => undefined);
          await patiently('the reload to fail', () => pm2.generations()[0]?.failedReload);
          await patiently('its word', () =>
            /generation 1 is being drained, under this runner/.test(pm2.log('envoy')),
          );
          writeFileSync(bootstrap, good);
          await patiently('the drain to wait', async () => (await statusOf(pm2)).phase === 'wait');
          // Several looks of the manager: one each 100 ms.
          await letPass(2_000);
          assert.equal(await stateOfEnvoy(pm2), 'DRAINING');
          held.close();
          await Promise.all([drained, reload]);
          await patiently('its end', async () => (await statusOf(pm2)).outcome === 'drained');
          await letPass(2_000);
          assert.equal(await stateOfEnvoy(pm2), 'DRAINING');
          assert.doesNotMatch(
            pm2.log('envoy-manager'),
            /orphaned-drain is|passes its health check/,
          );
          assert.match((await pm2.http('GET', '/readyz')).body, /"drained"/);
        },
      ));
  }
});

/** In Envoy's own words. */
async function stateOfEnvoy(pm2: TestPm2): Promise<string> {
  const [generation] = pm2.generations();
  const admin = createAdminClient({ kind: 'unix', path: generation?.adminSocket ?? '' });
  return admin.state().finally(admin.close);
}
