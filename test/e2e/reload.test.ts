import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { openGenerations } from '../../src/host/generations.js';
import { isAlive } from '../../src/host/process-identity.js';
import { writeBootstrap } from '../support/bootstrap.js';
import { holdTcp, request } from '../support/clients.js';
import { preparePm2, type TestPm2 } from '../support/pm2.js';
import { eventually, letPass, patiently } from '../support/wait.js';

/** What can be wrong when someone reloads, each from one moment to the next. */
const WRONG: Readonly<Record<string, (pm2: TestPm2) => void>> = {
  'a bootstrap that Envoy refuses': (pm2) =>
    writeFileSync(join(pm2.folder, 'envoy.yaml'), 'static_resources: {nonsense: 1}\n'),
  'a configuration that is refused': (pm2) => change(pm2, { 'check-delay': 5 }),
  'an Envoy that is none': (pm2) => change(pm2, { 'envoy-bin': '/bin/true' }),
  'a plugin that is not there': (pm2) => change(pm2, { plugins: ['./nowhere.js'] }),
};

describe('pm2 reload envoy', { concurrency: 2 }, () => {
  for (const [what, spoil] of Object.entries(WRONG)) {
    it(`with ${what} leaves the generation in service, and the next good reload works`, async () => {
      const pm2 = await preparePm2();
      try {
        await pm2.start();
        const [before] = pm2.generations();
        assert.ok(before);
        const held = await holdTcp(pm2.ports.tcp);
        spoil(pm2);
        await assert.rejects(pm2.pm2('reload', 'envoy'), { code: 1 });
        await eventually('the old runner to end', () => !isAlive(before.runner));
        assert.equal(isAlive(before.envoy), true);
        await held.echo('still here');
        assert.equal((await request(pm2.ports.http)).status, 200);
        assert.equal((await pm2.http('GET', '/readyz')).status, 200);
        await eventually('its word', () =>
          /generation 1 keeps serving, under this runner/.test(pm2.log('envoy')),
        );

        writeBootstrap(join(pm2.folder, 'envoy.yaml'), pm2.ports, pm2.backend);
        change(pm2, { 'check-delay': '0s', 'envoy-bin': undefined, plugins: [] });
        const reloaded = patiently('another reload', () => pm2.pm2('reload', 'envoy'));
        await patiently('generation 2', () =>
          pm2.generations().some(({ number, ready }) => number > 1 && ready),
        );
        await held.echo('still here');
        held.close();
        await reloaded;
        await eventually('generation 1 to end', () => !isAlive(before.envoy));
        assert.equal((await request(pm2.ports.http)).status, 200);
        await pm2.pm2('stop', 'envoy');
        assert.equal(pm2.generations().length, 0);
      } finally {
        await pm2.stop();
      }
    });
  }

  it('ends with 1 when it has failed, also where the old runner is late', async () => {
    const pm2 = await preparePm2();
    try {
      await pm2.start();
      const [{ runner } = assert.fail()] = pm2.generations();
      process.kill(runner.pid, 'SIGSTOP');
      change(pm2, { 'envoy-bin': '/bin/true' });
      const reload = assert.rejects(pm2.pm2('reload', 'envoy'), { code: 1 });
      await patiently('the reload to fail', () => pm2.generations()[0]?.failedReload);
      await letPass(4_000);
      process.kill(runner.pid, 'SIGCONT');
      await reload;
    } finally {
      await pm2.stop();
    }
  });

  it('to another run directory hands over as well', async () => {
    const pm2 = await preparePm2();
    try {
      await pm2.start();
      const [before] = pm2.generations();
      assert.ok(before);
      const held = await holdTcp(pm2.ports.tcp);
      const elsewhere = join(pm2.folder, 'run2');
      change(pm2, { 'run-dir': elsewhere });
      const reloaded = pm2.pm2('reload', 'envoy');
      await patiently('the hand-over', () =>
        existsSync(join(before.directory, 'handover-1-1.json')),
      );
      await held.echo('still here');
      assert.equal((await request(pm2.ports.http)).status, 200);
      held.close();
      await reloaded;
      assert.equal(isAlive(before.envoy), false);
      const [after] = openGenerations(elsewhere).live();
      assert.equal(after?.ready, true);
      assert.equal((await request(pm2.ports.http)).status, 200);
    } finally {
      await pm2.stop();
    }
  });
});

function change(pm2: TestPm2, settings: Record<string, unknown>): void {
  const file = pm2.env['PM2_ENVOY_CONFIG'] ?? '';
  pm2.settings = { ...pm2.settings, ...settings };
  writeFileSync(file, JSON.stringify(pm2.settings));
}
