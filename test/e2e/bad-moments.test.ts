import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { isAlive } from '../../src/host/process-identity.js';
import { holdTcp, request } from '../support/clients.js';
import { envoyBinary } from '../support/envoy.js';
import { writeScript } from '../support/generation.js';
import { preparePm2, statusOf, type TestPm2, withPm2 } from '../support/pm2.js';
import { eventually, letPass, patiently } from '../support/wait.js';

const ROOT = resolve(import.meta.dirname, '../..');
const ECOSYSTEM = join(ROOT, 'ecosystem.config.js');

describe('stopped, killed or called at a bad moment', { concurrency: 2 }, () => {
  it('pm2 stop while Envoy is starting: it stays stopped, and no Envoy is left', () =>
    withPm2(
      {},
      async (pm2) => {
        pm2.env['ENVOY_BIN'] = heldEnvoy(pm2).path;
        const starting = pm2.pm2('start', ECOSYSTEM);
        await patiently('Envoy to be starting', () =>
          existsSync(join(pm2.folder, 'run/generations/1')),
        );
        await pm2.pm2('stop', 'envoy');
        await starting.catch(() => undefined);
        await patiently('the runner to end', async () => (await pm2.pidOf('envoy')) === 0);
        await letPass(1_500);
        assert.equal(await pm2.pidOf('envoy'), 0, 'pm2 has not started it again');
        assert.equal(pm2.generations().length, 0);
      },
      false,
    ));

  it('the daemon killed -9 while Envoy is starting: the next start ends with one generation', () =>
    withPm2(
      {},
      async (pm2) => {
        const envoy = heldEnvoy(pm2);
        pm2.env['ENVOY_BIN'] = envoy.path;
        void pm2.pm2('start', ECOSYSTEM).catch(() => undefined);
        await patiently('Envoy to be starting', () =>
          existsSync(join(pm2.folder, 'run/generations/1')),
        );
        await pm2.killDaemon();
        envoy.letGo();

        await pm2.pm2('start', ECOSYSTEM);
        await pm2.untilReady();
        await patiently('one generation', () => pm2.generations().length === 1);
        assert.equal((await request(pm2.ports.http)).status, 200);
        assert.equal(pm2.generations()[0]?.orphaned, false);
      },
      false,
    ));

  it('a manager killed -9 in a drain that no one else follows: the next one ends it', () =>
    withPm2({}, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      const caller = pm2.http('POST', '/shutdown').catch(() => undefined);
      await patiently('the wait', async () => (await statusOf(pm2)).phase === 'wait');
      process.kill(await pm2.pidOf('envoy-manager'), 'SIGKILL');
      await caller;
      held.close();
      const { outcome } = await patiently('the drain to end', async () => {
        const now = await statusOf(pm2);
        return now.outcome !== null && now;
      });
      assert.equal(outcome, 'drained');
    }));

  it('SIGINT and then SIGTERM to the manager: the drain is seen through', () =>
    withPm2({ 'check-delay': '2s' }, async (pm2) => {
      const isDraining = (): boolean => /shutdown: fail-health/.test(pm2.log('envoy-manager'));
      // It leaves within 3 s: a test that is late tries again with the next one.
      await patiently('SIGTERM while it leaves', async () => {
        await pm2.untilReady();
        const pid = await pm2.pidOf('envoy-manager');
        const slow = connect({ port: pm2.ports.serve, host: '127.0.0.1' });
        slow.on('error', () => undefined);
        await once(slow, 'connect');
        slow.write('GET /healthz HTTP/1.1\r\n');
        process.kill(pid, 'SIGINT');
        await letPass(700);
        process.kill(pid, 'SIGTERM');
        const next = async () => ![0, pid].includes(await pm2.pidOf('envoy-manager'));
        await patiently('it to drain, or another one', async () => isDraining() || next());
        slow.destroy();
        return isDraining();
      });
      await patiently('the drain to end', async () => (await statusOf(pm2)).outcome === 'drained');
      await assert.rejects(request(pm2.ports.http), /ECONNREFUSED/);
    }));

  it('a command line that drains by itself, and whose reader goes, sees the drain through', () =>
    withPm2({}, async (pm2) => {
      await pm2.pm2('stop', 'envoy-manager');
      const child = spawn(
        'sh',
        ['-c', `'${process.execPath}' '${join(ROOT, 'bin/pm2-envoy.js')}' shutdown 2>&1 | head -1`],
        { env: pm2.env, stdio: ['ignore', 'pipe', 'inherit'] },
      );
      let output = '';
      child.stdout.on('data', (chunk: Buffer) => {
        output += chunk;
      });
      await once(child, 'close');
      assert.match(output, /draining Envoy directly/);
      await patiently('the listeners to close', () =>
        request(pm2.ports.http).then(
          () => false,
          () => true,
        ),
      );
    }));

  it('restarted after a drain, then stopped: no one is told of the first drain', () =>
    withPm2({}, async (pm2) => {
      assert.equal(JSON.parse((await pm2.http('POST', '/shutdown')).body).outcome, 'drained');
      await pm2.pm2('restart', 'envoy');
      await pm2.untilReady();
      assert.equal((await statusOf(pm2)).phase, 'idle');
      await pm2.pm2('stop', 'envoy');
      await patiently('no Envoy', () => pm2.generations().length === 0);
      const { body } = await pm2.http('POST', '/shutdown');
      assert.equal(JSON.parse(body).outcome, 'envoy-gone');
    }));

  it('/shutdown in the middle of a reload drains both generations, and is known afterwards', () =>
    withPm2({}, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      const envoy = heldEnvoy(pm2);
      pm2.env['ENVOY_BIN'] = envoy.path;
      const reloading = pm2.pm2('reload', 'envoy', '--update-env');
      await patiently('generation 2 to be starting', () => pm2.generations().length === 2);
      const caller = pm2.http('POST', '/shutdown');
      await eventually('the drain', async () => (await statusOf(pm2)).phase !== 'idle');
      envoy.letGo();
      await patiently('generation 2 to be LIVE, or ended', () =>
        pm2.generations().every(({ number, ready }) => number !== 2 || ready),
      );
      held.close();
      assert.equal(JSON.parse((await caller).body).outcome, 'drained');
      await reloading.catch(() => undefined);
      await patiently('it to be known', async () => (await statusOf(pm2)).outcome === 'drained');
    }));

  it('two projects in one run directory: the second is refused, the first keeps serving', () =>
    withPm2({}, async (first) => {
      const second = await preparePm2({ 'run-dir': join(first.folder, 'run') });
      try {
        await second.pm2('start', ECOSYSTEM, '--only', 'envoy').catch(() => undefined);
        await patiently('the refusal', () =>
          /run directory .* is in use by another runner/.test(second.log('envoy')),
        );
        await second.pm2('kill');
        assert.equal((await request(first.ports.http)).status, 200);
        assert.equal(first.generations().length, 1);
        assert.equal(isAlive(first.generations()[0]?.runner ?? { pid: 0, startTime: '' }), true);
      } finally {
        await second.stop();
      }
    }));
});

/** An Envoy that does not start until it is let go. */
function heldEnvoy({ folder }: TestPm2): { path: string; letGo(): void } {
  const path = join(folder, 'held-envoy');
  const go = join(folder, 'go');
  const untilLetGo = `while [ ! -e '${go}' ]; do sleep 0.1; done`;
  writeScript(
    path,
    `case "$*" in *--mode*|*--version*) ;; *) ${untilLetGo} ;; esac`,
    `exec '${envoyBinary()}' "$@"`,
  );
  return { path, letGo: () => writeFileSync(go, '') };
}
