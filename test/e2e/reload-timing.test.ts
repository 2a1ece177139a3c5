import assert from 'node:assert/strict';
import { chmodSync, existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { isAttended } from '../../src/host/generations.js';
import { holdTcp, request } from '../support/clients.js';
import { writeEcosystem } from '../support/ecosystem.js';
import { envoyBinary } from '../support/envoy.js';
import { statusOf, type TestPm2, withPm2 } from '../support/pm2.js';
import { letPass, patiently } from '../support/wait.js';

/** Shorter than an Envoy takes that waits for the test. */
const IMPATIENT = 'envoyApps().map((app) => ({ ...app, listen_timeout: 500 }))';

describe('a listen_timeout that is shorter than the start of an Envoy', { concurrency: 2 }, () => {
  it('has pm2 signal a runner that is not LIVE yet, at the next reload: the host is not drained', () =>
    withPm2(
      {},
      async (pm2) => {
        const gate = waitingEnvoy(pm2);
        await pm2.pm2('start', writeEcosystem(pm2.folder, IMPATIENT));
        await pm2.untilReady();
        gate.close();
        const first = pm2.pm2('reload', 'envoy').catch(() => undefined);
        await patiently('generation 2', () => pm2.generations().length === 2);
        // pm2 refuses a reload beside another one, which goes on as long as the old runner lives.
        const [generation] = pm2.generations();
        process.kill(generation?.runner.pid ?? 0, 'SIGKILL');
        await first;
        const second = await pm2.pidOf('envoy');
        const third = pm2.pm2('reload', 'envoy', '--force').catch(() => undefined);
        await patiently('the second runner to have left the host to the third', () =>
          /pm2 has replaced this runner: leaving the host to the new one/.test(pm2.log('envoy')),
        );
        assert.notEqual(await pm2.pidOf('envoy'), second);
        assert.equal((await request(pm2.ports.http)).status, 200);
        assert.equal((await pm2.http('GET', '/readyz')).status, 200);
        gate.open();
        await patiently('one generation', () => {
          const [only, ...more] = pm2.generations();
          return more.length === 0 && only && only.number > 1 && only.ready && isAttended(only);
        });
        assert.equal((await request(pm2.ports.http)).status, 200);
        assert.deepEqual(drainsOf(pm2), []);
        await third;
      },
      false,
    ));

  it('and at a first start as well', () =>
    withPm2(
      {},
      async (pm2) => {
        const gate = waitingEnvoy(pm2);
        gate.close();
        await pm2.pm2('start', writeEcosystem(pm2.folder, IMPATIENT));
        await patiently('generation 1', () => pm2.generations().length === 1);
        const reload = pm2.pm2('reload', 'envoy').catch(() => undefined);
        await patiently('generation 2 alone', () => {
          const [only, ...more] = pm2.generations();
          return more.length === 0 && only?.number === 2;
        });
        gate.open();
        await pm2.untilReady();
        assert.equal((await request(pm2.ports.http)).status, 200);
        assert.deepEqual(drainsOf(pm2), []);
        await reload;
      },
      false,
    ));
});

describe('a restart of which the runner hears late', () => {
  it('leaves Envoy to the next runner: the host is not drained', () =>
    withPm2({}, async (pm2) => {
      const [{ runner } = assert.fail()] = pm2.generations();
      process.kill(runner.pid, 'SIGSTOP');
      const restarting = pm2.pm2('restart', 'envoy');
      await patiently('pm2 to tell it', () => pm2.ownLog().includes('Stopping app:envoy id:0'));
      await letPass(1_000);
      process.kill(runner.pid, 'SIGCONT');
      await restarting;
      await pm2.untilReady();
      assert.deepEqual(drainsOf(pm2), []);
      assert.equal((await request(pm2.ports.http)).status, 200);
    }));
});

describe('a drain-timeout above 596h', () => {
  it('leaves pm2 a kill_timeout that it can hold: a stop waits for connections, and cuts none', () =>
    withPm2({ 'drain-timeout': '596h31m' }, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      const stopping = pm2.pm2('stop', 'envoy');
      await patiently('the drain to wait', async () => (await statusOf(pm2)).phase === 'wait');
      await held.echo('still here');
      const early = await Promise.race([stopping, letPass(1_000).then(() => 'waits')]);
      assert.equal(early, 'waits');
      assert.equal(pm2.generations().length, 1);
      held.close();
      await stopping;
      assert.equal(pm2.generations().length, 0);
    }));
});

describe('a runner that takes over a generation as its reload has failed', {
  concurrency: 2,
}, () => {
  for (const when of ['before', 'while'] as const) {
    it(`does not call it drained when a drain was cancelled ${when} the reload`, () =>
      withPm2({ 'check-delay': '2m', 'drain-timeout': '3m' }, async (pm2) => {
        const gate = waitingEnvoy(pm2);
        gate.close();
        const drain = pm2.http('POST', '/shutdown');
        await patiently('the delay', async () => (await statusOf(pm2)).phase === 'delay');
        const cancel = async (): Promise<void> => {
          assert.equal((await pm2.http('DELETE', '/shutdown')).status, 200);
          assert.equal((await drain).status, 409);
        };
        if (when === 'before') await cancel();
        const reload = pm2.pm2('reload', 'envoy', '--update-env').catch(() => undefined);
        await patiently('generation 2', () => pm2.generations().length === 2);
        if (when === 'while') await cancel();
        gate.crash();
        await patiently('the reload to fail', () => pm2.generations()[0]?.failedReload);
        await patiently('its word', () =>
          /generation 1 .* under this runner/.test(pm2.log('envoy')),
        );
        assert.match(pm2.log('envoy'), /generation 1 keeps serving, under this runner/);
        assert.doesNotMatch(pm2.log('envoy'), /drained, under|being drained/);
        assert.equal((await pm2.http('GET', '/readyz')).status, 200);
        assert.equal((await request(pm2.ports.http)).status, 200);
        await reload;
      }));
  }
});

/** What has been written down of drains of the host. */
function drainsOf(pm2: TestPm2): string[] {
  const folder = join(pm2.folder, 'run/drains');
  return existsSync(folder) ? readdirSync(folder).filter((name) => name.startsWith('host-')) : [];
}

/** Puts a script in Envoy's place that starts it only while the gate is open, and validates always. */
function waitingEnvoy(pm2: TestPm2): { open(): void; close(): void; crash(): void } {
  const path = join(pm2.folder, 'waiting-envoy');
  const closed = join(pm2.folder, 'closed');
  const crash = join(pm2.folder, 'crash');
  writeFileSync(
    path,
    `#!/bin/sh
case "$*" in
  *--mode*|*--version*) ;;
  *) while [ -e '${closed}' ]; do sleep 0.05; done; [ -e '${crash}' ] && exit 3 ;;
esac
exec '${envoyBinary()}' "$@"
`,
  );
  chmodSync(path, 0o755);
  pm2.env['ENVOY_BIN'] = path;
  const open = (): void => rmSync(closed, { force: true });
  return {
    open,
    close: () => writeFileSync(closed, ''),
    crash: () => {
      writeFileSync(crash, '');
      open();
    },
  };
}
