import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { writeBootstrap } from '../support/bootstrap.js';
import { request } from '../support/clients.js';
import { envoyBinary } from '../support/envoy.js';
import { statusOf } from '../support/pm2.js';
import { freePorts } from '../support/ports.js';
import { type BusyPm2, describeTimes, underLoad } from '../support/under-load.js';

/**
 * Over this time Envoy tells more and more clients to leave. With 10 minutes, as it is by default, busy
 * ones need 5 s longer per round; test:soak keeps the default.
 */
const SETTINGS = { 'envoy-drain-time': '15s' };

describe('under load, with a TCP connection and a WebSocket held, nothing is lost', () => {
  it('by ten pm2 reloads in a row', (t) => inARow(t, 'reload', 10));

  it('by five pm2 restarts in a row', (t) => inARow(t, 'restart', 5));

  it('by ten pm2 reloads in a row while every core is busy', async (t) => {
    const loops = cpus().map(busyLoop);
    try {
      await inARow(t, 'reload', 10);
    } finally {
      for (const loop of loops) loop.kill('SIGKILL');
    }
  });

  it('by an upgrade of Envoy, and back', async (t) => {
    const older = envoyBinary('OLDER_ENVOY_BIN');
    await underLoad(t, { settings: SETTINGS, binary: older }, async ({ pm2, replace }) => {
      const timesMs: number[] = [];
      const before = (await statusOf(pm2)).envoy.version;
      for (const binary of [envoyBinary(), older]) {
        pm2.env['ENVOY_BIN'] = binary;
        timesMs.push(await replace(() => pm2.pm2('reload', 'envoy', '--update-env')));
        const changed = (await statusOf(pm2)).envoy.version !== before;
        assert.equal(changed, binary !== older, 'the version has changed');
      }
      return describeTimes(timesMs);
    });
  });

  it('by a move to another port: first both, then only the new one', async (t) => {
    await underLoad(t, { settings: SETTINGS }, async ({ pm2, traffic, replace }) => {
      const bootstrap = join(pm2.folder, 'envoy.yaml');
      const [to = 0] = await freePorts(1);
      const from = pm2.ports.http;
      const reload = () => pm2.pm2('reload', 'envoy');
      writeBootstrap(bootstrap, { ...pm2.ports, alsoHttp: to }, pm2.backend);
      const timesMs = [await replace(reload)];
      await traffic.moveTo({ ...pm2.ports, http: to });
      writeBootstrap(bootstrap, { ...pm2.ports, http: to }, pm2.backend);
      timesMs.push(await replace(reload));
      assert.equal((await request(to)).status, 200);
      await assert.rejects(request(from), { code: 'ECONNREFUSED' });
      return describeTimes(timesMs);
    });
  });

  it('by a changed route', async (t) => {
    const traffic = { bodies: ['hello', 'hello again'] };
    await underLoad(t, { settings: SETTINGS, traffic }, async ({ pm2, replace }) => {
      assert.equal((await request(pm2.ports.http)).body, 'hello');
      const timeMs = await replace(async () => {
        changeRoute(join(pm2.folder, 'envoy.yaml'));
        await pm2.pm2('reload', 'envoy');
      });
      assert.equal((await request(pm2.ports.http)).body, 'hello again');
      return describeTimes([timeMs]);
    });
  });
});

async function inARow(
  t: TestContext,
  command: 'reload' | 'restart',
  rounds: number,
): Promise<void> {
  await underLoad(t, { settings: SETTINGS }, async ({ pm2, replace }: BusyPm2) => {
    const timesMs: number[] = [];
    for (let round = 0; round < rounds; round += 1) {
      timesMs.push(await replace(() => pm2.pm2(command, 'envoy')));
    }
    return `${command}: ${describeTimes(timesMs)}`;
  });
}

/** `/` is answered by another path of the backend then. */
function changeRoute(bootstrap: string): void {
  const route = { cluster: 'http', timeout: '0s', prefix_rewrite: '/again' };
  const changed = readFileSync(bootstrap, 'utf8').replace(
    '"routes": [',
    `"routes": [${JSON.stringify({ match: { path: '/' }, route })},`,
  );
  writeFileSync(bootstrap, changed);
}

/** Keeps a core busy until it is killed, or its parent is gone. */
function busyLoop(): ChildProcess {
  const code = 'const parent = process.ppid; while (process.ppid === parent);';
  return spawn(process.execPath, ['-e', code], { stdio: 'ignore' });
}
