import assert from 'node:assert/strict';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { describeSupervisor, type Supervisor, sameSupervisor } from '../../src/host/supervisor.js';
import { ownSupervisor, pm2Home } from '../../src/pm2/supervisor.js';

const one: Supervisor = { home: '/home/a/.pm2', app: 'envoy', folder: '/srv/a' };

describe('pm2Home', () => {
  for (const [what, env, home] of [
    ['PM2_HOME', { PM2_HOME: '/srv/pm2' }, '/srv/pm2'],
    ["pm2's own folder without it", {}, join(homedir(), '.pm2')],
    ["pm2's own folder where it is empty", { PM2_HOME: '' }, join(homedir(), '.pm2')],
  ] as const) {
    it(`is ${what}`, () => assert.equal(pm2Home(env), home));
  }
});

describe('ownSupervisor', () => {
  const folder = process.cwd();
  const cases: readonly { what: string; env: NodeJS.ProcessEnv; own: Supervisor }[] = [
    {
      what: 'names the home, the app and the folder of an app',
      env: { pm_id: '0', name: 'edge', PM2_HOME: '/srv/pm2' },
      own: { home: '/srv/pm2', app: 'edge', folder },
    },
    {
      what: 'names no app where pm2 gives none',
      env: { pm_id: '0', PM2_HOME: '/srv/pm2' },
      own: { home: '/srv/pm2', app: 'none', folder },
    },
    {
      what: 'names no pm2 for a process of a shell, whose variables may still name one',
      env: { name: 'edge', PM2_HOME: '/srv/pm2' },
      own: { home: 'none', app: 'none', folder },
    },
  ];
  for (const { what, env, own } of cases) {
    it(what, () => assert.deepEqual(ownSupervisor(env), own));
  }
});

describe('sameSupervisor', () => {
  const cases: readonly [string, Supervisor | undefined, boolean][] = [
    ['the same values', { ...one }, true],
    ['another home', { ...one, home: '/home/b/.pm2' }, false],
    ['another app', { ...one, app: 'envoy-2' }, false],
    ['another folder', { ...one, folder: '/srv/b' }, false],
    ['one that is not known', undefined, false],
  ];
  for (const [what, other, same] of cases) {
    it(`is ${same} for ${what}, either way round`, () => {
      assert.equal(sameSupervisor(one, other), same);
      assert.equal(sameSupervisor(other, one), same);
    });
  }
});

describe('describeSupervisor', () => {
  it('names all three', () => {
    assert.equal(describeSupervisor(one), 'PM2_HOME /home/a/.pm2, app envoy, folder /srv/a');
  });
});
