import assert from 'node:assert/strict';
import { it } from 'node:test';
import { setImmediate as tick } from 'node:timers/promises';
import { isAlive } from '../../src/host/process-identity.js';
import { withPm2 } from '../support/pm2.js';
import { patiently } from '../support/wait.js';

it('pm2 that is ended while a restarted runner is still loading leaves no Envoy', () =>
  withPm2({}, async (pm2) => {
    const [{ envoy, runner } = assert.fail()] = pm2.generations();
    const daemon = pm2.daemonPid();
    // It waits for a daemon that does not answer any more.
    void pm2.pm2('restart', 'envoy').catch(() => undefined);
    // The next runner exists from now on, and hears a signal some 0.1 s later.
    while (isAlive(runner)) await tick();
    process.kill(daemon, 'SIGTERM');
    await patiently('Envoy to end', () => pm2.generations().length === 0 && !isAlive(envoy));
  }));
