import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { sayGoesOn } from '../../src/drain/going-on.js';
import type { DrainRecord } from '../../src/drain/record.js';
import {
  adminError,
  createFakeClock,
  createFakeEnvoy,
  createFakeLog,
  drainConfig,
  type FakeEnvoy,
  makeRecord,
  makeResult,
  targetOf,
  undecided,
} from './fakes.js';

/** What is said of a drain that began `ageMs` ago. */
async function said(
  envoy: FakeEnvoy,
  ageMs: number,
  more: Partial<DrainRecord> | null = {},
): Promise<string[]> {
  const clock = createFakeClock();
  const { log, of } = createFakeLog();
  const record = more ? makeRecord(clock.nowMs() - ageMs, { phase: 'wait', ...more }) : undefined;
  const ledger = {
    ...undecided,
    read: () => record,
    claim: () => assert.fail('it only looks'),
    settle: () => false,
    hasLater: () => false,
    isLeader: () => false,
    finish: () => assert.fail('it only looks'),
    release: () => false,
    isWritable: () => true,
    update: () => undefined,
  };
  await sayGoesOn({ ledger, targets: [targetOf(envoy)] }, { config: drainConfig, log, clock });
  return of('warn');
}

describe('sayGoesOn', () => {
  it('says the phase, what is open and how long it may take', async () => {
    assert.deepEqual(await said(createFakeEnvoy(3), 15_000), [
      'the drain of 2026-01-01T00:00:00.000Z continues in phase wait, connections left: 3, for at most 45s; a kill before its end cuts them',
    ]);
  });

  it('says that the connections are unknown where Envoy does not answer', async () => {
    const envoy = createFakeEnvoy(3);
    envoy.fault = adminError('admin-timeout');
    assert.match((await said(envoy, 15_000)).join(), /connections left: unknown/);
  });

  it('says nothing where no drain is under way', async () => {
    assert.deepEqual(await said(createFakeEnvoy(3), 15_000, null), []);
    assert.deepEqual(await said(createFakeEnvoy(3), 15_000, { result: makeResult() }), []);
  });

  it('says nothing of a drain that begins with the stop', async () => {
    assert.deepEqual(await said(createFakeEnvoy(3), 100), []);
  });
});
