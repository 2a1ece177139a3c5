import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { type DrainLedger, type DrainRecord, openLedger } from '../../src/drain/record.js';
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

function newFile(): string {
  return join(makeTempFolder(), 'shutdown.json');
}

function open(file: string, self = me): DrainLedger {
  return openLedger({ file, self, log: createFakeLog().log });
}

/** As for an Envoy that pm2-envoy did not start; undefined: it could not be asked. */
function openForeign(file: string, envoyStartedAtMs: number | undefined, self = me): DrainLedger {
  return openLedger({ file, self, foreign: { envoyStartedAtMs }, log: createFakeLog().log });
}

/** A record as `self` would make it. */
function by(self: ProcessIdentity, more: Partial<DrainRecord> = {}): DrainRecord {
  return makeRecord(NOW_MS, { leader: self, ...more });
}

describe('openLedger claim', () => {
  it('makes the record and leads where there is none', () => {
    const file = newFile();
    const ledger = open(file);
    assert.equal(ledger.read(), undefined);
    assert.deepEqual(ledger.claim(by(me), NOW_MS), { record: by(me), lead: true });
    assert.deepEqual(ledger.read(), by(me));
  });

  it('keeps the record to this user and leaves no drafts', () => {
    const file = newFile();
    const ledger = open(file);
    ledger.claim(by(me), NOW_MS);
    ledger.update(by(me, { phase: 'wait' }));
    assert.equal(statSync(file).mode & 0o777, 0o600);
    assert.deepEqual(readdirSync(join(file, '..')), ['shutdown.json']);
  });

  it('joins the drain of a leader that lives, with its clock and not its own', async () => {
    const file = newFile();
    const leader = await startLeader();
    const first = by(leader.identity, { phase: 'wait', connectionsAtStart: 7 });
    open(file, leader.identity).claim(first, NOW_MS);
    const own = makeRecord(NOW_MS + 30_000);
    assert.deepEqual(open(file).claim(own, NOW_MS + 30_000), { record: first, lead: false });
    assert.deepEqual(open(file).read(), first);
  });

  it('takes over from a leader that has died, where it was, with the time that is left', async () => {
    const file = newFile();
    const leader = await startLeader();
    const first = by(leader.identity, { phase: 'close', connectionsAtStart: 7 });
    open(file, leader.identity).claim(first, NOW_MS);
    leader.child.kill('SIGKILL');
    await once(leader.child, 'exit');
    const claimed = open(file).claim(makeRecord(NOW_MS + 9_000), NOW_MS + 9_000);
    assert.deepEqual(claimed, { record: { ...first, leader: me }, lead: true });
    assert.deepEqual(open(file).read(), { ...first, leader: me });
  });

  it('takes over from a leader that is stopped', async () => {
    const file = newFile();
    const leader = await startLeader();
    open(file, leader.identity).claim(by(leader.identity), NOW_MS);
    leader.child.kill('SIGSTOP');
    await reaches('stopped', () => conditionOf(leader.identity) === 'stopped');
    assert.equal(open(file).claim(by(me), NOW_MS).lead, true);
  });

  it('takes over from another process that has got the pid of the leader', () => {
    const file = newFile();
    const earlier = { pid: process.ppid, startTime: 'earlier' };
    open(file, earlier).claim(by(earlier), NOW_MS);
    assert.equal(open(file).claim(by(me), NOW_MS).lead, true);
  });

  it('takes over from a leader only well after its deadline', async () => {
    const file = newFile();
    const { identity } = await startLeader();
    const first = by(identity);
    open(file, identity).claim(first, NOW_MS);
    assert.equal(open(file).claim(by(me), first.deadlineMs).lead, false);
    assert.equal(open(file).claim(by(me), first.deadlineMs + 1_000).lead, false);
    assert.equal(open(file).claim(by(me), first.deadlineMs + 10_000).lead, true);
  });

  it('leads on where this process leads already', () => {
    const file = newFile();
    open(file).claim(by(me), NOW_MS);
    open(file).update(by(me, { phase: 'delay' }));
    const again = open(file).claim(by(me), NOW_MS + 5);
    assert.equal(again.lead, true);
    assert.equal(again.record.phase, 'delay');
  });

  it('lets exactly one of two that come at once make the record', async () => {
    const file = newFile();
    const { identity } = await startLeader();
    const claims = [open(file, identity).claim(by(identity), NOW_MS)];
    claims.push(open(file).claim(by(me), NOW_MS));
    assert.deepEqual(
      claims.map(({ lead }) => lead),
      [true, false],
    );
  });

  it('does not run a drain again that has ended', () => {
    const file = newFile();
    const ended = by(me, { phase: 'finish', result: makeResult() });
    open(file).claim(by(me), NOW_MS);
    open(file).update(ended);
    for (const nowMs of [NOW_MS, NOW_MS + 10_000_000]) {
      const claimed = open(file).claim(makeRecord(nowMs), nowMs);
      assert.deepEqual(claimed, { record: ended, lead: false });
    }
  });

  const unreadable = [
    '',
    '{',
    'null',
    '[]',
    '"drained"',
    '{"phase": "finish"}',
    JSON.stringify(by(me, { startedAtMs: Number.NaN })),
    JSON.stringify({ ...by(me), phase: 'napping' }),
    JSON.stringify({ ...by(me), deadlineMs: '5' }),
    JSON.stringify({ ...by(me), leader: null }),
    JSON.stringify({ ...by(me), leader: { pid: '1' } }),
    JSON.stringify({ ...by(me), leader: { pid: 1 } }),
    JSON.stringify({ result: makeResult() }),
    JSON.stringify({ ...by(me), result: null }),
    JSON.stringify({ ...by(me), result: 'drained' }),
    JSON.stringify({ ...by(me), result: { outcome: 'drained' } }),
    JSON.stringify({ ...by(me), result: makeResult({ connectionsLeft: -1 }) }),
    JSON.stringify({ ...by(me), deadlineMs: NOW_MS - 1 }),
    JSON.stringify({ ...by(me), deadlineMs: 1e300 }),
    JSON.stringify({ ...by(me), delayStartedAtMs: 'now' }),
    JSON.stringify({ ...by(me), envoyStartedAtMs: false }),
    JSON.stringify({ ...by(me), connectionsAtStart: 'many' }),
    JSON.stringify({ ...by(me), leader: { pid: 1.5, startTime: 'x' } }),
  ];
  for (const content of unreadable) {
    it(`starts afresh over a file that holds … ${JSON.stringify(content.slice(-40))}`, () => {
      const file = newFile();
      writeFileSync(file, content);
      assert.equal(open(file).read(), undefined);
      assert.deepEqual(open(file).claim(by(me), NOW_MS), { record: by(me), lead: true });
      assert.deepEqual(open(file).read(), by(me));
    });
  }
});

describe('openLedger with the start of a foreign Envoy', () => {
  it('notes the start in the record, also when it is updated', () => {
    const file = newFile();
    const ledger = openForeign(file, 500_000);
    assert.equal(ledger.claim(by(me), NOW_MS).record.envoyStartedAtMs, 500_000);
    ledger.update(by(me, { phase: 'wait' }));
    assert.equal(ledger.read()?.envoyStartedAtMs, 500_000);
  });

  it('does not take the drain of an earlier Envoy for that of this one', () => {
    const file = newFile();
    const earlier = openForeign(file, 500_000);
    earlier.claim(by(me), NOW_MS);
    earlier.update(by(me, { phase: 'finish', result: makeResult() }));
    const ledger = openForeign(file, 900_000);
    assert.equal(ledger.read(), undefined);
    const claimed = ledger.claim(by(me), NOW_MS);
    assert.equal(claimed.lead, true);
    assert.equal(claimed.record.result, undefined);
    assert.equal(ledger.read()?.envoyStartedAtMs, 900_000);
  });

  it('starts afresh beside a leader that still drains an earlier Envoy', async () => {
    const file = newFile();
    const { identity } = await startLeader();
    openForeign(file, 500_000, identity).claim(by(identity), NOW_MS);
    assert.equal(openForeign(file, 900_000).claim(by(me), NOW_MS).lead, true);
  });

  it('knows the Envoy again though its start is told to the second', () => {
    const file = newFile();
    const ledger = openForeign(file, 500_000);
    ledger.claim(by(me), NOW_MS);
    ledger.update(by(me, { phase: 'finish', result: makeResult() }));
    for (const startedAtMs of [499_000, 501_000]) {
      assert.equal(openForeign(file, startedAtMs).read()?.result?.outcome, 'drained');
    }
  });

  it('does not take the end of a drain that noted no start for that of the Envoy that answers', () => {
    const file = newFile();
    const silent = openForeign(file, undefined);
    silent.claim(by(me), NOW_MS);
    silent.update(by(me, { phase: 'finish', result: makeResult({ outcome: 'envoy-gone' }) }));
    const ledger = openForeign(file, 900_000);
    assert.equal(ledger.read(), undefined);
    assert.equal(ledger.claim(by(me), NOW_MS).lead, true);
  });

  it('gives no result while the Envoy can’t be asked whether it is the same', () => {
    const file = newFile();
    const ledger = openForeign(file, 500_000);
    ledger.claim(by(me), NOW_MS);
    ledger.update(by(me, { phase: 'finish', result: makeResult() }));
    const { record, lead } = openForeign(file, undefined).claim(by(me), NOW_MS);
    assert.equal(lead, true);
    assert.equal(record.result, undefined);
  });

  it('joins a drain that is under way though the starts can’t be compared', async () => {
    const { identity } = await startLeader();
    const pairs: readonly [number | undefined, number | undefined][] = [
      [undefined, 500_000],
      [500_000, undefined],
      [undefined, undefined],
    ];
    for (const [theirs, ours] of pairs) {
      const file = newFile();
      openForeign(file, theirs, identity).claim(by(identity), NOW_MS);
      assert.equal(openForeign(file, ours).claim(by(me), NOW_MS).lead, false);
    }
  });

  it('forgets the record of an earlier boot, whose clock may have shown the same time', () => {
    const file = newFile();
    const leader = { pid: 77, startTime: 'deadbeef:12345' };
    const old = by(leader, { phase: 'finish', result: makeResult(), envoyStartedAtMs: 10_000 });
    writeFileSync(file, JSON.stringify(old));
    const ledger = openForeign(file, 10_500);
    assert.equal(ledger.read(), undefined);
    assert.equal(ledger.claim(by(me), NOW_MS).lead, true);
  });
});

describe('openLedger isLeader', () => {
  it('holds until another process that runs has taken over, or the drain has ended', async () => {
    const file = newFile();
    const leader = await startLeader();
    const ledger = open(file);
    const own = by(me);
    assert.equal(ledger.isLeader(own, NOW_MS), true, 'nothing is written down');
    ledger.claim(own, NOW_MS);
    assert.equal(ledger.isLeader(own, NOW_MS), true);
    writeFileSync(file, JSON.stringify(by(leader.identity)));
    assert.equal(ledger.isLeader(own, NOW_MS), false);
    leader.child.kill('SIGKILL');
    await once(leader.child, 'exit');
    assert.equal(ledger.isLeader(own, NOW_MS), true, 'the other one is dead');
    writeFileSync(file, JSON.stringify(by(me, { phase: 'finish', result: makeResult() })));
    assert.equal(ledger.isLeader(own, NOW_MS), false);
  });

  it('holds for all of those that are late, so that none waits for another', async () => {
    const file = newFile();
    const { identity } = await startLeader();
    writeFileSync(file, JSON.stringify(by(identity)));
    const { deadlineMs } = by(me);
    assert.equal(open(file).isLeader(by(me), deadlineMs + 1_000), false);
    assert.equal(open(file).isLeader(by(me), deadlineMs + 10_000), true);
  });

  it('is not about another drain', async () => {
    const file = newFile();
    const { identity } = await startLeader();
    writeFileSync(file, JSON.stringify(makeRecord(NOW_MS + 500, { leader: identity })));
    assert.equal(open(file).isLeader(by(me), NOW_MS + 500), true);
  });
});

describe('openLedger update', () => {
  it('writes down progress and the result', () => {
    const ledger = open(newFile());
    ledger.claim(by(me), NOW_MS);
    ledger.update(by(me, { phase: 'delay', delayStartedAtMs: NOW_MS + 5 }));
    assert.deepEqual(ledger.read(), by(me, { phase: 'delay', delayStartedAtMs: NOW_MS + 5 }));
    ledger.update(by(me, { phase: 'finish', result: makeResult() }));
    assert.deepEqual(ledger.read()?.result, makeResult());
  });

  it('never overwrites another leader', async () => {
    const file = newFile();
    const { identity } = await startLeader();
    const first = open(file);
    first.claim(by(me), NOW_MS);
    const taken = by(identity, { phase: 'wait' });
    writeFileSync(file, JSON.stringify(taken));
    first.update(by(me, { phase: 'close' }));
    first.update(by(me, { phase: 'finish', result: makeResult({ outcome: 'timeout' }) }));
    assert.deepEqual(first.read(), taken);
  });

  it('takes the first result where leader and follower are both late', async () => {
    const file = newFile();
    const { identity } = await startLeader();
    writeFileSync(file, JSON.stringify(by(identity, { phase: 'wait' })));
    const first = makeResult({ outcome: 'timeout', durationMs: 70_000 });
    open(file).update(by(me, { phase: 'finish', result: first }));
    open(file, identity).update(by(identity, { phase: 'finish', result: makeResult() }));
    assert.deepEqual(open(file).read()?.result, first);
  });

  it('never overwrites a result, not even its own', () => {
    const ledger = open(newFile());
    ledger.claim(by(me), NOW_MS);
    ledger.update(by(me, { phase: 'finish', result: makeResult() }));
    ledger.update(by(me, { phase: 'wait' }));
    ledger.update(by(me, { phase: 'finish', result: makeResult({ outcome: 'timeout' }) }));
    assert.equal(ledger.read()?.result?.outcome, 'drained');
  });

  it('writes the record again where somebody has removed it', () => {
    const file = newFile();
    const ledger = open(file);
    ledger.update(by(me, { phase: 'wait' }));
    assert.equal(open(file).read()?.phase, 'wait');
  });
});

describe('openLedger where nothing can be written', () => {
  const places: readonly [string, () => string][] = [
    ['no folder', () => '/nowhere/at/all/shutdown.json'],
    [
      'a file in place of the folder',
      () => {
        const file = join(makeTempFolder(), 'file');
        writeFileSync(file, '');
        return join(file, 'shutdown.json');
      },
    ],
    ['a folder that takes nothing', () => '/proc/self/shutdown.json'],
  ];
  for (const [what, place] of places) {
    it(`leads by itself and warns once (${what})`, () => {
      const file = place();
      const { log, of } = createFakeLog();
      const ledger = openLedger({ file, log, self: me });
      assert.deepEqual(ledger.claim(by(me), NOW_MS), { record: by(me), lead: true });
      assert.equal(ledger.claim(by(me), NOW_MS).lead, true);
      ledger.update(by(me, { phase: 'wait' }));
      ledger.update(by(me, { phase: 'finish', result: makeResult() }));
      assert.equal(ledger.read(), undefined);
      assert.equal(of('warn').length, 1, of('warn').join('\n'));
      assert.match(of('warn')[0] ?? '', /drain record can't be written/);
    });
  }

  it('says nothing where all is well', () => {
    const { log, entries } = createFakeLog();
    const ledger = openLedger({ file: newFile(), log, self: me });
    ledger.claim(by(me), NOW_MS);
    ledger.update(by(me, { phase: 'wait' }));
    assert.deepEqual(entries, []);
  });

  it('warns rather than fails where a folder lies in the place of the record', () => {
    const folder = makeTempFolder();
    const { log, of } = createFakeLog();
    const ledger = openLedger({ file: folder, log, self: me });
    chmodSync(folder, 0o700);
    assert.equal(ledger.claim(by(me), NOW_MS).lead, true);
    assert.equal(of('warn').length, 1);
    assert.ok(existsSync(folder));
  });
});
