import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import type { Finding } from '../../src/cli/doctor/finding.js';
import { openGenerations } from '../../src/host/generations.js';
import { isAlive } from '../../src/host/process-identity.js';
import { holdTcp, request } from '../support/clients.js';
import { statusOf, type TestPm2, withPm2 } from '../support/pm2.js';
import { eventually, letPass, patiently } from '../support/wait.js';

const ROOT = resolve(import.meta.dirname, '../..');

describe('a run directory that is changed', { concurrency: 2 }, () => {
  it('by pm2 restart: the new Envoy takes over from the old one, which /shutdown knows too', () =>
    withPm2({}, async (pm2) => {
      const [old] = pm2.generations();
      assert.ok(old);
      const held = await holdTcp(pm2.ports.tcp);
      const next = moveRunDir(pm2);
      await pm2.pm2('restart', 'all');
      await patiently('the new Envoy', () =>
        next.live().some(({ ready, number }) => ready && number > 1),
      );
      await pm2.untilReady();
      await held.echo('still here');
      const shown = async (): Promise<string[]> =>
        (await statusOf(pm2)).generations.map(
          ({ pid, state }: { pid: number; state: string }) =>
            `${pid === old.envoy.pid ? 'old' : 'new'} ${state}`,
        );
      // It hands over a moment after it is ready.
      await eventually(
        'both in /status',
        async () => (await shown()).join() === 'old handing-over,new serving',
      );
      const answer = pm2.http('POST', '/shutdown');
      assert.equal(await Promise.race([answer, letPass(1_000).then(() => 'waits')]), 'waits');
      held.close();
      assert.equal(JSON.parse((await answer).body).outcome, 'drained');
      await patiently('the old Envoy to end', () => !isAlive(old.envoy));
      await pm2.pm2('stop', 'all');
      assert.deepEqual(next.live(), []);
    }));

  it('doctor names an Envoy of another run directory that no one ends', () =>
    withPm2({}, async (pm2) => {
      const [old] = pm2.generations();
      assert.ok(old);
      moveRunDir(pm2);
      await pm2.killDaemon();
      process.kill(old.runner.pid, 'SIGKILL');
      const { stdout } = await patiently('the finding', async () => {
        const found = await pm2.cli('doctor', '--json');
        return found.stdout.includes('serves without a runner') && found;
      });
      const { findings } = JSON.parse(stdout) as { findings: Finding[] };
      const left = findings.find(({ message }) => message.includes('serves without a runner'));
      assert.equal(left?.level, 'problem');
      assert.match(
        String(left?.message),
        new RegExp(`${pm2.folder}/run, .* pid ${old.envoy.pid} `),
      );
    }));
});

describe('two projects with the same app names under one pm2', () => {
  it('the second one is refused, and the first one’s Envoy keeps serving with a runner', () =>
    withPm2({}, async (pm2) => {
      const [first] = pm2.generations();
      assert.ok(first);
      const second = moveRunDir(pm2);
      const ecosystem = join(pm2.folder, 'ecosystem.config.cjs');
      writeFileSync(
        ecosystem,
        `const { envoyApps } = require(${JSON.stringify(join(ROOT, 'dist/index.js'))});
module.exports = { apps: envoyApps({ cwd: __dirname }) };
`,
      );
      await pm2.pm2('start', ecosystem);
      await patiently('the refusal', () =>
        /two projects under one pm2 need different app names/.test(pm2.log('envoy')),
      );
      await patiently('the manager’s', () =>
        /two projects under one pm2/.test(pm2.log('envoy-manager')),
      );
      assert.equal(isAlive(first.envoy), true);
      assert.equal((await request(pm2.ports.http)).status, 200);
      // It says so, and then takes over.
      const kept = await patiently('a runner', () => {
        const [one, ...more] = second.live();
        assert.deepEqual([one?.envoy.pid, more.length], [first.envoy.pid, 0]);
        return one && isAlive(one.runner) && one;
      });
      await pm2.pm2('restart', 'envoy');
      await patiently('the runner again', () => second.live()[0]?.runner.pid !== kept.runner.pid);
      assert.equal((await request(pm2.ports.http)).status, 200, 'it is refused again');
    }));
});

/** As someone who edits the configuration; returns the generations of the new place. */
function moveRunDir(pm2: TestPm2) {
  const runDir = join(pm2.folder, 'run2');
  pm2.settings['run-dir'] = runDir;
  writeFileSync(pm2.env['PM2_ENVOY_CONFIG'] ?? '', JSON.stringify(pm2.settings));
  return openGenerations(runDir);
}
