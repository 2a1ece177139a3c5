import assert from 'node:assert/strict';
import { chmodSync, copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { openGenerations } from '../../src/host/generations.js';
import { envoyBinary } from '../support/envoy.js';
import { prepareHost, withHost } from '../support/host.js';
import { patiently } from '../support/wait.js';

/** Someone who can't make /run/pm2-envoy. */
const NOBODY = 65_534;
const isRoot = process.getuid?.() === 0;
const USER = isRoot ? NOBODY : process.getuid?.();
const asUser = isRoot
  ? ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', '--']
  : [];

describe('the run directory', { concurrency: 2 }, () => {
  it('is the same one for who starts at boot and who starts after a login', async () => {
    const host = await prepareHost({ 'run-dir': null });
    const temp = join(host.folder, 'tmp');
    const login = join(host.folder, 'xdg');
    const bin = join(host.folder, 'envoy');
    copyFileSync(envoyBinary(), bin);
    for (const folder of [temp, login]) {
      mkdirSync(folder);
      chmodSync(folder, 0o777);
    }
    for (const path of [host.folder, bin]) chmodSync(path, 0o755);
    const atBoot = { TMPDIR: temp, XDG_RUNTIME_DIR: '', ENVOY_BIN: bin, HOME: temp };
    const afterLogin = { ...atBoot, XDG_RUNTIME_DIR: login };
    const generations = openGenerations(join(temp, `pm2-envoy-${USER}`));
    const elsewhere = openGenerations(join(login, 'pm2-envoy'));
    try {
      const first = await host.startApp('runner', { wrapper: asUser, env: atBoot });
      const [one] = await patiently('Envoy', () => {
        assert.ok(first.isRunning(), first.output());
        const live = generations.live();
        return live[0]?.ready && live;
      });
      await host.startManager({ wrapper: asUser, env: afterLogin });
      const status = await patiently('its status', async () => {
        const { envoy } = JSON.parse((await host.http('GET', '/status')).body);
        return envoy;
      });
      assert.equal(status.pid, one?.envoy.pid);
      const second = await host.startApp('runner', { wrapper: asUser, env: afterLogin });
      await patiently('generation 2', () => {
        assert.ok(second.isRunning(), second.output());
        return generations.live().some(({ number, ready }) => number === 2 && ready);
      });
      assert.deepEqual(elsewhere.live(), []);
    } finally {
      for (const { envoy } of [...generations.live(), ...elsewhere.live()]) {
        process.kill(envoy.pid, 'SIGKILL');
      }
      await host.stop();
    }
  });

  it('without any Envoy in it ever: /shutdown does not say that Envoy is gone', () =>
    withHost({}, async (host) => {
      const manager = await host.startManager();
      const { status, body } = await host.http('POST', '/shutdown');
      assert.equal(status, 502, body);
      const { outcome, connectionsLeft } = JSON.parse(body);
      assert.deepEqual([outcome, connectionsLeft], ['admin-unreachable', null]);
      assert.match(manager.output(), /no Envoy has been seen here/);
      // Once there was one, its end is known.
      const { envoy } = await host.startGeneration();
      envoy.kill('SIGKILL');
      await envoy.exited;
      const gone = await host.http('POST', '/shutdown');
      assert.deepEqual([gone.status, JSON.parse(gone.body).outcome], [200, 'envoy-gone']);
    }));
});
