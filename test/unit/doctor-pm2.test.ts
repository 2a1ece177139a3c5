import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { checkPm2 } from '../../src/cli/doctor/pm2.js';
import type { Pm2Process } from '../../src/pm2/daemon.js';
import { makePm2Process } from './fakes.js';

const RUNNER = makePm2Process({ pid: 10, env: { PM2_ENVOY_RUN_DIR: '/run/a' } });
const MANAGER = makePm2Process({
  name: 'envoy-manager',
  pmId: 1,
  pid: 11,
  env: { PM2_ENVOY_RUN_DIR: '/run/a' },
});

function said(process: Pm2Process, others: readonly Pm2Process[] = [MANAGER]): string[] {
  const found = { home: '/nowhere', process, all: [process, ...others], runDir: '/run/a' };
  const daemon = { processes: async () => [], reload: async () => {}, remove: async () => {} };
  const manager = others.find(({ name }) => name === 'envoy-manager');
  return checkPm2({ ...found, manager, daemon }).map(
    ({ level, message, remedy = '' }) => `${level} ${message} -> ${remedy}`,
  );
}

describe('checkPm2', () => {
  it('finds both apps well', () => {
    assert.match(said(RUNNER).join(), /^ok envoy \(pid 10\) and envoy-manager \(pid 11\) run in/);
  });

  it('does not say that an app runs that has no process', () => {
    const [first = ''] = said({ ...RUNNER, status: 'waiting restart', pid: 0 });
    assert.match(
      first,
      /^ok envoy \(waiting restart\) and envoy-manager \(pid 11\) are in \/nowhere, with the settings/,
    );
  });

  it('finds more than one instance, but takes the one that a reload replaces for none', () => {
    const second = { ...RUNNER, pmId: 2, pid: 12 };
    assert.match(said(RUNNER, [MANAGER, second]).join(), /^problem pm2 runs 2 instances of envoy/);
    assert.match(said(RUNNER, [MANAGER, { ...second, pmId: '_old_0' }]).join(), /^ok /);
  });

  it('finds an app that pm2 does not start again', () => {
    const settings = { ...RUNNER.settings, autorestart: false };
    assert.match(said({ ...RUNNER, settings }).join(), /^problem autorestart is off for envoy/);
  });

  it('finds a manager that looks into another run directory', () => {
    const manager = { ...MANAGER, env: { PM2_ENVOY_RUN_DIR: '/run/b' } };
    assert.match(
      said(RUNNER, [manager]).join(),
      /^problem envoy has the run directory \/run\/a, envoy-manager \/run\/b: /,
    );
  });

  it('does not believe that an app is online that has no process', () => {
    const [first = ''] = said({ ...RUNNER, status: 'online', pid: 0 });
    assert.match(first, /^problem pm2 shows the app envoy as online, and it has no process/);
  });

  it('has one advice for an app that is stopped', () => {
    assert.deepEqual(said({ ...RUNNER, status: 'stopped', pid: 0 }), [
      'problem the app envoy is stopped -> `pm2-envoy redeploy` starts it',
    ]);
  });
});
