import assert from 'node:assert/strict';
import { chmodSync, copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { openGenerations } from '../../src/host/generations.js';
import { holdTcp } from '../support/clients.js';
import { envoyBinary } from '../support/envoy.js';
import { prepareHost } from '../support/host.js';
import { letPass, patiently } from '../support/wait.js';

/** /proc with hidepid=2 in a mount namespace, and a user for whom that means something. */
const HIDING = [
  'unshare',
  '--mount',
  'sh',
  '-c',
  'mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@"',
  'sh',
];

describe('an Envoy that /proc does not show (hidepid=2)', () => {
  it('is started, counted and waited for, and /shutdown does not say that it is gone', async () => {
    assert.equal(
      process.getuid?.(),
      0,
      'a /proc of its own can only be mounted by root: run it so',
    );
    const host = await prepareHost();
    const home = join(host.folder, 'home');
    const run = join(host.folder, 'run');
    const bin = join(host.folder, 'envoy');
    mkdirSync(home);
    copyFileSync(envoyBinary(), bin);
    for (const path of [home, run]) chmodSync(path, 0o777);
    chmodSync(host.folder, 0o755);
    // As with file capabilities, a program that may not be read has a /proc of root's own.
    chmodSync(bin, 0o711);
    const generations = openGenerations(join(home, 'run'));
    const how = {
      wrapper: HIDING,
      env: { ENVOY_BIN: bin, HOME: home, TMPDIR: home, PM2_ENVOY_RUN_DIR: join(home, 'run') },
    };
    try {
      const runner = await host.startApp('runner', how);
      const [one] = await patiently('Envoy to be LIVE', () => {
        assert.ok(runner.isRunning(), runner.output());
        const live = generations.live();
        return live[0]?.ready && live;
      });
      assert.match(one?.envoy.startTime ?? '', /:hidden$/);
      await host.startManager(how);
      const ports = await host.portsOf(one?.adminSocket ?? '');
      const held = await holdTcp(ports.tcp);
      const answer = host.http('POST', '/shutdown');
      const early = await Promise.race([answer, letPass(2_000).then(() => 'waits')]);
      assert.equal(early, 'waits');
      held.close();
      const { status, body } = await answer;
      assert.deepEqual([status, JSON.parse(body).outcome], [200, 'drained']);
      runner.kill('SIGTERM');
      assert.equal(await runner.exited, 0, runner.output());
      assert.deepEqual(generations.live(), []);
    } finally {
      for (const { envoy } of generations.live()) process.kill(envoy.pid, 'SIGKILL');
      await host.stop();
    }
  });
});
