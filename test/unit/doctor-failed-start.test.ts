import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { checkEnvoys } from '../../src/cli/doctor/envoys.js';
import { loadConfig } from '../../src/config/load.js';
import { Pm2EnvoyError } from '../../src/errors.js';
import { noteFailedStart } from '../../src/host/failed-start.js';
import { makeFolder } from '../support/folder.js';

describe('checkEnvoys', () => {
  for (const { what, reason, remedy } of [
    {
      what: 'waited for its configuration to look at the control plane',
      reason:
        'Envoy was not LIVE within 1m: it waits for its configuration or its first health checks (its state is INITIALIZING)',
      remedy:
        'see whether its control plane (xDS) and clusters can be reached (`pm2 logs envoy` has more); pm2 retries by itself',
    },
    {
      what: 'ended for a reason that it names to correct that',
      reason: 'Envoy exited with code 1 before it was LIVE: error adding listener',
      remedy: 'correct what it names (`pm2 logs envoy` has more); pm2 retries by itself',
    },
  ]) {
    it(`says of an Envoy that ${what}`, async (t) => {
      const { path: runDir, remove } = makeFolder();
      t.after(remove);
      noteFailedStart(runDir, new Pm2EnvoyError('envoy-start-failed', reason));
      const { config } = loadConfig({ env: {}, cwd: runDir });
      const findings = await checkEnvoys(runDir, { config, app: undefined, home: runDir });
      assert.deepEqual(
        findings.map((one) => ('remedy' in one ? one.remedy : undefined)),
        [remedy],
      );
    });
  }
});
