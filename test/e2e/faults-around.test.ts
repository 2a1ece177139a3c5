import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, watch, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import { identify, isAlive } from '../../src/host/process-identity.js';
import { holdTcp, request } from '../support/clients.js';
import { tableOf } from '../support/faults-page.js';
import { type TestGeneration, type TestHost, type TestProcess, withHost } from '../support/host.js';
import { eventually, letPass } from '../support/wait.js';

const LONG_MS = 60_000;
const HOUR_MS = 3_600_000;
const PHASES = ['fail-health', 'delay', 'close', 'wait'] as const;
const rows = new Map(tableOf('what happens').map((row) => [row['what happens'], row]));

describe('the table of docs/faults.md on what happens around a drain', () => {
  it('has a row for each test of this file', () => {
    assert.deepEqual([...rows.keys()].sort(), [...KNOWN].sort());
  });
});

const KNOWN = [
  'manager killed by SIGKILL',
  'runner killed by SIGKILL',
  'run directory read-only',
  'disk full',
  'wall clock set forward or back by an hour',
];
const outcomeOf = (what: string): string => rows.get(what)?.['outcome'] ?? '';

describe('manager killed by SIGKILL', { concurrency: 4 }, () => {
  for (const phase of PHASES) {
    it(`${phase}: its callers are cut off, the next manager ends the same drain`, () =>
      withHost({ 'drain-timeout': '60s' }, async (host) => {
        const manager = await host.startManager();
        const target = await host.startGeneration();
        const held = await holdTcp(target.ports.tcp);
        target.proxy.atPhase(phase, async () => {
          manager.kill('SIGKILL');
          await manager.exited;
        });
        await assert.rejects(host.http('POST', '/shutdown'), /fetch failed/);
        const before = target.record();
        await host.startManager();
        const second = host.http('POST', '/shutdown');
        await waits(target);
        await held.echo('still here');
        held.close();
        const { status, body } = await second;
        assert.deepEqual(
          [status, JSON.parse(body).outcome],
          [200, outcomeOf('manager killed by SIGKILL')],
        );
        assert.equal(
          JSON.parse(body).startedAt,
          before?.startedAt,
          'it is the drain that was begun',
        );
      }));
  }
});

describe('runner killed by SIGKILL', { concurrency: 4 }, () => {
  for (const phase of PHASES) {
    it(`${phase}: the manager ends the drain, the next runner serves and ends the old Envoy`, () =>
      withHost({ 'drain-timeout': '60s' }, async (host) => {
        await host.startManager();
        const { runner, ...target } = await host.startRunner();
        const held = await holdTcp(target.ports.tcp);
        const killed = new Promise<void>((done) => {
          target.proxy.atPhase(phase, async () => {
            runner.kill('SIGKILL');
            await runner.exited;
            done();
          });
        });
        runner.kill('SIGINT');
        await killed;
        const caller = host.http('POST', '/shutdown');
        await waits(target);
        await held.echo('still here');
        held.close();
        const { status, body } = await caller;
        assert.deepEqual(
          [status, JSON.parse(body).outcome],
          [200, outcomeOf('runner killed by SIGKILL')],
        );
        assert.equal(isAlive(target.generation.envoy), true, 'only a runner ends Envoy');
        const next = await host.startRunner();
        await eventually('the old Envoy to end', () => !isAlive(target.generation.envoy), LONG_MS);
        assert.equal((await request(next.ports.http)).status, 200);
      }));
  }
});

describe('a run directory that can’t be written', { concurrency: 4 }, () => {
  for (const [what, change] of [
    ['run directory read-only', (dir: string) => ['mount', '-o', 'remount,ro', dir]],
    ['disk full', (dir: string) => ['sh', '-c', `cat /dev/zero >${dir}/fill 2>/dev/null; :`]],
  ] as const) {
    for (const moment of ['before', 'delay', 'wait'] as const) {
      it(`${what}, ${moment}: the manager drains, with a warning`, () =>
        withHost({ 'drain-timeout': '60s' }, async (host) => {
          const target = await host.startGeneration();
          const held = await holdTcp(target.ports.tcp);
          const manager = await host.startManager({ wrapper: onSmallDisk(host) });
          const act = (): void => inside(manager, change(host.runDir));
          if (moment === 'before') act();
          else target.proxy.atPhase(moment, act);
          const first = host.http('POST', '/shutdown');
          const second = host.http('POST', '/shutdown');
          await eventually('it to wait', () => target.proxy.polls() > 1, LONG_MS);
          await held.echo('still here');
          held.close();
          const answers = await Promise.all([first, second]);
          for (const { status, body } of answers) {
            assert.deepEqual([status, JSON.parse(body).outcome], [200, outcomeOf(what)]);
          }
          assert.match(manager.output(), /the drain record can't be written/);
          assert.equal((await host.http('GET', '/healthz')).status, 200);
        }));
    }

    it(`${what} while a runner serves: told to stop, it drains and ends Envoy`, () =>
      withHost({ 'drain-timeout': '60s' }, async (host) => {
        const runner = await host.startApp('runner', { wrapper: onSmallDisk(host) });
        const pid = await eventually(
          'Envoy to be LIVE',
          () => /is LIVE: generation 1, pid (\d+)/.exec(runner.output())?.[1],
          LONG_MS,
        );
        const envoy = identify(Number(pid));
        inside(runner, change(host.runDir));
        runner.kill('SIGINT');
        assert.equal(await runner.exited, 0, runner.output());
        assert.match(runner.output(), /shutdown ended: drained/);
        assert.ok(envoy && !isAlive(envoy), 'Envoy has ended');
      }));
  }
});

describe('processes that follow a drain', () => {
  it('write nothing while they do', () =>
    withHost({ 'drain-timeout': '60s' }, async (host) => {
      await host.startManager();
      const { runner, ...target } = await host.startRunner();
      const held = await holdTcp(target.ports.tcp);
      const caller = host.http('POST', '/shutdown');
      await waits(target);
      runner.kill('SIGTERM');
      await eventually('it to hear', () => /SIGTERM: stopping/.test(runner.output()), LONG_MS);
      await eventually('its word', () => /continues in phase wait/.test(runner.output()), LONG_MS);
      const changes: string[] = [];
      const watched = watch(join(host.runDir, 'drains'), (_, name) => changes.push(`${name}`));
      // It looks at the record 20 times a second.
      await letPass(2_000);
      watched.close();
      assert.deepEqual(changes, []);
      held.close();
      assert.equal((await caller).status, 200);
      assert.equal(await runner.exited, 0, runner.output());
      const left = readdirSync(join(host.runDir, 'drains'));
      assert.deepEqual(
        left.filter((name) => name.endsWith('.draft')),
        [],
      );
    }));
});

describe('wall clock set forward or back by an hour', { concurrency: 4 }, () => {
  for (const offsetMs of [HOUR_MS, -HOUR_MS]) {
    for (const phase of ['delay', 'wait'] as const) {
      it(`${phase}, by ${offsetMs / HOUR_MS} h: the drain lasts as long as usual`, () =>
        withHost({ 'drain-timeout': '10s' }, async (host) => {
          const file = join(host.folder, 'shift');
          const hook = pathToFileURL(resolve(import.meta.dirname, '../support/shift-clock.mjs'));
          await host.startManager({ env: { NODE_OPTIONS: `--import ${hook}`, SHIFT_FILE: file } });
          const target = await host.startGeneration();
          const held = await holdTcp(target.ports.tcp);
          target.proxy.atPhase(phase, () => writeFileSync(file, String(offsetMs)));
          const { status, body } = await host.http('POST', '/shutdown');
          const { outcome, durationMs } = JSON.parse(body);
          const what = 'wall clock set forward or back by an hour';
          assert.deepEqual([status, outcome], [504, outcomeOf(what)]);
          assert.ok(durationMs >= 9_900 && durationMs < 60_000, `it took ${durationMs} ms`);
          await held.echo('still here');
          held.close();
          const shown = JSON.parse((await host.http('GET', '/status')).body).lastPoll.at;
          const shiftedMs = Date.parse(shown) - Date.now();
          assert.ok(Math.abs(shiftedMs - offsetMs) < 60_000, 'the clock was not set');
        }));
    }
  }
});

async function waits({ record, proxy }: Pick<TestGeneration, 'record' | 'proxy'>): Promise<void> {
  await eventually('the drain to wait', () => record()?.phase === 'wait', LONG_MS);
  const polled = proxy.polls();
  await eventually('another poll', () => proxy.polls() > polled, LONG_MS);
  assert.equal(record()?.result, undefined, 'the drain has ended with a connection open');
}

/** Runs a command with a small file system of its own as run directory, holding what was there. */
function onSmallDisk({ runDir }: TestHost): string[] {
  const script = `cp -a ${runDir} ${runDir}.seed && mount -t tmpfs -o size=256k,mode=700 tmpfs ${runDir} && cp -a ${runDir}.seed/. ${runDir} && exec "$@"`;
  const asRoot = process.getuid?.() === 0 ? [] : ['--user', '--map-root-user'];
  return ['unshare', ...asRoot, '--mount', 'sh', '-c', script, 'sh'];
}

/** Runs a command where a process sees its own file systems. */
function inside({ pid }: TestProcess, command: readonly string[]): void {
  const asRoot = process.getuid?.() === 0 ? [] : ['--user', '--preserve-credentials'];
  execFileSync('nsenter', ['--target', String(pid), ...asRoot, '--mount', ...command]);
}
