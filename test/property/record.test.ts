import assert from 'node:assert/strict';
import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { LONGEST_MS } from '../../src/config/duration.js';
import { createDrainer } from '../../src/drain/drainer.js';
import { type DrainRecord, openLedger } from '../../src/drain/record.js';
import { OUTCOMES, SHUTDOWN_EVENTS } from '../../src/drain/state.js';
import { readJson } from '../../src/host/files.js';
import { identify, ownIdentity } from '../../src/host/process-identity.js';
import {
  createFakeClock,
  createFakeEnvoy,
  createFakeLog,
  deadIdentity,
  drainConfig,
  makeRecord,
  makeResult,
  makeTempFolder,
  targetOf,
} from '../unit/fakes.js';
import { holds } from './check.js';
import { damaged } from './damage.js';
import { drainHost } from './drain-host.js';

const NOW_MS = 1_000_000;
const base = join(makeTempFolder(), 'host');
const file = `${base}-1-1.json`;
const resultFile = `${base}-1.result.json`;
const config = { ...drainConfig, checkDelayMs: 1_000, drainTimeoutMs: 8_000 };
const me = ownIdentity();
const another = identify(process.ppid) ?? assert.fail('who has started this?');

/** Records as a drain writes them, of this process, of one that lives and of one that is dead. */
const record: fc.Arbitrary<DrainRecord> = fc
  .record({
    phase: fc.constantFrom(...SHUTDOWN_EVENTS),
    ageMs: fc.integer({ min: 50_000, max: 70_000 }),
    delayed: fc.boolean(),
    connectionsAtStart: fc.option(fc.nat()),
    leader: fc.constantFrom(me, another, deadIdentity),
    envoyStartedAtMs: fc.option(fc.constantFrom(500_000, 501_000, 900_000), { nil: undefined }),
    outcome: fc.option(fc.constantFrom(...OUTCOMES), { nil: undefined }),
  })
  .map(({ ageMs, delayed, envoyStartedAtMs, outcome, ...more }) =>
    makeRecord(NOW_MS - ageMs, {
      ...more,
      ...(delayed ? { delayStartedAtMs: NOW_MS - ageMs } : {}),
      ...(envoyStartedAtMs === undefined ? {} : { envoyStartedAtMs }),
      ...(outcome === undefined ? {} : { result: makeResult({ outcome }) }),
    }),
  );

/** What the file of a record holds, and that of its result, if there is one. */
type Content = [string | Uint8Array, string | Uint8Array | undefined];

const content: fc.Arbitrary<Content> = record.chain(({ result, ...record }) => {
  const written = { version: 1, ...record };
  const ended = result && { ...result, startedAtMs: record.startedAtMs };
  return fc.tuple(soundOrDamaged(written), ended ? soundOrDamaged(ended) : fc.constant(undefined));
});

function soundOrDamaged(valid: object): fc.Arbitrary<string | Uint8Array> {
  const sound = fc.constant(JSON.stringify(valid));
  return fc.oneof({ weight: 2, arbitrary: sound }, { weight: 3, arbitrary: damaged(valid) });
}

/** Of a generation; or of an Envoy at `admin-address`, which may not say when it started. */
const foreign = fc.option(
  fc.record({ envoyStartedAtMs: fc.constantFrom(500_000, 900_000, undefined) }),
  { nil: undefined },
);

function open(foreign?: { envoyStartedAtMs: number | undefined }) {
  const { log } = createFakeLog();
  return openLedger({ base, log, self: me, ...(foreign ? { foreign } : {}) });
}

describe('openLedger over any file', () => {
  it('reads a record as it was written, and what is none as no record', () => {
    holds(
      fc.property(content, (content) => {
        put(content);
        const found = open().read();
        assert.deepEqual(found, whole(readJson(file), readJson(resultFile)));
      }),
      1_000,
    );
  });

  it('starts afresh where there is no record, and joins or takes over where there is one', () => {
    holds(
      fc.property(content, foreign, (content, foreign) => {
        put(content);
        const before = joinable(open(foreign).read());
        const fresh = makeRecord(NOW_MS);
        const { record, lead } = open(foreign).claim(fresh, NOW_MS);
        assert.equal(open(foreign).read() !== undefined, true);
        if (before) {
          const { ledSinceMs: _, ...joined } = record;
          const { ledSinceMs: __, ...first } = before;
          assert.deepEqual({ ...joined, leader: null, term: 1 }, { ...first, leader: null });
          assert.ok(record.term === 1 || lead);
        } else {
          assert.deepEqual({ record, lead }, { record: { ...fresh, number: 2 }, lead: true });
          assert.deepEqual(open(foreign).read(), { ...record, ...startOf(foreign) });
          assert.ok(existsSync(file), 'what was there is left alone');
        }
        if (record.result) assert.equal(lead, false, 'an ended drain is run again');
      }),
    );
  });

  it('gives no result of another Envoy, nor of one that can’t be compared', () => {
    holds(
      fc.property(content, fc.constantFrom(500_000, 900_000, undefined), (content, startedAtMs) => {
        put(content);
        const found = open({ envoyStartedAtMs: startedAtMs }).read();
        if (!found?.result) return;
        const { envoyStartedAtMs = Number.NaN } = found;
        assert.ok(Math.abs(envoyStartedAtMs - (startedAtMs ?? Number.NaN)) <= 3_000);
      }),
    );
  });
});

describe('createDrainer over any file', () => {
  it('ends in time, and is drained only if Envoy is, or if a record says how it ended', async () => {
    await holds(
      fc.asyncProperty(
        content,
        fc.constantFrom('shutdown', 'handover'),
        async (content, command) => {
          put(content);
          const before = joinable(open().read());
          // A wrong digit may make a deadline that is later, and as good as any.
          fc.pre(before === undefined || before.deadlineMs < NOW_MS + 60_000);
          const envoy = createFakeEnvoy(3);
          const clock = createFakeClock(NOW_MS);
          clock.at(NOW_MS + 600_000, () => assert.fail('it goes on and on'));
          const drainer = createDrainer({
            command,
            targets: [targetOf(envoy)],
            ledger: open(),
            config,
            host: drainHost,
            log: createFakeLog().log,
            clock,
          });
          const result = await drainer.drain();
          assert.ok(SHUTDOWN_EVENTS.includes(result.phase));
          const deadlineMs = before?.deadlineMs ?? NOW_MS + config.drainTimeoutMs;
          assert.ok(clock.nowMs() <= Math.max(deadlineMs, NOW_MS) + 6_000, `${clock.nowMs()}`);
          if (before?.result) assert.deepEqual(result, before.result);
          else assert.equal(result.outcome, 'timeout');
        },
      ),
      200,
    );
  });
});

/** Writes the first record; what else was there goes. */
function put([record, result]: Content): void {
  for (const name of readdirSync(dirname(file))) rmSync(join(dirname(file), name));
  writeFileSync(file, record);
  if (result !== undefined) writeFileSync(resultFile, result);
}

/** What the two files come to. */
function whole(json: unknown, ended: unknown): object | undefined {
  const { version, ...record } = membersOf(json);
  const its = /^[0-9a-f]{8}(?=:\d+$)/.exec(String(membersOf(record['leader'])['startTime']))?.[0];
  const isOfBoot = its === undefined || me.startTime.startsWith(its);
  if (version !== 1 || !isSound(record) || !isOfBoot) return undefined;
  const { startedAtMs, ...result } = membersOf(ended);
  const isEnded = startedAtMs === record['startedAtMs'] && isSoundResult(result);
  return { ...record, number: 1, term: 1, ...(isEnded ? { result } : {}) };
}

/** A drain that was cancelled is not joined. */
function joinable(found: DrainRecord | undefined): DrainRecord | undefined {
  return found?.result?.outcome === 'cancelled' ? undefined : found;
}

/** What a record has to be, member by member. */
function isSound(record: Record<string, unknown>): boolean {
  const { startedAtMs, deadlineMs, envoys, steps, startedBy, checkDelayMs } = record;
  if (!isNumber(startedAtMs) || !isNumber(deadlineMs)) return false;
  const isStep = (step: unknown): boolean =>
    isPhase(membersOf(step)['phase']) && typeof membersOf(step)['at'] === 'string';
  return (
    isPhase(record['phase']) &&
    typeof record['startedAt'] === 'string' &&
    deadlineMs >= startedAtMs &&
    deadlineMs - startedAtMs <= LONGEST_MS &&
    isTime(record['delayStartedAtMs']) &&
    isTime(record['envoyStartedAtMs']) &&
    isCount(record['connectionsAtStart']) &&
    isProcess(record['leader']) &&
    Array.isArray(envoys) &&
    envoys.every(isProcess) &&
    Array.isArray(steps) &&
    steps.every(isStep) &&
    isCount(checkDelayMs) &&
    (startedBy === null || typeof membersOf(startedBy)['kind'] === 'string')
  );
}

function isSoundResult(result: Record<string, unknown>): boolean {
  return (
    OUTCOMES.some((outcome) => outcome === result['outcome']) &&
    isPhase(result['phase']) &&
    typeof result['startedAt'] === 'string' &&
    isCount(result['durationMs']) &&
    result['durationMs'] !== null &&
    isCount(result['connectionsAtStart']) &&
    isCount(result['connectionsLeft'])
  );
}

function membersOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}

function isNumber(value: unknown): value is number {
  return Number.isFinite(value);
}

function isTime(value: unknown): boolean {
  return value === undefined || isNumber(value);
}

function isCount(value: unknown): boolean {
  return value === null || (isNumber(value) && value >= 0);
}

function isPhase(value: unknown): boolean {
  return SHUTDOWN_EVENTS.some((event) => event === value);
}

function isProcess(value: unknown): boolean {
  const { pid, startTime } = membersOf(value);
  return Number.isInteger(pid) && typeof startTime === 'string';
}

function startOf(foreign: { envoyStartedAtMs: number | undefined } | undefined): object {
  return foreign?.envoyStartedAtMs === undefined ? {} : foreign;
}
