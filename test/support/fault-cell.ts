import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import type { DrainResult } from '../../src/drain/state.js';
import { conditionOf, isAlive } from '../../src/host/process-identity.js';
import type { AdminFault } from './admin-proxy.js';
import { type Held, holdTcp } from './clients.js';
import type { Expected, FaultPhase } from './faults-page.js';
import type { TestGeneration, TestHost } from './host.js';
import { eventually, patiently } from './wait.js';

/**
 * Faults that are for good end at the deadline, which has to come soon, but not before the last phase has begun on
 * a busy machine; the others end by themselves.
 */
const DRAIN_TIMEOUT_MS = { forGood: 8_000, other: 180_000 } as const;
/** What a busy machine may add to the limits that the page names. */
const BUSY_MS = 5_000;
const STOPPED_MS = 1_000;
/** An answer of 10 MB takes its time where many processes want to run. */
const PATIENCE_MS = 150_000;
/** 10 a second, for as long as a drain to the deadline lasts, and what a caller asks besides. */
const MOST_REQUESTS: number = DRAIN_TIMEOUT_MS.forGood / 100 + 40;

type Target = Pick<TestGeneration, 'generation' | 'proxy' | 'record' | 'ports'>;
type Cause = (target: Target) => void | Promise<void>;

const admin =
  (fault: AdminFault): Cause =>
  ({ proxy }) =>
    proxy.setFault(fault);
const signal = (name: NodeJS.Signals, { generation }: Target): void => {
  process.kill(generation.envoy.pid, name);
};

/** How each row of docs/faults.md is brought about. */
export const CAUSES: Readonly<Record<string, Cause>> = {
  'Envoy killed by SIGKILL': async (target) => {
    signal('SIGKILL', target);
    target.proxy.close();
    await patiently('Envoy to be gone', () => !isAlive(target.generation.envoy));
  },
  'Envoy stopped by SIGSTOP': (target) => signal('SIGSTOP', target),
  'Envoy stopped for 1 s': (target) => {
    signal('SIGSTOP', target);
    setTimeout(() => isAlive(target.generation.envoy) && signal('SIGCONT', target), STOPPED_MS);
  },
  'admin answers after 300 ms': admin('slow'),
  'admin answers 10 MB': admin('10 MB'),
  'admin answers 500': admin('500'),
  'admin answers another page': admin('garbage'),
  'admin answers no HTTP': admin('noise'),
  "admin's answers break off": admin('truncated'),
  'admin never answers': admin('never'),
};

/** One cell of the matrix. */
export interface Cell {
  fault: string;
  phase: FaultPhase;
  expected: Expected;
}

/** Settings of the manager or runner that these cells are for. */
export function settingsFor(cells: readonly Expected[]): Record<string, unknown> {
  const isForGood = cells.some(({ ending }) => ending === 'at the deadline');
  const timeoutMs = isForGood ? DRAIN_TIMEOUT_MS.forGood : DRAIN_TIMEOUT_MS.other;
  return { 'drain-timeout': `${timeoutMs}ms`, 'check-interval': '1s' };
}

/** Two callers of one manager, and one that comes later. */
export async function drainOverHttp(host: TestHost, cell: Cell): Promise<void> {
  const target = await host.startGeneration();
  const held = await holdTcp(target.ports.tcp);
  try {
    const fault = await prepareFault(target, cell);
    const ask = (): Promise<Answer> => ask_(host);
    const first = ask();
    const second = ask();
    await endDrain(first, { target, held, cell, fault });
    const answer = await first;
    assertAnswer(answer, { cell, fault });
    if (cell.phase === 'after') await CAUSES[cell.fault]?.(target);
    const askedMs = Date.now();
    const later = await ask();
    // Without an Envoy there is no drain that callers could share: each is told so again.
    if (target.record()) {
      assert.deepEqual(await second, answer, 'two callers are told the same');
      assert.deepEqual(later, answer, 'who asks later is told the same');
    }
    assert.equal(later.result?.outcome, cell.expected.outcome);
    assert.ok(Date.now() - askedMs < 1_000 + BUSY_MS, 'and at once');
    await assertEnvoy(target, { held, cell });
  } finally {
    held.close();
    await endEnvoy(target);
  }
}

/** A manager that is told to end. */
export async function drainBySigterm(host: TestHost, cell: Cell): Promise<void> {
  const [manager, target] = await Promise.all([host.startManager(), host.startGeneration()]);
  const held = await holdTcp(target.ports.tcp);
  const fault = await prepareFault(target, cell);
  if (cell.phase === 'after') {
    // SIGTERM comes after a drain that has ended.
    const answer = ask_(host);
    await endDrain(answer, { target, held, cell, fault });
    assertAnswer(await answer, { cell, fault });
    await CAUSES[cell.fault]?.(target);
    manager.kill('SIGTERM');
    assert.equal(await manager.exited, 0);
    return;
  }
  manager.kill('SIGTERM');
  const exited = manager.exited.then((code) => assert.equal(code, 0, manager.output()));
  await endDrain(exited, { target, held, cell, fault });
  await exited;
  const result = target.record()?.result;
  if (cell.expected.outcome === 'envoy-gone' && !result) {
    assert.match(manager.output(), /there is no Envoy: nothing to drain|ended: envoy-gone/);
  } else {
    assertAnswer({ status: cell.expected.status, result }, { cell, fault });
  }
  await assertEnvoy(target, { held, cell });
  held.close();
}

/** A runner that pm2 stops: it signals by SIGINT. */
export async function stopRunner(host: TestHost, cell: Cell): Promise<void> {
  const { runner, ...target } = await host.startRunner();
  const held = await holdTcp(target.ports.tcp);
  const fault = await prepareFault(target, cell);
  runner.kill('SIGINT');
  const exited = runner.exited.then((code) => assert.equal(code, 0, runner.output()));
  await endDrain(exited, { target, held, cell, fault });
  await exited;
  assertAnswer({ status: cell.expected.status, result: target.record()?.result }, { cell, fault });
  assert.equal(isAlive(target.generation.envoy), false, 'Envoy is left');
  held.close();
}

interface Answer {
  status: number;
  result: DrainResult | undefined;
}

async function ask_(host: TestHost): Promise<Answer> {
  const { status, body } = await host.http('POST', '/shutdown');
  return { status, result: JSON.parse(body) };
}

interface Fault {
  /** When it began. */
  atMs(): number | undefined;
}

/** Brings the fault about at its phase; one that begins before the drain is there when this resolves. */
async function prepareFault(target: Target, { fault, phase }: Cell): Promise<Fault> {
  let atMs: number | undefined;
  const begin = async (): Promise<void> => {
    atMs = Date.now();
    await CAUSES[fault]?.(target);
  };
  if (phase === 'before') await begin();
  else if (phase !== 'after') target.proxy.atPhase(phase, begin);
  return { atMs: () => atMs };
}

/** Ends the connection through Envoy once the drain waits for nothing else. */
async function endDrain(
  ended: Promise<unknown>,
  { target, held, cell, fault }: { target: Target; held: Held; cell: Cell; fault: Fault },
): Promise<void> {
  const { ending } = cell.expected;
  if (ending === 'as before') held.close();
  if (ending !== 'when empty') return;
  let early: unknown;
  void ended.then(
    (answer) => {
      early = answer ?? record()?.result ?? 'ended';
    },
    () => undefined,
  );
  const { proxy, record } = target;
  await eventually('the drain to wait', () => record()?.phase === 'wait', PATIENCE_MS);
  const polled = proxy.polls();
  await eventually('the fault', () => fault.atMs() !== undefined, PATIENCE_MS);
  await eventually('another poll', () => early || proxy.polls() > polled, PATIENCE_MS);
  await held.echo('still here');
  assert.equal(early, undefined, 'the drain has ended with a connection open');
  held.close();
}

function assertAnswer(
  { status, result }: Answer,
  { cell, fault }: { cell: Cell; fault: Fault },
): void {
  const { outcome, ending, withinMs } = cell.expected;
  assert.deepEqual([status, result?.outcome], [cell.expected.status, outcome]);
  const { durationMs = Number.NaN, connectionsLeft } = result ?? {};
  if (ending === 'at the deadline') {
    const deadlineMs = DRAIN_TIMEOUT_MS.forGood;
    assert.ok(durationMs >= deadlineMs - 100, `it was given up after ${durationMs} ms`);
    assert.ok(durationMs <= deadlineMs + withinMs + BUSY_MS, `it took ${durationMs} ms`);
    assert.equal(connectionsLeft, null, 'what can’t be counted is not known');
  } else {
    assert.equal(connectionsLeft, 0);
  }
  const atMs = fault.atMs();
  if (ending === 'at once' && atMs !== undefined) {
    const endedMs = Date.parse(result?.startedAt ?? '') + durationMs;
    assert.ok(
      endedMs - atMs <= withinMs + BUSY_MS,
      `it ended ${endedMs - atMs} ms after the fault`,
    );
  }
}

/** Envoy keeps serving wherever it can, and is not asked more often than promised. */
async function assertEnvoy(
  { generation, proxy }: Target,
  { held, cell }: { held: Held; cell: Cell },
): Promise<void> {
  const isKilled = cell.fault === 'Envoy killed by SIGKILL';
  const isStopped = cell.fault === 'Envoy stopped by SIGSTOP';
  assert.equal(isAlive(generation.envoy), !isKilled);
  if (!isKilled) {
    await patiently(
      'Envoy’s condition',
      () => conditionOf(generation.envoy) === (isStopped ? 'stopped' : 'running'),
    );
  }
  if (cell.expected.outcome === 'admin-unreachable') {
    assert.equal(held.isCut(), false, 'a connection was cut');
    if (!isStopped) await held.echo('still here');
  }
  assert.ok(proxy.requests() <= MOST_REQUESTS, `Envoy was asked ${proxy.requests()} times`);
}

async function endEnvoy({ generation }: Target): Promise<void> {
  if (isAlive(generation.envoy)) process.kill(generation.envoy.pid, 'SIGKILL');
  await patiently('Envoy to end', () => !isAlive(generation.envoy));
}

/** The processes that a process has started and not reaped. */
export function childrenOf(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((task) => {
    const text = readText(`/proc/${pid}/task/${task}/children`);
    return text.split(' ').filter(Boolean).map(Number);
  });
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
