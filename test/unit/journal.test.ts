import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type EndedDrain, endOfShutdown } from '../../src/drain/ends.js';
import type { Located } from '../../src/drain/locate.js';
import { openLedger } from '../../src/drain/record.js';
import type { DrainState } from '../../src/drain/state.js';
import type { Generation } from '../../src/host/generations.js';
import { ownIdentity } from '../../src/host/process-identity.js';
import { silentLog } from '../../src/log.js';
import { createJournal } from '../../src/status/journal.js';
import { createFakeEnvoy, makeResult, makeTempFolder, targetOf } from './fakes.js';

const startedAt = '2026-01-01T00:00:00.000Z';
const idle: DrainState = { kind: 'idle' };
const draining: DrainState = {
  ...{ kind: 'draining', phase: 'delay', startedAt },
  ...{ deadlineMs: 61_000, connectionsAtStart: 1 },
};

/** A journal, with what it tells, and an Envoy that it looks at. */
function setUp() {
  const recorded: EndedDrain[] = [];
  const ended: string[] = [];
  const failed: string[] = [];
  const journal = createJournal({
    readEnds: () => recorded,
    onEnded: ({ id, result }) => ended.push(`${id} ${result.outcome}`),
    onFailedReload: (at) => failed.push(at),
  });
  const texts = (): string[] => journal.entries().map(({ text }) => text);
  return { journal, recorded, ended, failed, texts, located: locatedWith() };
}

function locatedWith(more: Partial<Generation> = {}): Located {
  const directory = makeTempFolder();
  const generation: Generation = {
    ...{ number: 1, directory, adminSocket: '/admin.sock', startedAt, version: '1.40.0' },
    ...{ envoy: ownIdentity(), runner: ownIdentity(), ready: true, orphaned: false },
    ...{ supervisor: undefined, launch: undefined },
    ...more,
  };
  const newest = { ...targetOf(createFakeEnvoy()), generation };
  return {
    ...{ targets: [newest], newest, generation },
    ledger: openLedger({ base: `${directory}/drain`, log: silentLog }),
    applies: () => true,
    covers: () => true,
    now: undefined,
    envoyStartedAtMs: undefined,
  };
}

describe('createJournal', () => {
  it('tells of a drain that has ended once, whether its record or its state shows it', () => {
    const { journal, recorded, ended, texts, located } = setUp();
    journal.note(located, draining);
    const result = makeResult({ startedAt });
    journal.note(located, { kind: 'ended', result });
    recorded.push(endOfShutdown(startedAt, result));
    journal.note(located, { kind: 'ended', result });
    journal.note(undefined, idle);
    assert.deepEqual(ended, [`shutdown ${startedAt} drained`]);
    assert.deepEqual(texts(), [
      'the drain ended: drained after 1.234s, 0 connections left',
      'generation 1 has ended',
    ]);
  });

  it('counts one connection as one', () => {
    const { journal, recorded, texts, located } = setUp();
    journal.note(located, idle);
    recorded.push(endOfShutdown(startedAt, makeResult({ startedAt, connectionsLeft: 1 })));
    journal.note(located, idle);
    assert.match(texts().join('\n'), / 1 connection left$/m);
  });

  it('tells of one that no one saw under way: its record is enough', () => {
    const { journal, recorded, ended, texts, located } = setUp();
    journal.note(located, idle);
    recorded.push(endOfShutdown(startedAt, makeResult({ outcome: 'cancelled' })));
    journal.note(located, idle);
    assert.deepEqual(ended, [`shutdown ${startedAt} cancelled`]);
    assert.deepEqual(texts(), ['the drain was cancelled']);
  });

  it('tells of one that was cancelled without a record', () => {
    const { journal, ended, located } = setUp();
    journal.note(located, draining);
    journal.note(located, idle);
    assert.deepEqual(ended, [`shutdown ${startedAt} cancelled`]);
  });

  it('waits for the record of one whose Envoy has ended first', () => {
    const { journal, recorded, ended, located } = setUp();
    journal.note(located, draining);
    journal.note(undefined, idle);
    assert.deepEqual(ended, []);
    recorded.push(endOfShutdown(startedAt, makeResult({ outcome: 'envoy-gone' })));
    journal.note(undefined, idle);
    assert.deepEqual(ended, [`shutdown ${startedAt} envoy-gone`]);
  });

  it('hands on what ended before the first look, but has no entry for it', () => {
    const { journal, recorded, ended, failed, texts } = setUp();
    const result = makeResult({ startedAt });
    recorded.push({ id: `handover 1 ${startedAt}`, command: 'handover', result });
    journal.note(locatedWith({ failedReload: { at: startedAt, reason: 'bad' } }), idle);
    assert.deepEqual(ended, [`handover 1 ${startedAt} drained`]);
    assert.deepEqual(failed, [startedAt]);
    assert.deepEqual(texts(), []);
  });

  it('tells of each reload that has failed once', () => {
    const { journal, failed, texts, located } = setUp();
    journal.note(located, idle);
    const first = locatedWith({ failedReload: { at: startedAt, reason: 'bad bootstrap' } });
    journal.note(first, idle);
    journal.note(first, idle);
    const later = '2026-01-01T00:01:00.000Z';
    journal.note(locatedWith({ failedReload: { at: later, reason: 'again' } }), idle);
    assert.deepEqual(failed, [startedAt, later]);
    assert.deepEqual(texts(), ['a reload failed: bad bootstrap', 'a reload failed: again']);
  });
});
