import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { cpus } from 'node:os';
import type { TestContext } from 'node:test';
import { createAdminClient } from '../../src/admin/client.js';
import { migratesAcceptQueues } from '../../src/host/accept-queue.js';
import type { Generation } from '../../src/host/generations.js';
import { isAlive } from '../../src/host/process-identity.js';
import { startBackendProcess } from './backend.js';
import { preparePm2, type TestPm2 } from './pm2.js';
import {
  describeTraffic,
  startTraffic,
  type Traffic,
  type TrafficOptions,
  type TrafficReport,
} from './traffic.js';
import { eventually, patiently } from './wait.js';

/** A pm2 of the test's own whose Envoy is busy. */
export interface BusyPm2 {
  pm2: TestPm2;
  traffic: Traffic;
  /**
   * Replaces the generation in service by what `act` does (a pm2 command, usually), while a TCP
   * connection and a WebSocket are held on it.
   *
   * @returns milliseconds until the command has come back and the old Envoy has ended
   */
  replace(act: () => Promise<unknown>): Promise<number>;
}

/** What there is to choose. */
export interface BusyOptions {
  /** pm2-envoy's configuration file. */
  settings?: Record<string, unknown>;
  traffic?: Partial<TrafficOptions>;
  /** Variables of pm2 and its apps. */
  env?: NodeJS.ProcessEnv;
}

/**
 * Over `envoy-drain-time` Envoy asks more and more clients to leave. With 10 minutes, as it is by
 * default, the last of the busy ones leaves some 5 s later than with this.
 */
export const QUICK: Readonly<Record<string, unknown>> = { 'envoy-drain-time': '15s' };

/** A generation that does not become LIVE, or end, within this time is a fault. */
const LIMIT_MS = 60_000;

/**
 * Runs `use` with traffic on a pm2 of its own, and fails when something was lost. Where
 * `net.ipv4.tcp_migrate_req` is 0 and can't be set, closing a listener may reset what waits in its
 * accept queue: then one request in 1,000 may be lost.
 *
 * `use` gives what else is to be shown, such as the times that were measured.
 */
export async function underLoad(
  t: TestContext,
  options: BusyOptions,
  use: (busy: BusyPm2) => Promise<string>,
): Promise<TrafficReport> {
  const pm2 = await preparePm2(options.settings, startBackendProcess);
  let traffic: Traffic | undefined;
  try {
    Object.assign(pm2.env, options.env);
    await pm2.start();
    traffic = await startTraffic(pm2.ports, options.traffic);
    const busy = { pm2, traffic };
    const shown = await use({ ...busy, replace: (act) => replace(busy, act) }).catch(
      async (error: unknown) => {
        const report = await traffic?.look();
        if (report) t.diagnostic(describeTraffic(report));
        throw error;
      },
    );
    const report = await traffic.stop();
    t.diagnostic(`${shown}; ${describeTraffic(report)}`);
    assertNothingLost(t, report);
    return report;
  } finally {
    traffic?.kill();
    await pm2.stop();
  }
}

/** Replaces the generation in service again and again by a pm2 command. */
export async function inARow(
  t: TestContext,
  command: 'reload' | 'restart',
  options: BusyOptions & {
    rounds: number;
    /** Rounds count from 1. */
    afterEach?: (pm2: TestPm2, round: number) => Promise<void>;
  },
): Promise<void> {
  await underLoad(t, options, async ({ pm2, replace }) => {
    const timesMs: number[] = [];
    for (let round = 1; round <= options.rounds; round += 1) {
      timesMs.push(await replace(() => pm2.pm2(command, 'envoy')));
      await options.afterEach?.(pm2, round);
    }
    return `${command}: ${describeTimes(timesMs)}`;
  });
}

/** Runs `use` while every core has a process that never rests. */
export async function withBusyCores(use: () => Promise<void>): Promise<void> {
  // They end by themselves when this process is killed.
  const code = 'const parent = process.ppid; while (process.ppid === parent);';
  const loops = cpus().map(() => spawn(process.execPath, ['-e', code], { stdio: 'ignore' }));
  try {
    await use();
  } finally {
    for (const loop of loops) loop.kill('SIGKILL');
  }
}

/** `3 times, median 3.1 s, at most 4.0 s`, of milliseconds. */
export function describeTimes(timesMs: readonly number[]): string {
  const sorted = timesMs.toSorted((a, b) => a - b);
  const seconds = (ms = Number.NaN): string => `${(ms / 1_000).toFixed(1)} s`;
  const median = sorted[Math.floor(sorted.length / 2)];
  return `${sorted.length} times, median ${seconds(median)}, at most ${seconds(sorted.at(-1))}`;
}

async function replace(
  { pm2, traffic }: Omit<BusyPm2, 'replace'>,
  act: () => Promise<unknown>,
): Promise<number> {
  const [old, ...more] = pm2.generations();
  assert.ok(old && more.length === 0, 'one generation is in service');
  await traffic.hold();
  const startedMs = performance.now();
  const acted = act();
  const failed = acted.then(() => new Promise<never>(() => undefined));
  const next = eventually(
    'the new generation to be LIVE',
    () => pm2.generations().some(({ number, ready }) => number > old.number && ready),
    LIMIT_MS,
  );
  await Promise.race([next, failed]);
  await Promise.race([listenersClosed(old), failed]);
  await traffic.echo();
  await traffic.letGo();
  await acted;
  await eventually('the old Envoy to end', () => !isAlive(old.envoy), LIMIT_MS);
  return performance.now() - startedMs;
}

/** From then on whatever the old generation still has is what it had before. */
async function listenersClosed(generation: Generation): Promise<void> {
  const admin = createAdminClient({ kind: 'unix', path: generation.adminSocket });
  const filter = '^listener_manager\\.listener_stopped$';
  await patiently("the old generation's listeners to close", async () => {
    const { stats } = await admin.stats({ type: 'Counters', filter });
    return stats.some(({ value }) => value > 0);
  }).finally(() => admin.close());
}

function assertNothingLost(t: TestContext, report: TrafficReport): void {
  const { requests, lost, kinds, closedUnannounced } = report;
  const migrates = migratesAcceptQueues() === true;
  const allowed = migrates ? 0 : Math.floor(requests / 1_000);
  if (!migrates) t.diagnostic(`tcp_migrate_req can't be set: up to ${allowed} may be lost`);
  assert.ok(lost <= allowed, `lost ${lost}, allowed ${allowed}: ${describeTraffic(report)}`);
  for (const kind of ['tcp', 'websocket', 'readyz'] as const) {
    assert.equal(kinds[kind].lost, 0, `${kind}: ${describeTraffic(report)}`);
  }
  assert.equal(closedUnannounced, 0, 'keep-alive connections were told before they were closed');
}
