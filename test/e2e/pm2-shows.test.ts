import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { parseDuration } from '../../src/config/duration.js';
import { type Held, holdTcp, holdWebSocket } from '../support/clients.js';
import { envoyBinary } from '../support/envoy.js';
import { residentMb } from '../support/memory.js';
import { statusOf, type TestPm2, withPm2 } from '../support/pm2.js';
import { appShown, type ShownApp } from '../support/pm2-shows.js';
import { eventually, patiently } from '../support/wait.js';

/** Asking pm2 itself takes some 0.15 s, more on a busy machine. */
const IDLE_LIMIT_MS = 30_000;
const DRAIN_LIMIT_MS = 20_000;

const metricsOf = async (pm2: TestPm2): Promise<ShownApp['metrics']> =>
  (await appShown(pm2, 'envoy-manager')).metrics;

/** Waits until the manager shows these. */
async function shows(
  pm2: TestPm2,
  wanted: Record<string, number | string>,
  withinMs: number,
): Promise<ShownApp['metrics']> {
  return eventually(
    JSON.stringify(wanted),
    async () => {
      const metrics = await metricsOf(pm2);
      const isShown = Object.entries(wanted).every(([name, value]) => metrics[name] === value);
      if (!isShown) throw new Error(JSON.stringify(metrics));
      return metrics;
    },
    withinMs,
  );
}

function secondsIn(timeLeft: number | string | undefined): number {
  return parseDuration(String(timeLeft)) / 1_000;
}

describe('pm2 show envoy-manager', { concurrency: 2 }, () => {
  it('has the open connections and the phase: idle, in a drain, after it', () =>
    withPm2({ 'drain-timeout': '3m' }, async (pm2) => {
      await shows(pm2, { 'open connections': 0, phase: 'idle' }, IDLE_LIMIT_MS);
      const held: Held[] = [await holdTcp(pm2.ports.tcp), await holdWebSocket(pm2.ports.http)];
      const idle = await shows(pm2, { 'open connections': 2, phase: 'idle' }, IDLE_LIMIT_MS);
      assert.deepEqual(Object.keys(idle), ['open connections', 'phase']);

      const answer = pm2.http('POST', '/shutdown');
      await eventually('the drain to wait', async () => (await statusOf(pm2)).phase === 'wait');
      const { 'time left': left } = await shows(pm2, { phase: 'wait' }, DRAIN_LIMIT_MS);
      assert.ok(secondsIn(left) > 90 && secondsIn(left) <= 180, `time left: ${left}`);
      held[0]?.close();
      const later = await shows(pm2, { 'open connections': 1, outcome: '-' }, DRAIN_LIMIT_MS);
      const text = await pm2.pm2('show', 'envoy-manager');
      assert.match(
        text,
        /│ open connections │ 1 +│\n│ phase +│ wait +│\n│ time left +│ \d[\dms]+ +│/,
      );
      assert.match(text, /│ shutdown │\n│ resume +│\n│ status +│/);

      await eventually('the time left to shrink', async () => {
        return secondsIn((await metricsOf(pm2))['time left']) < secondsIn(later['time left']);
      });
      held[1]?.close();
      assert.equal((await answer).status, 200);
      const over = { phase: 'finish', outcome: 'drained', 'time left': '-', 'open connections': 0 };
      await shows(pm2, over, DRAIN_LIMIT_MS);

      await pm2.pm2('reload', 'envoy');
      await shows(pm2, { phase: 'idle', outcome: '-', 'open connections': 0 }, IDLE_LIMIT_MS);
    }));

  it('has those of a drain that another process leads', () =>
    withPm2({ 'drain-timeout': '3m' }, async (pm2) => {
      const held = [await holdTcp(pm2.ports.tcp), await holdTcp(pm2.ports.tcp)];
      const stopping = pm2.pm2('stop', 'envoy');
      await shows(pm2, { phase: 'wait', 'open connections': 2 }, IDLE_LIMIT_MS);
      held[0]?.close();
      await shows(pm2, { phase: 'wait', 'open connections': 1 }, DRAIN_LIMIT_MS);
      held[1]?.close();
      await stopping;
      await shows(pm2, { 'open connections': 0, 'time left': '-' }, IDLE_LIMIT_MS);
    }));

  it('says that a drain was cancelled', () =>
    withPm2({ 'check-delay': '2m', 'drain-timeout': '3m' }, async (pm2) => {
      const answer = pm2.http('POST', '/shutdown');
      await shows(pm2, { phase: 'delay' }, DRAIN_LIMIT_MS);
      await pm2.http('DELETE', '/shutdown');
      await answer;
      await shows(pm2, { phase: 'idle', 'time left': '-', outcome: '-' }, DRAIN_LIMIT_MS);
    }));
});

describe('pm2 show envoy', { concurrency: 2 }, () => {
  /** Waits until pm2 shows exactly what is true of the generation in service. */
  async function showsGeneration(pm2: TestPm2, number: number, version: string): Promise<void> {
    await patiently(`generation ${number}`, async () => {
      const app = await appShown(pm2, 'envoy');
      assert.deepEqual(app.metrics, { 'envoy version': version, generation: number });
      const envoy = pm2.generations().find((one) => one.number === number)?.envoy;
      assert.equal(app.memoryPid, envoy?.pid);
      // It grows at its start.
      const realMb = residentMb(envoy?.pid ?? 0);
      const shownMb = app.memoryBytes / 1024 / 1024;
      assert.ok(Math.abs(shownMb - realMb) < realMb / 10, `${shownMb} MB shown of ${realMb}`);
      return true;
    });
  }
  const runnerPid = (pm2: TestPm2): number => pm2.generations().at(-1)?.runner.pid ?? 0;

  it('has Envoy’s version, generation and memory after start, reload, and a reload that failed', () =>
    withPm2({}, async (pm2) => {
      await showsGeneration(pm2, 1, '1.40.0');
      const text = await pm2.pm2('show', 'envoy');
      assert.match(text, /│ envoy version │ 1\.40\.0 +│\n│ generation +│ 1 +│/);

      pm2.env['ENVOY_BIN'] = envoyBinary('OLDER_ENVOY_BIN');
      await pm2.pm2('reload', 'envoy', '--update-env');
      await showsGeneration(pm2, 2, '1.39.3');

      const before = runnerPid(pm2);
      const bootstrap = breakBootstrap(pm2);
      await assert.rejects(pm2.pm2('reload', 'envoy'));
      assert.notEqual(runnerPid(pm2), before, 'another runner has adopted it');
      await showsGeneration(pm2, 2, '1.39.3');

      bootstrap.restore();
      await pm2.pm2('reload', 'envoy');
      await showsGeneration(pm2, 3, '1.39.3');
    }));

  it('has them of an Envoy that a restart, or a runner that was killed, has left to the next', () =>
    withPm2({ 'drain-timeout': '3m' }, async (pm2) => {
      const bootstrap = breakBootstrap(pm2);
      await pm2.pm2('restart', 'envoy');
      await showsGeneration(pm2, 1, '1.40.0');

      const held = await holdTcp(pm2.ports.tcp);
      bootstrap.restore();
      process.kill(runnerPid(pm2), 'SIGKILL');
      await showsGeneration(pm2, 2, '1.40.0');
      assert.equal(pm2.generations().length, 2, 'the first one still waits for its connection');
      held.close();
    }));
});

function breakBootstrap(pm2: TestPm2): { restore(): void } {
  const file = join(pm2.folder, 'envoy.yaml');
  const good = readFileSync(file, 'utf8');
  writeFileSync(file, 'no_such_field: 1\n');
  return { restore: () => writeFileSync(file, good) };
}
