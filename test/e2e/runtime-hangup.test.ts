import assert from 'node:assert/strict';
import { once } from 'node:events';
import { it } from 'node:test';
import { isAlive } from '../../src/host/process-identity.js';
import { statusOf, withPm2 } from '../support/pm2.js';
import { eventually } from '../support/wait.js';

it('a terminal that is closed stops pm2-runtime as SIGTERM does: Envoy drains, and ends', () =>
  withPm2(
    {},
    async (pm2) => {
      const runtime = pm2.runtime();
      await pm2.untilReady();
      const [{ envoy } = assert.fail()] = pm2.generations();
      const slow = fetch(`http://127.0.0.1:${pm2.ports.http}/slow?ms=3000`);
      await eventually('it to be under way', async () => (await statusOf(pm2)).activeRequests > 0);
      const exited = once(runtime, 'exit');
      // Nobody reads what they say any more, and the whole process group is told.
      runtime.stdout?.destroy();
      runtime.stderr?.destroy();
      process.kill(-(runtime.pid ?? assert.fail()), 'SIGHUP');
      assert.equal((await slow).status, 200);
      assert.deepEqual(await exited, [0, null]);
      assert.ok(!isAlive(envoy));
    },
    false,
  ));
