import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { after, describe, it } from 'node:test';
import { loadConfig } from '../../src/config/load.js';
import type { HostDrain } from '../../src/drain/host-drain.js';
import { type Generation, type Generations, openGenerations } from '../../src/host/generations.js';
import {
  identify,
  isAlive,
  ownIdentity,
  type ProcessIdentity,
} from '../../src/host/process-identity.js';
import { createPluginHost } from '../../src/plugins/host.js';
import type { OwnApp } from '../../src/pm2/own-app.js';
import { type StopContext, stopGeneration } from '../../src/runner/stop.js';
import {
  createFakeClock,
  createFakeLog,
  deadIdentity,
  type FakeClock,
  type FakeLog,
  makePm2Process,
  makeResult,
  makeTempFolder,
} from './fakes.js';

/** The instance that pm2 runs in this one's place; it has brought up no Envoy. */
const someReplacement = makePm2Process({ cwd: '/nowhere' });

const SECOND_MS = 1_000;
/** pm2 gives a new runner this long. */
const LISTEN_MS = 90 * SECOND_MS;

/** A process that stands for an Envoy or a runner. */
async function startSomething(): Promise<ProcessIdentity> {
  const child = spawn('sleep', ['600'], { stdio: 'ignore' });
  after(() => child.kill('SIGKILL'));
  await once(child, 'spawn');
  return identify(child.pid ?? 0) ?? assert.fail('it has ended at once');
}

interface Stage {
  context: StopContext;
  generations: Generations;
  /** This runner's generation, which serves. */
  own: Generation;
  clock: FakeClock;
  /** The instant at which this stage begins. */
  startMs: number;
  log: FakeLog;
  /** What was done to the host and the relay, in order. */
  done: string[];
  /** Writes down another generation, whose runner lives. */
  add(more?: Partial<Generation>): Promise<Generation>;
}

async function setUp(ownApp: Partial<OwnApp> = {}): Promise<Stage> {
  const runDir = makeTempFolder();
  const generations = openGenerations(runDir);
  const clock = createFakeClock();
  const log = createFakeLog();
  const { config } = loadConfig({ env: {}, cwd: '/nowhere' });
  const done: string[] = [];
  const hostDrain: Pick<HostDrain, 'drainForGood'> = {
    drainForGood: async () => {
      done.push('drain');
      return makeResult();
    },
  };
  const context: StopContext = {
    config,
    runDir,
    generations,
    hostDrain: hostDrain as HostDrain,
    host: createPluginHost({ config, log: log.log, plugins: [] }),
    log: log.log,
    limitMs: undefined,
    ownApp: {
      stopIntent: async () => 'stop',
      isEnding: async () => true,
      isStopping: async () => false,
      isWanted: async () => false,
      replacement: async () => someReplacement,
      removeReplaced: async () => false,
      ...ownApp,
    },
    leaveRelay: async () => void done.push('leave relay'),
    clock,
  };
  const add = async (more: Partial<Generation> = {}): Promise<Generation> => {
    const generation: Generation = {
      ...generations.reserve(),
      envoy: await startSomething(),
      runner: await startSomething(),
      startedAt: '2026-01-01T00:00:00.000Z',
      supervisor: undefined,
      version: '1.40.0',
      launch: undefined,
      ready: true,
      orphaned: false,
      ...more,
    };
    generations.write(generation);
    return generation;
  };
  const own = await add({ runner: ownIdentity() });
  return { context, generations, own, clock, startMs: clock.nowMs(), log, done, add };
}

describe('stopGeneration', () => {
  it('drains the host and ends Envoy where there is no other generation', async () => {
    const { context, own, done, clock } = await setUp();
    await stopGeneration(own, 'stop', context);
    assert.deepEqual(done, ['drain']);
    assert.equal(isAlive(own.envoy), false);
    assert.deepEqual(clock.sleeps, []);
  });

  it('drains the host where this runner’s own Envoy never was LIVE', async () => {
    const { context, done } = await setUp();
    await stopGeneration(undefined, 'stop', context);
    assert.deepEqual(done, ['drain']);
  });

  it('leaves a generation alone that another runner answers for by now', async () => {
    const { context, generations, own, log, done } = await setUp();
    generations.write({ ...own, runner: await startSomething() });
    for (const intent of ['stop', 'reload', 'restart'] as const) {
      await stopGeneration(own, intent, context);
    }
    assert.deepEqual(new Set(done), new Set(['leave relay']));
    assert.equal(isAlive(own.envoy), true);
    assert.match(log.of('info').join(), /another runner is responsible for generation 1 now/);
  });

  it('leaves Envoy to the next runner when pm2 restarts the app', async () => {
    const { context, own, log, done } = await setUp();
    await stopGeneration(own, 'restart', context);
    assert.deepEqual(done, ['leave relay']);
    assert.equal(isAlive(own.envoy), true);
    assert.match(
      log.of('info').join(),
      /pm2 restarts this app: generation 1 keeps running meanwhile/,
    );
  });

  it('serves while a newer generation is starting, and drains once that one is gone', async () => {
    const { context, generations, own, clock, startMs, done, add } = await setUp();
    const newer = await add({ ready: false });
    clock.at(startMs + 20 * SECOND_MS, () => generations.write({ ...newer, envoy: deadIdentity }));
    await stopGeneration(own, 'stop', context);
    assert.deepEqual(done, ['drain']);
    assert.ok(clock.nowMs() - startMs >= 20 * SECOND_MS);
    assert.ok(clock.nowMs() - startMs < 21 * SECOND_MS);
  });

  it('does not wait for a newer generation whose runner is dead', async () => {
    const { context, own, clock, done, add } = await setUp();
    await add({ ready: false, runner: deadIdentity });
    await stopGeneration(own, 'stop', context);
    assert.deepEqual([done, clock.sleeps], [['drain'], []]);
  });

  it('drains when a newer generation does not become LIVE for as long as pm2 waits', async () => {
    const { context, own, clock, startMs, done, add } = await setUp();
    await add({ ready: false });
    await stopGeneration(own, 'stop', context);
    assert.deepEqual(done, ['drain']);
    assert.ok(clock.nowMs() - startMs <= LISTEN_MS + SECOND_MS);
  });

  it('ends an Envoy whose run directory was removed, and says why', async () => {
    for (const again of [false, true]) {
      const { context, generations, own, log, done, add } = await setUp();
      rmSync(dirname(own.directory), { recursive: true });
      // A new runner begins at 1 again: that Envoy must be left alone.
      const stranger = again ? await add() : undefined;
      assert.equal(stranger?.number ?? 1, own.number);
      await stopGeneration(own, 'stop', context);
      assert.equal(isAlive(own.envoy), false);
      assert.deepEqual(done, ['leave relay']);
      assert.match(log.of('error').join(), /run directory of generation 1 was removed/);
      if (stranger) assert.equal(isAlive(stranger.envoy), true);
      assert.equal(generations.live().length, again ? 1 : 0);
    }
  });

  it('is told of a reload with no newer generation: keeps serving, and says so', async () => {
    const { context, own, clock, startMs, log, done } = await setUp({ isWanted: async () => true });
    await stopGeneration(own, 'reload', context);
    assert.deepEqual(done, ['leave relay']);
    assert.equal(isAlive(own.envoy), true);
    assert.ok(clock.nowMs() - startMs <= 16 * SECOND_MS);
    assert.match(log.of('error').join(), /generation 1 keeps serving without a runner/);
  });

  it('is told of a reload, but the app is to be stopped: drains', async () => {
    let wanted = true;
    const { context, own, clock, startMs, done } = await setUp({ isWanted: async () => wanted });
    clock.at(startMs + 3 * SECOND_MS, () => {
      wanted = false;
    });
    await stopGeneration(own, 'reload', context);
    assert.deepEqual(done, ['drain']);
    assert.equal(isAlive(own.envoy), false);
    assert.ok(clock.nowMs() - startMs < 4 * SECOND_MS);
  });

  it('ends an older generation that no one else runs together with its own', async () => {
    const { context, generations, own, add } = await setUp();
    generations.write({ ...own, runner: deadIdentity });
    const newest = await add({ runner: ownIdentity() });
    await stopGeneration(newest, 'stop', context);
    assert.deepEqual([isAlive(own.envoy), isAlive(newest.envoy)], [false, false]);
  });
});
