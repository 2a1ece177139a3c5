import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { RedeployPlan } from '../../src/cli/redeploy/plan.js';
import { runReload } from '../../src/cli/redeploy/reload.js';
import { loadConfig } from '../../src/config/load.js';
import { Pm2EnvoyError } from '../../src/errors.js';
import { createFakeClock, makePm2Process, makeTempFolder } from './fakes.js';

/** A reload that pm2 refuses in these words, one after another, and then does. */
async function reloadRefused(...words: readonly string[]) {
  const left = [...words];
  let asked = 0;
  const app = {
    home: '/home',
    runDir: makeTempFolder(),
    all: [],
    process: makePm2Process(),
    manager: undefined,
    daemon: {
      processes: async () => [],
      remove: async () => undefined,
      reload: async () => {
        asked += 1;
        const reason = left.shift();
        if (reason) throw new Pm2EnvoyError('pm2-unreachable', `pm2 at /home/rpc.sock: ${reason}`);
      },
    },
  };
  const { config } = loadConfig({ env: {} });
  const plan: RedeployPlan = {
    app,
    config,
    from: undefined,
    outOfService: undefined,
    version: '1.40.0',
    changes: {},
    handover: undefined,
    warnings: [],
    env: {},
  };
  const result = await runReload(plan, () => undefined, createFakeClock());
  assert.ok(result.outcome === 'failed');
  return { asked, reason: result.reason };
}

describe('runReload', () => {
  it('tries again where pm2 is just starting the crashed app by itself', async () => {
    const { asked, reason } = await reloadRefused(
      'Process with pid 1234 already exists',
      'process already started',
    );
    assert.equal(asked, 3);
    assert.match(reason, /^no newer generation is LIVE/);
  });

  it('gives up after a while, and says why', async () => {
    const { asked, reason } = await reloadRefused(
      ...Array.from({ length: 1_000 }, () => 'Process with pid 1234 already exists'),
    );
    assert.ok(asked > 10 && asked < 200, `asked ${asked} times`);
    assert.match(reason, /^pm2 did not reload: .*already exists$/);
  });

  it('tries nothing again that pm2 refuses for another reason', async () => {
    const { asked, reason } = await reloadRefused('no daemon listens there');
    assert.equal(asked, 1);
    assert.match(reason, /no daemon listens there$/);
  });
});
