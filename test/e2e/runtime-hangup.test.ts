import assert from 'node:assert/strict';
import { once } from 'node:events';
import { it } from 'node:test';
import { isAlive } from '../../src/host/process-identity.js';
import { holdRequest } from '../support/clients.js';
import { statusOf, withPm2 } from '../support/pm2.js';
import { eventually } from '../support/wait.js';

it('a terminal that is closed stops pm2-runtime as SIGTERM does: Envoy drains, and ends', () =>
  withPm2(
    {},
    async (pm2) => {
      const runtime = pm2.runtime();
      await pm2.untilReady();
      const [{ envoy } = assert.fail()] = pm2.generations();
      const slow = await holdRequest(pm2.ports.http);
      const exited = once(runtime, 'exit');
      // Nobody reads what they say any more, and the whole process group is told.
      runtime.stdout?.destroy();
      runtime.stderr?.destroy();
      process.kill(-(runtime.pid ?? assert.fail()), 'SIGHUP');
      await eventually('the drain', async () => (await statusOf(pm2)).phase === 'wait');
      assert.equal((await slow.finish()).status, 200);
      assert.deepEqual(await exited, [0, null]);
      assert.ok(!isAlive(envoy));
    },
    false,
  ));
