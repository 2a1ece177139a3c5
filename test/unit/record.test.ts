import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, describe, it } from 'node:test';
import { type DrainLedger, type DrainRecord, openLedger } from '../../src/drain/record.js';
import { pruneRecords, readAll, readNewest } from '../../src/drain/record-files.js';
import { readLegacyRecord } from '../../src/drain/record-format.js';
import {
  conditionOf,
  identify,
  ownIdentity,
  type ProcessIdentity,
} from '../../src/host/process-identity.js';
import { createFakeLog, makeRecord, makeResult, makeTempFolder, reaches } from './fakes.js';

const NOW_MS = 1_000_000;
const me = ownIdentity();

const children: ChildProcess[] = [];
after(() => {
  for (const child of children) child.kill('SIGKILL');
});

/** Another process that can lead a drain. */
async function startLeader(): Promise<{ child: ChildProcess; identity: ProcessIdentity }> {
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  children.push(child);
  await once(child, 'spawn');
  return { child, identity: identify(child.pid ?? 0) ?? assert.fail('it is not there') };
}

function newBase(): string {
  return join(makeTempFolder(), 'host');
}

type LedgerOptions = Parameters<typeof openLedger>[0];

function open(base: string, self = me, more: Partial<LedgerOptions> = {}): DrainLedger {
  return openLedger({ base, self, log: createFakeLog().log, ...more });
}

/** As for an Envoy that pm2-envoy did not start; undefined: it could not be asked. */
function openForeign(base: string, envoyStartedAtMs: number | undefined, self = me): DrainLedger {
  return open(base, self, { foreign: { envoyStartedAtMs } });
}

/** A record as `self` would make it. */
function by(self: ProcessIdentity, more: Partial<DrainRecord> = {}): DrainRecord {
  return makeRecord(NOW_MS, { leader: self, ...more });
}

/** Begins a drain as `self`, and ends it. */
function endOne(ledger: DrainLedger, self = me, outcome = makeResult()): void {
  ledger.claim(by(self), NOW_MS);
  ledger.finish(by(self), outcome);
}

describe('openLedger claim', () => {
  it('makes the record and leads where there is none', () => {
    const ledger = open(newBase());
    assert.equal(ledger.read(), undefined);
    assert.deepEqual(ledger.claim(by(me), NOW_MS), { record: by(me), lead: true });
    assert.deepEqual(ledger.read(), by(me));
  });

  it('keeps the record to this user and leaves no drafts', () => {
    const base = newBase();
    const ledger = open(base);
    ledger.claim(by(me), NOW_MS);
    ledger.update(by(me, { phase: 'wait' }));
    assert.equal(statSync(`${base}-1-1.json`).mode & 0o777, 0o600);
    assert.deepEqual(readdirSync(dirname(base)), ['host-1-1.json']);
  });

  it('joins the drain of a leader that lives, with its clock and not its own', async () => {
    const base = newBase();
    const leader = await startLeader();
    const first = by(leader.identity, { phase: 'wait', connectionsAtStart: 7 });
    open(base, leader.identity).claim(first, NOW_MS);
    const own = makeRecord(NOW_MS + 30_000);
    assert.deepEqual(open(base).claim(own, NOW_MS + 30_000), { record: first, lead: false });
    assert.deepEqual(open(base).read(), first);
  });

  it('writes nothing while it follows', async () => {
    const base = newBase();
    const leader = await startLeader();
    open(base, leader.identity).claim(by(leader.identity), NOW_MS);
    const changedMs = statSync(dirname(base)).mtimeMs;
    const ledger = open(base);
    for (let turn = 0; turn < 5; turn += 1) ledger.claim(by(me), NOW_MS);
    assert.equal(statSync(dirname(base)).mtimeMs, changedMs);
  });

  it('takes over from a leader that has died, where it was, with the time that is left', async () => {
    const base = newBase();
    const leader = await startLeader();
    const first = by(leader.identity, { phase: 'close', connectionsAtStart: 7 });
    open(base, leader.identity).claim(first, NOW_MS);
    leader.child.kill('SIGKILL');
    await once(leader.child, 'exit');
    const claimed = open(base).claim(makeRecord(NOW_MS + 9_000), NOW_MS + 9_000);
    const taken = { ...first, leader: me, term: 2, ledSinceMs: NOW_MS + 9_000 };
    assert.deepEqual(claimed, { record: taken, lead: true });
    assert.deepEqual(open(base).read(), taken);
  });

  it('takes over from a leader that is stopped, which then leads no more', async () => {
    const base = newBase();
    const leader = await startLeader();
    const theirs = open(base, leader.identity);
    theirs.claim(by(leader.identity), NOW_MS);
    leader.child.kill('SIGSTOP');
    await reaches('stopped', () => conditionOf(leader.identity) === 'stopped');
    assert.equal(open(base).claim(by(me), NOW_MS).lead, true);
    assert.equal(theirs.isLeader(by(leader.identity)), false);
  });

  it('takes over from another process that has got the pid of the leader', () => {
    const base = newBase();
    const earlier = { pid: process.ppid, startTime: 'earlier' };
    open(base, earlier).claim(by(earlier), NOW_MS);
    assert.equal(open(base).claim(by(me), NOW_MS).lead, true);
  });

  it('takes over from a leader only well after its deadline, and one after another', async () => {
    const base = newBase();
    const [first, second] = [await startLeader(), await startLeader()];
    const record = by(first.identity);
    open(base, first.identity).claim(record, NOW_MS);
    const lateMs = record.deadlineMs + 10_000;
    assert.equal(open(base).claim(by(me), record.deadlineMs + 1_000).lead, false);
    assert.equal(open(base, second.identity).claim(by(second.identity), lateMs).lead, true);
    assert.equal(open(base).claim(by(me), lateMs + 50).lead, false, 'the second has just begun');
    assert.equal(open(base).claim(by(me), lateMs + 6_000).lead, true);
  });

  it('leads on by the ledger that leads already; another one of this process follows', () => {
    const base = newBase();
    const ledger = open(base);
    ledger.claim(by(me), NOW_MS);
    ledger.update(by(me, { phase: 'delay' }));
    for (const [one, lead] of [
      [open(base), false],
      [ledger, true],
    ] as const) {
      const again = one.claim(by(me), NOW_MS + 5);
      assert.equal(again.lead, lead);
      assert.equal(again.record.phase, 'delay');
    }
  });

  it('does not run a drain again that has ended', () => {
    const base = newBase();
    endOne(open(base));
    for (const nowMs of [NOW_MS, NOW_MS + 10_000_000]) {
      const { record, lead } = open(base).claim(makeRecord(nowMs), nowMs);
      assert.deepEqual({ result: record.result, lead }, { result: makeResult(), lead: false });
    }
  });

  it('takes the next number after one that was cancelled, or that is about other Envoys', () => {
    const base = newBase();
    endOne(open(base), me, makeResult({ outcome: 'cancelled' }));
    const second = open(base);
    assert.equal(second.claim(by(me), NOW_MS).record.number, 2);
    second.finish(by(me), makeResult());
    const { record, lead } = open(base, me, { covers: () => false }).claim(by(me), NOW_MS);
    assert.deepEqual({ number: record.number, lead }, { number: 3, lead: true });
    assert.deepEqual(
      readAll(base).map(({ number, result }) => [number, result?.outcome]),
      [
        [1, 'cancelled'],
        [2, 'drained'],
        [3, undefined],
      ],
    );
  });

  it('takes no number that was in use before, though its records are gone', () => {
    assert.equal(open(newBase(), me, { after: 7 }).claim(by(me), NOW_MS).record.number, 8);
  });

  const unreadable = [
    '',
    '{',
    'null',
    '[]',
    '"drained"',
    '{"phase": "finish"}',
    JSON.stringify(by(me)),
    JSON.stringify({ version: 2, ...by(me) }),
    JSON.stringify({ version: 1, ...by(me, { startedAtMs: Number.NaN }) }),
    JSON.stringify({ version: 1, ...by(me), phase: 'napping' }),
    JSON.stringify({ version: 1, ...by(me), deadlineMs: '5' }),
    JSON.stringify({ version: 1, ...by(me), leader: null }),
    JSON.stringify({ version: 1, ...by(me), leader: { pid: 1.5, startTime: 'x' } }),
    JSON.stringify({ version: 1, ...by(me), deadlineMs: NOW_MS - 1 }),
    JSON.stringify({ version: 1, ...by(me), deadlineMs: 1e300 }),
    JSON.stringify({ version: 1, ...by(me), delayStartedAtMs: 'now' }),
    JSON.stringify({ version: 1, ...by(me), envoyStartedAtMs: false }),
    JSON.stringify({ version: 1, ...by(me), connectionsAtStart: 'many' }),
    JSON.stringify({ version: 1, ...by(me), envoys: [{ pid: 1 }] }),
    JSON.stringify({ version: 1, ...by(me), steps: [{ phase: 'napping', at: '' }] }),
    JSON.stringify({ version: 1, ...by(me), startedBy: 'me' }),
  ];
  for (const content of unreadable) {
    it(`takes the next number, and removes nothing, over … ${JSON.stringify(content.slice(-40))}`, () => {
      const base = newBase();
      writeFileSync(`${base}-1-1.json`, content);
      assert.equal(open(base).read(), undefined);
      const claimed = open(base).claim(by(me), NOW_MS);
      assert.deepEqual(claimed, { record: by(me, { number: 2 }), lead: true });
      assert.deepEqual(open(base).read(), by(me, { number: 2 }));
      assert.deepEqual(readdirSync(dirname(base)), ['host-1-1.json', 'host-2-1.json']);
    });
  }

  it('is not misled by what is left of a drain whose record is gone', () => {
    const base = newBase();
    const first = open(base);
    first.claim(by(me), NOW_MS);
    first.decide('cancel');
    rmSync(`${base}-1-1.json`);
    const second = open(base);
    assert.equal(second.claim(by(me), NOW_MS).record.number, 2);
    assert.equal(second.decision(), undefined);
  });
});

describe('openLedger over a record of version 0.1.0', () => {
  const legacyOf = (more: object) => {
    const file = join(makeTempFolder(), 'shutdown.json');
    const { number, term, envoys, steps, checkDelayMs, startedBy, ...old } = by(me);
    writeFileSync(file, JSON.stringify({ ...old, ...more }));
    return () => readLegacyRecord(file);
  };

  it('gives its result', () => {
    const ledger = open(newBase(), me, { legacy: legacyOf({ result: makeResult() }) });
    assert.equal(ledger.read()?.result?.outcome, 'drained');
    assert.equal(ledger.claim(by(me), NOW_MS).lead, false);
  });

  it('leads on beside it, to the same deadline, as no one takes orders across versions', () => {
    const ledger = open(newBase(), me, { legacy: legacyOf({ phase: 'wait' }) });
    const { record, lead } = ledger.claim(makeRecord(NOW_MS + 9_000), NOW_MS + 9_000);
    assert.equal(lead, true);
    assert.deepEqual([record.phase, record.deadlineMs], ['wait', by(me).deadlineMs]);
    assert.equal(record.number, 1);
  });

  it('begins a drain of its own where that was cancelled', () => {
    const result = makeResult({ outcome: 'cancelled' });
    const ledger = open(newBase(), me, { legacy: legacyOf({ result }) });
    assert.deepEqual(ledger.claim(by(me), NOW_MS), { record: by(me), lead: true });
  });
});

describe('openLedger with the start of a foreign Envoy', () => {
  it('notes the start in the record, also when it is updated', () => {
    const ledger = openForeign(newBase(), 500_000);
    ledger.claim(by(me), NOW_MS);
    ledger.update(by(me, { phase: 'wait' }));
    assert.equal(ledger.read()?.envoyStartedAtMs, 500_000);
  });

  it('does not take the drain of an earlier Envoy for that of this one', () => {
    const base = newBase();
    endOne(openForeign(base, 500_000));
    const ledger = openForeign(base, 900_000);
    assert.equal(ledger.read(), undefined);
    const claimed = ledger.claim(by(me), NOW_MS);
    assert.equal(claimed.lead, true);
    assert.equal(claimed.record.result, undefined);
    assert.equal(ledger.read()?.envoyStartedAtMs, 900_000);
  });

  it('starts afresh beside a leader that still drains an earlier Envoy', async () => {
    const base = newBase();
    const { identity } = await startLeader();
    openForeign(base, 500_000, identity).claim(by(identity), NOW_MS);
    assert.equal(openForeign(base, 900_000).claim(by(me), NOW_MS).lead, true);
  });

  it('knows the Envoy again though its start is told to the second', () => {
    const base = newBase();
    endOne(openForeign(base, 500_000));
    for (const startedAtMs of [499_000, 501_000]) {
      assert.equal(openForeign(base, startedAtMs).read()?.result?.outcome, 'drained');
    }
  });

  it('gives no result where the Envoys can’t be compared', () => {
    for (const [theirs, ours] of [
      [undefined, 900_000],
      [500_000, undefined],
    ]) {
      const base = newBase();
      endOne(openForeign(base, theirs));
      const { record, lead } = openForeign(base, ours).claim(by(me), NOW_MS);
      assert.deepEqual({ lead, result: record.result }, { lead: true, result: undefined });
    }
  });

  it('joins a drain that is under way though the starts can’t be compared', async () => {
    const { identity } = await startLeader();
    const pairs: readonly [number | undefined, number | undefined][] = [
      [undefined, 500_000],
      [500_000, undefined],
      [undefined, undefined],
    ];
    for (const [theirs, ours] of pairs) {
      const base = newBase();
      openForeign(base, theirs, identity).claim(by(identity), NOW_MS);
      assert.equal(openForeign(base, ours).claim(by(me), NOW_MS).lead, false);
    }
  });
});

describe('openLedger after a boot', () => {
  it('forgets the record of an earlier one, whose clock may have shown the same time', () => {
    for (const more of [{}, { foreign: { envoyStartedAtMs: 10_500 } }]) {
      const base = newBase();
      const leader = { pid: 77, startTime: 'deadbeef:12345' };
      const theirs = openForeign(base, 10_000, leader);
      theirs.claim(by(leader), NOW_MS);
      theirs.finish(by(leader), makeResult());
      const ledger = open(base, me, more);
      assert.equal(ledger.read(), undefined);
      assert.equal(ledger.claim(by(me), NOW_MS).lead, true);
    }
  });
});

describe('openLedger isLeader', () => {
  it('holds until another process has taken over, or the drain has ended', async () => {
    const base = newBase();
    const leader = await startLeader();
    const ledger = open(base, leader.identity);
    const own = by(leader.identity);
    assert.equal(ledger.isLeader(own), true, 'nothing is written down');
    ledger.claim(own, NOW_MS);
    assert.equal(ledger.isLeader(own), true);
    leader.child.kill('SIGKILL');
    await once(leader.child, 'exit');
    const other = open(base);
    const { record } = other.claim(by(me), NOW_MS);
    assert.equal(ledger.isLeader(own), false);
    assert.equal(other.isLeader(record), true);
    other.finish(record, makeResult());
    assert.equal(other.isLeader(record), false);
  });

  it('ends where a later drain has begun that was not cancelled', () => {
    const base = newBase();
    const ledger = open(base);
    ledger.claim(by(me), NOW_MS);
    const later = open(base, me, { covers: () => false });
    later.claim(by(me), NOW_MS);
    assert.equal(ledger.isLeader(by(me)), false);
    later.finish(by(me), makeResult({ outcome: 'cancelled' }));
    assert.equal(ledger.isLeader(by(me)), true);
  });

  it('holds where someone has removed the record', () => {
    const base = newBase();
    const ledger = open(base);
    ledger.claim(by(me), NOW_MS);
    rmSync(`${base}-1-1.json`);
    assert.equal(ledger.isLeader(by(me)), true);
    ledger.update(by(me, { phase: 'wait' }));
    assert.equal(open(base).read()?.phase, 'wait', 'it is written again');
  });
});

describe('openLedger update and finish', () => {
  it('never write over another leader, and the first result holds for all', async () => {
    const base = newBase();
    const leader = await startLeader();
    const first = open(base, leader.identity);
    first.claim(by(leader.identity), NOW_MS);
    leader.child.kill('SIGKILL');
    await once(leader.child, 'exit');
    const second = open(base);
    const { record } = second.claim(by(me), NOW_MS);
    first.update(by(leader.identity, { phase: 'wait' }));
    assert.deepEqual(open(base).read(), record);
    const timeout = makeResult({ outcome: 'timeout' });
    assert.deepEqual(first.finish(by(leader.identity), timeout), timeout);
    assert.deepEqual(second.finish(record, makeResult()), timeout);
    assert.deepEqual(open(base).read()?.result, timeout);
  });

  it('never write after a result, not even its own', () => {
    const ledger = open(newBase());
    ledger.claim(by(me), NOW_MS);
    ledger.finish(by(me), makeResult());
    ledger.update(by(me, { phase: 'wait' }));
    assert.equal(ledger.read()?.phase, 'fail-health');
    assert.equal(ledger.read()?.result?.outcome, 'drained');
  });
});

describe('openLedger decide', () => {
  it('holds what was decided first, in any process', () => {
    const base = newBase();
    open(base).claim(by(me), NOW_MS);
    assert.equal(open(base).decide('cancel'), 'cancel');
    assert.equal(open(base).decide('close'), 'cancel');
    assert.equal(open(base).decision(), 'cancel');
  });

  it('is the leader’s alone where it can’t be written down', async () => {
    const base = newBase();
    const { identity } = await startLeader();
    const theirs = open(base, identity);
    theirs.claim(by(identity), NOW_MS);
    // A folder instead of it, because the user of the tests may write everywhere.
    writeFileSync(`${base}-1.decision.json`, 'damaged');
    assert.equal(open(base).decide('cancel'), undefined);
    assert.equal(theirs.decide('cancel'), 'cancel');
  });
});

describe('openLedger where nothing can be written', () => {
  const places: readonly [string, () => string][] = [
    ['a folder that can’t be made', () => '/proc/nowhere/host'],
    [
      'a file in place of the folder',
      () => {
        const file = join(makeTempFolder(), 'file');
        writeFileSync(file, '');
        return join(file, 'host');
      },
    ],
    ['a folder that takes nothing', () => '/proc/self/host'],
  ];
  for (const [what, place] of places) {
    it(`leads by itself and warns once (${what})`, () => {
      const { log, of } = createFakeLog();
      const ledger = openLedger({ base: place(), log, self: me });
      assert.deepEqual(ledger.claim(by(me), NOW_MS), { record: by(me), lead: true });
      assert.equal(ledger.claim(by(me), NOW_MS).lead, true);
      ledger.update(by(me, { phase: 'wait' }));
      assert.equal(ledger.isWritable(), false);
      assert.equal(ledger.decide('cancel'), 'cancel', 'nobody else leads it');
      assert.deepEqual(ledger.finish(by(me), makeResult()), makeResult());
      assert.equal(ledger.read(), undefined);
      assert.equal(of('warn').length, 1, of('warn').join('\n'));
      assert.match(of('warn')[0] ?? '', /drain record can't be written/);
    });
  }

  it('keeps for itself that a drain was cancelled, and records it once it can', () => {
    const folder = makeTempFolder();
    const base = join(folder, 'drains', 'host');
    const ledger = openLedger({ base, log: createFakeLog().log, self: me });
    ledger.claim(by(me), NOW_MS);
    // A file instead of the folder, because the user of the tests may write everywhere.
    const cancelled = makeResult({ outcome: 'cancelled' });
    renameSync(join(folder, 'drains'), join(folder, 'away'));
    writeFileSync(join(folder, 'drains'), '');
    assert.deepEqual(ledger.finish(by(me), cancelled), cancelled);
    rmSync(join(folder, 'drains'));
    renameSync(join(folder, 'away'), join(folder, 'drains'));
    assert.deepEqual(open(base).read()?.result, cancelled);
    assert.equal(existsSync(`${base}-1.result.json`), true);
    assert.equal(open(base).claim(by(me), NOW_MS).record.number, 2);
  });

  it('says nothing where all is well', () => {
    const { log, entries } = createFakeLog();
    const ledger = openLedger({ base: newBase(), log, self: me });
    ledger.claim(by(me), NOW_MS);
    ledger.update(by(me, { phase: 'wait' }));
    ledger.finish(by(me), makeResult());
    assert.deepEqual(entries, []);
  });
});

describe('pruneRecords', () => {
  it('keeps the latest twenty, and never gives a number again', () => {
    const base = newBase();
    for (let round = 0; round < 25; round += 1) {
      endOne(open(base), me, makeResult({ outcome: 'cancelled' }));
    }
    pruneRecords(base);
    assert.deepEqual([readAll(base).length, readNewest(base)?.number], [20, 25]);
    assert.equal(open(base).claim(by(me), NOW_MS).record.number, 26);
  });
});
