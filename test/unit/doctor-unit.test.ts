import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { checkUnit, findUnit, readUnit, unitOf } from '../../src/cli/doctor/unit.js';

const NAME = 'pm2-pm2-envoy.service';
const KILL_TIMEOUT_MS = 330_000;

describe('unitOf', () => {
  it('is the service of the unified hierarchy, or of systemd’s own', () => {
    assert.equal(unitOf(`0::/system.slice/${NAME}\n`), NAME);
    assert.equal(unitOf(`12:cpu:/\n9:name=systemd:/pod/system.slice/${NAME}\n0::/\n`), NAME);
  });

  for (const path of [
    '/',
    '/system.slice/docker-1.scope',
    '/user.slice/user@7.service/x.service',
  ]) {
    it(`is none for ${path}`, () => {
      assert.equal(unitOf(`9:cpu:/system.slice/other.service\n0::${path}\n`), undefined);
    });
  }
});

describe('readUnit', () => {
  const shown = (stop: string): string => `MainPID=66\nTimeoutStopUSec=${stop}\nKillMode=process\n`;

  for (const [stop, stopMs] of [
    ['6min', 360_000],
    ['1min 30s', 90_000],
    ['1h 2min 500ms', 3_720_500],
    ['infinity', Number.POSITIVE_INFINITY],
  ] as const) {
    it(`reads TimeoutStopSec ${stop}`, () => {
      const wanted = { name: NAME, stopMs, killMode: 'process', mainPid: 66 };
      assert.deepEqual(readUnit(NAME, shown(stop)), wanted);
    });
  }

  it('is undefined for what it does not know', () => {
    assert.equal(readUnit(NAME, ''), undefined);
    assert.equal(readUnit(NAME, shown('3 fortnights')), undefined);
  });
});

describe('checkUnit', () => {
  const check = (stopMs: number, killMode = 'process') =>
    checkUnit({ name: NAME, stopMs, killMode }, KILL_TIMEOUT_MS);

  it('finds nothing wrong with the unit that deploy/systemd makes, or one without a limit', () => {
    for (const stopMs of [360_000, Number.POSITIVE_INFINITY]) {
      assert.deepEqual(
        check(stopMs).map(({ level }) => level),
        ['ok', 'ok'],
      );
    }
  });

  it('names the TimeoutStopSec that a drain needs', () => {
    const [finding] = check(90_000);
    assert.equal(finding?.level, 'problem');
    assert.match(finding?.message ?? '', /TimeoutStopSec 1m30s .* kill_timeout 5m30s/);
    assert.match(finding?.remedy ?? '', /TimeoutStopSec=360 in a drop-in/);
  });

  it('warns of a KillMode that ends Envoy with pm2’s daemon', () => {
    const [, finding] = check(360_000, 'mixed');
    assert.equal(finding?.level, 'warning');
    assert.match(finding?.message ?? '', /KillMode mixed/);
  });
});

describe('findUnit', () => {
  it('finds none for a process that is no unit’s main process', async () => {
    assert.equal(await findUnit(process.pid), undefined);
    assert.equal(await findUnit(0), undefined);
  });
});
