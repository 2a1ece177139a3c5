import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { DrainConfig } from '../../src/drain/run.js';
import { SHUTDOWN_EVENTS } from '../../src/drain/state.js';
import { holds } from './check.js';
import {
  type Action,
  createWorld,
  type World,
  type WorldOptions,
  type Written,
} from './drain-world.js';
import type { SimEnvoy } from './sim-envoy.js';

const config = fc
  .record({
    checkDelayMs: fc.constantFrom(0, 1_500),
    quietPeriodMs: fc.constantFrom(0, 0, 400),
    minOpenConnections: fc.constantFrom(0, 0, 2),
    drainUntil: fc.constantFrom<DrainConfig['drainUntil']>(
      'connections',
      'connections',
      'requests',
    ),
  })
  .map(
    (more): DrainConfig => ({
      checkIntervalMs: 400,
      checkIntervalMinMs: 50,
      drainTimeoutMs: 6_000,
      ignoreListeners: [],
      drainListeners: 'all',
      ...more,
    }),
  );

const options: fc.Arbitrary<WorldOptions> = fc.record({
  config,
  foreign: fc.constantFrom(false, false, true),
  latencyMs: fc.constantFrom(1, 20),
  hookMs: fc.constantFrom(0, 30),
  open: fc.constantFrom(3, 0, 1),
});

const who = fc.nat(2);
const call: fc.Arbitrary<Action> = who.map((who) => ({ kind: 'call', who }));
const connections: fc.Arbitrary<Action> = fc
  .tuple(fc.constantFrom(-9, -1, 1, 2), fc.nat(2))
  .map(([change, busy]) => ({ kind: 'connections', change, busy }));
const turn: fc.Arbitrary<Action> = fc
  .tuple(who, fc.constantFrom('dead', 'dead', 'stopped', 'stuck', 'running', 'running'))
  .map(([who, state]) => ({ kind: 'turn', who, state }));
const admin: fc.Arbitrary<Action> = fc
  .constantFrom('answering', 'answering', 'hanging', 'failing', 'refusing')
  .map((mode) => ({ kind: 'admin', mode }));
const other: fc.Arbitrary<Action> = fc.constantFrom<Action>(
  { kind: 'restart manager' },
  { kind: 'envoy ends' },
  { kind: 'envoy starts' },
  { kind: 'reload', fails: false },
  { kind: 'reload', fails: true },
  { kind: 'resume', who: 2 },
);
const meddling: fc.Arbitrary<Action> = fc.constantFrom<Action>(
  { kind: 'disk', isFull: true },
  { kind: 'disk', isFull: false },
  { kind: 'record', content: undefined },
  { kind: 'record', content: '{"phase": "finish", "result": {"outcome": "drained"}}' },
);

interface Step {
  afterMs: number;
  action: Action;
}
const planOf = (...actions: fc.Arbitrary<Action>[]): fc.Arbitrary<Step[]> =>
  fc
    .array(
      fc.record({
        afterMs: fc.oneof(fc.nat(100), fc.nat(1_000), fc.nat(3_000)),
        action: fc.oneof(...actions),
      }),
      { maxLength: 12 },
    )
    // Until the first call nothing happens that matters.
    .map((steps) => [{ afterMs: 0, action: { kind: 'call', who: 1 } }, ...steps]);

/** When a follower takes over from a leader that does not come to an end (record.ts). */
const OVERDUE_MS = 5_000;

describe('a drain, whatever happens', () => {
  it('is led by one, goes forward, ends in time, and says the truth to every caller', async () => {
    const plan = planOf(call, call, connections, turn, admin, other);
    await holds(
      fc.asyncProperty(options, plan, async (options, plan) => {
        await play(options, plan, (world) => {
          checkForward(world);
          checkTruth(world, options.config, plan);
          checkInTime(world, options, plan);
          if (!options.foreign || isUntroubled(plan)) checkAnswers(world);
          checkLeads(world, options, plan);
          checkEnvoys(world, options, plan);
          checkNothingAbandoned(world);
        });
      }),
      200,
    );
  });

  it('is not drained where a reload has brought the host back during its last hooks', async () => {
    const config: DrainConfig = {
      ...{ checkIntervalMs: 400, checkIntervalMinMs: 50, drainTimeoutMs: 6_000 },
      ...{ checkDelayMs: 1_500, quietPeriodMs: 0, minOpenConnections: 2 },
      ...{
        ignoreListeners: [],
        drainListeners: 'all' as const,
        drainUntil: 'connections' as const,
      },
    };
    for (let afterMs = 550; afterMs < 700; afterMs += 3) {
      await play(
        { config, foreign: false, latencyMs: 20, hookMs: 30, open: 1 },
        [
          { afterMs: 0, action: { kind: 'call', who: 1 } },
          { afterMs: 2, action: { kind: 'call', who: 0 } },
          { afterMs, action: { kind: 'reload', fails: false } },
        ],
        (world) => checkTruth(world, config, []),
      );
    }
  });

  it('ends in time with the truth though its record is meddled with', async () => {
    const plan = planOf(call, call, connections, turn, admin, other, meddling, meddling);
    await holds(
      fc.asyncProperty(options, plan, async (options, plan) => {
        await play(options, plan, (world) => {
          checkTruth(world, options.config, plan);
          checkInTime(world, options, plan);
        });
      }),
      100,
    );
  });
});

/** Takes a world through a plan, and to the end of its drains. */
async function play(
  options: WorldOptions,
  plan: readonly Step[],
  check: (world: World) => void,
): Promise<void> {
  const world = createWorld(options);
  try {
    for (const { afterMs, action } of plan) {
      await world.clock.run(world.clock.nowMs() + afterMs);
      world.act(action);
    }
    const isOver = (): boolean => waiting(world).length === 0;
    await world.clock.run(world.clock.nowMs() + 60_000, isOver);
    // No one waits for it, but the manager looks after it.
    if (world.isWatched()) await world.clock.run(world.clock.nowMs() + 20_000);
    check(world);
  } finally {
    world.close();
  }
}

/** Callers that have no answer though their process runs. */
function waiting({ callers }: World) {
  return callers.filter(({ who, answer }) => !answer && who.state() === 'running');
}

/** A record keeps its deadline, goes from phase to phase and not back, and its result stays. */
function checkForward({ writes }: World): void {
  for (const [index, { file, record }] of writes.entries()) {
    const before = writes.slice(0, index).findLast((written) => written.file === file)?.record;
    if (!before || before.startedAtMs !== record.startedAtMs) continue;
    assert.equal(record.deadlineMs, before.deadlineMs);
    assert.ok(SHUTDOWN_EVENTS.indexOf(record.phase) >= SHUTDOWN_EVENTS.indexOf(before.phase));
    assert.equal(before.result, undefined, 'a record with a result was written again');
  }
}

/** Every result is what Envoy showed; `drained` is said of the whole host. */
function checkTruth(world: World, config: DrainConfig, plan: readonly Step[]): void {
  const isRefusing = plan.some(
    ({ action }) => action.kind === 'admin' && action.mode === 'refusing',
  );
  for (const written of world.writes) {
    const { host, atMs, record } = written;
    const { result, deadlineMs } = record;
    // A leader of a drain whose record was changed has its own clock.
    if (!result || (world.wasMeddledWith() && result.outcome !== 'drained')) continue;
    const looks = world.looks.filter(({ by, atMs }) => by === written.by && atMs <= written.atMs);
    const last = looks.at(-1)?.seen;
    const isFew = host.open <= config.minOpenConnections;
    const isCalm = config.drainUntil === 'requests' && host.busy <= config.minOpenConnections;
    switch (result.outcome) {
      case 'drained':
        assert.ok(isFew || isCalm || isForeign(world), 'drained with connections open');
        // One that its owner has started in the place of another is left alone.
        assert.ok(
          host.taking === 0 || isForeign(world),
          'drained while an Envoy takes connections',
        );
        break;
      case 'timeout':
        assert.ok(atMs >= deadlineMs && (last || world.envoys.length > 1));
        break;
      case 'admin-unreachable':
        // One that forbids to close its listeners takes connections for good: nothing is left to wait for.
        assert.ok(atMs >= deadlineMs || isRefusing);
        // Or it could not be told to close its listeners.
        assert.ok(!last || host.taking > 0 || world.envoys.length > 1, 'Envoy had answered');
        break;
      case 'envoy-gone':
        assert.ok(world.envoys.some(({ process }) => process.state() === 'dead'));
        assert.equal(result.connectionsLeft, 0);
        if (!isForeign(world))
          assert.equal(host.taking, 0, 'gone while an Envoy takes connections');
        break;
      default:
        break;
    }
  }
}

function isForeign({ envoys }: World): boolean {
  return envoys[0]?.generation === undefined;
}

/** What the last calls to Envoy may take beyond the deadline (two of them to close the listeners), and the hooks. */
function slackMs({ hookMs }: WorldOptions): number {
  return 6 * 500 + 5 * hookMs + 200;
}

/** No one waits forever, and without trouble no one waits beyond the deadline. */
function checkInTime(world: World, options: WorldOptions, plan: readonly Step[]): void {
  assert.deepEqual(waiting(world), []);
  const { drainTimeoutMs } = options.config;
  const troubleMs = lastTroubleMs(world, plan);
  for (const { calledAtMs, answer } of world.callers) {
    if (!answer) continue;
    const limitMs = Math.max(calledAtMs, troubleMs + OVERDUE_MS) + drainTimeoutMs;
    assert.ok(answer.atMs <= limitMs + slackMs(options), `answered after ${answer.atMs} ms`);
  }
  for (const { by, atMs, record } of world.writes) {
    const isUndisturbed = !plan.some(({ action: { kind } }) => DISTURBANCES.includes(kind));
    if (!record.result || !by || !isUndisturbed) continue;
    assert.ok(
      atMs <= record.deadlineMs + slackMs(options),
      `ended ${atMs - record.deadlineMs} ms late`,
    );
  }
}

/** What may make a drain end later than its deadline: someone has to take over, or begins again. */
const DISTURBANCES: readonly Action['kind'][] = ['turn', 'restart manager', 'record', 'disk'];

/** When a process, a record or Envoy last changed from outside; 0: they did not. */
function lastTroubleMs(world: World, plan: readonly Step[]): number {
  let atMs = world.callers[0]?.calledAtMs ?? 0;
  let troubleMs = 0;
  for (const { afterMs, action } of plan) {
    atMs += afterMs;
    if (action.kind !== 'call' && action.kind !== 'connections' && action.kind !== 'admin') {
      troubleMs = atMs;
    }
  }
  return troubleMs;
}

/** Whether an Envoy at admin-address could always say when it started. */
function isUntroubled(plan: readonly Step[]): boolean {
  return plan.every(({ action }) => action.kind === 'call' || action.kind === 'connections');
}

/** Everyone is told what a record says. */
function checkAnswers(world: World): void {
  for (const { answer, envoy } of world.callers) {
    if (!answer) continue;
    const results = world.writes.flatMap(({ record }) => record.result ?? []);
    const isNothing = answer.result.outcome === 'envoy-gone' && answer.result.durationMs === 0;
    const isRecorded = results.some((result) => isSame(result, answer.result));
    assert.ok(
      isRecorded || (isNothing && !isAlive(envoy)),
      `${JSON.stringify(answer)} is in no record`,
    );
  }
}

function isAlive(envoy: SimEnvoy | undefined): boolean {
  return envoy !== undefined && envoy.process.state() !== 'dead';
}

/** The manager goes on with a drain whose leader has died, and that no one waits for. */
function checkNothingAbandoned(world: World): void {
  const last = world.writes.at(-1)?.record;
  const envoy = world.envoys.at(-1);
  if (!world.isWatched() || !isAlive(envoy) || !last || last.result) return;
  if (envoy && !world.isOf(envoy, { record: last } as Written)) return;
  const leader = world.writes.find(({ by }) => by?.identity.pid === last.leader.pid)?.by;
  if (leader?.state() !== 'stuck') assert.fail('a drain was abandoned');
}

function isSame(one: object, other: object): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

/** One leads, and no one does again once there is a result. */
function checkLeads(world: World, options: WorldOptions, plan: readonly Step[]): void {
  const kinds = new Set(plan.map(({ action }) => action.kind));
  const isHanging = plan.some(({ action }) => action.kind === 'admin' && action.mode === 'hanging');
  // A leader that was stopped, and goes on, calls Envoy once more before it looks at the record.
  const momentMs = 600 + options.hookMs + (isHanging ? 5_000 : 0);
  const allowedMs = kinds.has('turn') ? momentMs : 0;
  if (options.foreign) return;
  assert.ok(world.overlapMs() <= allowedMs, `two led for ${world.overlapMs()} ms`);
  for (const { file, fromMs } of world.leads) {
    const ended = endOf(world, `host-${file}`);
    assert.ok(!ended || fromMs <= ended.atMs, 'an ended drain was run again');
  }
}

function endOf({ writes }: World, file: string): Written | undefined {
  return writes.find((written) => written.file === file && written.record.result);
}

/** Listeners are closed after the health check has failed, and not before check-delay is over. */
function checkEnvoys(world: World, options: WorldOptions, plan: readonly Step[]): void {
  assert.deepEqual(world.wrongs, []);
  const kinds = new Set(plan.map(({ action }) => action.kind));
  // A hand-over closes them too.
  if (options.foreign || kinds.has('reload') || kinds.has('envoy starts') || kinds.has('resume'))
    return;
  const { config } = options;
  const isTroubled = plan.some(({ action }) => action.kind === 'admin');
  for (const envoy of world.envoys) {
    const { failedAtMs, closedAtMs } = envoy;
    if (closedAtMs === undefined) continue;
    const begun = world.writes.find((written) => world.isOf(envoy, written));
    assert.ok(begun, 'listeners were closed without a drain');
    if (!isTroubled) assert.ok(failedAtMs !== undefined && failedAtMs < closedAtMs);
    const waitedMs = closedAtMs - begun.record.startedAtMs;
    const isDue = waitedMs >= config.checkDelayMs || closedAtMs >= begun.record.deadlineMs;
    assert.ok(isDue || config.quietPeriodMs > 0, `closed after ${waitedMs} ms`);
    const ended = endOf(world, begun.file);
    assert.ok(
      !ended || closedAtMs <= ended.atMs,
      'listeners were closed after the drain had ended',
    );
  }
}
