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
      own: { home: '/srv/pm2', app: 'edge', pmId: '0', folder },
    },
    {
      what: 'has the folder as pm2 has it, not where a link led to',
      env: { pm_id: '0', name: 'edge', PM2_HOME: '/srv/pm2', pm_cwd: '/srv/current' },
      own: { home: '/srv/pm2', app: 'edge', pmId: '0', folder: '/srv/current' },
    },
    {
      what: 'names no app where pm2 gives none',
      env: { pm_id: '0', PM2_HOME: '/srv/pm2' },
      own: { home: '/srv/pm2', app: 'none', pmId: '0', folder },
    },
    {
      what: 'names no pm2 for a process of a shell, whose variables may still name one',
      env: { name: 'edge', PM2_HOME: '/srv/pm2' },
      own: { home: 'none', app: 'none', pmId: undefined, folder },
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
  const numbered = { ...one, pmId: '3' };
  it('is one app of one pm2 wherever its folder is', () => {
    assert.equal(sameSupervisor(numbered, { ...numbered, folder: '/srv/b' }), true);
    assert.equal(sameSupervisor(numbered, { ...one, folder: '/srv/b' }), true);
    assert.equal(sameSupervisor({ ...one, folder: '/srv/b' }, numbered), true);
    assert.equal(sameSupervisor(numbered, { ...numbered, pmId: '4', folder: '/srv/b' }), false);
    assert.equal(sameSupervisor(numbered, { ...numbered, pmId: '4' }), true);
    assert.equal(sameSupervisor(numbered, { ...numbered, app: 'other' }), false);
  });
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
