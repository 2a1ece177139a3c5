import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { holdTcp } from '../support/clients.js';
import { withHeldDelay } from '../support/held-delay.js';
import {
  type Answer,
  earlierStatus,
  startOtherManager,
  withOtherManager,
} from '../support/other-manager.js';
import { statusOf, type TestPm2, withPm2 } from '../support/pm2.js';
import { eventually, patiently } from '../support/wait.js';

const CLI = join(resolve(import.meta.dirname, '../..'), 'bin/pm2-envoy.js');
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z /;

/** A command that goes on, with pipes for its output. */
interface Running {
  lines(): string[];
  notes(): string;
  child: ChildProcess;
  ended: Promise<number | null>;
}

function start({ env, folder }: TestPm2, ...args: string[]): Running {
  const child = spawn(process.execPath, [CLI, ...args], { env, cwd: folder });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk;
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk;
  });
  return {
    child,
    lines: () => stdout.split('\n').slice(0, -1),
    notes: () => stderr,
    ended: once(child, 'close').then(([code]) => (typeof code === 'number' ? code : null)),
  };
}

async function end({ child, ended }: Running): Promise<number | null> {
  child.kill('SIGINT');
  return ended;
}

const textOf = (line: string): string => line.replace(TIME, '');

describe('pm2-envoy status --watch in a pipe', { concurrency: 2 }, () => {
  it('prints a line for each change, also while the manager restarts, and ends with 0 at SIGINT', () =>
    withPm2({}, async (pm2) => {
      const watching = start(pm2, 'status', '--watch');
      const saw = (pattern: RegExp) =>
        patiently(`${pattern}`, () => {
          const lines = watching.lines();
          if (lines.map(textOf).some((line) => pattern.test(line))) return true;
          throw new Error(lines.join('\n') + watching.notes());
        });
      await saw(/^idle: 0 open, Envoy 1\.40\.0 LIVE \(generation 1\)/);
      const held = await holdTcp(pm2.ports.tcp);
      await saw(/^idle: 1 open \(1 tcp\), /);
      await pm2.pm2('stop', 'envoy-manager');
      await saw(
        /^idle: 1 open \(1 tcp\), .* can't be reached \(ECONNREFUSED\): asked Envoy directly/,
      );
      await pm2.pm2('start', 'envoy-manager');
      await patiently('the manager', async () => (await statusOf(pm2)).phase === 'idle');
      const drain = pm2.http('POST', '/shutdown');
      await saw(
        /^wait: 1 of 1 open \(1 tcp\), Envoy 1\.40\.0 DRAINING .*; at most \d+s left, .*1 on 127/,
      );
      held.close();
      await drain;
      await saw(/^drained: 0 open/);
      await pm2.pm2('stop', 'envoy', 'envoy-manager');
      await saw(/there is no Envoy in .*: trying again$/);
      assert.equal(await end(watching), 0);
      for (const line of watching.lines()) {
        assert.match(line, TIME);
        assert.doesNotMatch(line, /\p{Cc}/u);
      }
      const facts = watching.lines().map((line) => textOf(line).split(';')[0]);
      for (const [at, fact] of facts.entries()) assert.notEqual(fact, facts[at + 1]);
    }));

  it('with --json prints one document per line and change', () =>
    withPm2({}, async (pm2) => {
      const watching = start(pm2, 'status', '--watch', '--json');
      const documents = () => watching.lines().map((line) => JSON.parse(line));
      const saw = (what: string, isIt: (document: ReturnType<typeof JSON.parse>) => boolean) =>
        patiently(what, () => documents().some(isIt));
      await saw('idle', ({ phase }) => phase === 'idle');
      const held = await holdTcp(pm2.ports.tcp);
      await saw('the connection', ({ connections }) => connections.open === 1);
      held.close();
      await saw('its end', ({ connections }) => connections.open === 0);
      const facts = documents().map((document) => JSON.stringify(document, withoutTimes));
      for (const [at, fact] of facts.entries()) assert.notEqual(fact, facts[at + 1]);
      await pm2.pm2('stop', 'envoy', 'envoy-manager');
      await saw('the error', ({ error }) => error?.code === 'manager-unreachable');
      assert.equal(await end(watching), 0);
    }));

  it('ends when no one reads it any more', () =>
    withOtherManager(
      (call) => ({ body: earlierStatus(call) }),
      async (pm2) => {
        const child = spawn(
          'sh',
          ['-c', `'${process.execPath}' '${CLI}' status --watch | head -n 1`],
          {
            env: pm2.env,
            cwd: pm2.folder,
            stdio: ['ignore', 'pipe', 'inherit'],
          },
        );
        const [code] = await once(child, 'close');
        assert.equal(code, 0);
      },
    ));
});

describe('pm2-envoy status with another manager', { concurrency: 3 }, () => {
  it('shows what an earlier one says', () =>
    withOtherManager(
      () => ({ body: earlierStatus(2) }),
      async (pm2) => {
        const { code, stdout, stderr } = await pm2.cli('status');
        assert.deepEqual([code, stderr], [0, '']);
        assert.deepEqual(stdout.trimEnd().split('\n'), [
          'phase        idle',
          'envoy        1.39.3 LIVE, generation 1, pid 4711, up 1m, 2 workers',
          'connections  2 open (2 http1), 0 active requests',
          '       2  0.0.0.0_10000',
        ]);
        const watching = start(pm2, 'status', '--watch');
        await patiently('a line', () => watching.lines().length > 0);
        await end(watching);
        assert.equal(
          textOf(watching.lines()[0] ?? ''),
          'idle: 2 open (2 http1), Envoy 1.39.3 LIVE (generation 1)',
        );
        const { code: drained, stderr: why } = await pm2.cli('shutdown');
        assert.equal(drained, 1);
        assert.match(why, /is not a pm2-envoy manager; it answered .*not-found/);
      },
    ));

  const REFUSED: readonly [string, Answer, number, RegExp][] = [
    [
      'something else',
      () => ({ body: '<html>It works!</html>' }),
      1,
      /^pm2-envoy: what serves at http:\/\/127\.0\.0\.1:\d+ is not a pm2-envoy manager; it answered .*It works!.*: check serve-address and serve-port\n$/,
    ],
    ['JSON of something else', () => ({ body: { status: 'UP' } }), 1, /is not a pm2-envoy manager/],
    ['half a status', () => ({ body: { phase: 'idle', connections: 3 } }), 1, /is not a pm2-envoy/],
    [
      'a manager that wants another token',
      () => ({ status: 403, body: { error: { code: 'refused', message: 'wrong token' } } }),
      77,
      /^pm2-envoy: the manager at \S+ refused \(403\): wrong token; set the same PM2_ENVOY_SHUTDOWN_TOKEN .*\n$/,
    ],
  ];
  for (const [what, answer, code, says] of REFUSED) {
    it(`ends with ${code} at ${what}, with --watch too`, () =>
      withOtherManager(answer, async (pm2) => {
        for (const args of [['status'], ['status', '--watch'], ['status', '--watch', '--json']]) {
          const result = await pm2.cli(...args);
          assert.deepEqual([result.code, result.stdout], [code, ''], args.join(' '));
          assert.match(result.stderr, says);
        }
      }));
  }

  it('does not wait forever for one that hangs', () =>
    withOtherManager(
      (call) => (call === 1 ? undefined : { body: earlierStatus(call) }),
      async (pm2) => {
        const watching = start(pm2, 'status', '--watch');
        await patiently('two lines', () => watching.lines().length > 1);
        assert.match(watching.lines()[0] ?? '', /can't be reached \(no answer in time\)/);
        assert.match(watching.lines()[1] ?? '', /idle: 2 open/);
        await end(watching);
      },
    ));

  it('waits for one that is not there, and asks again', () =>
    withOtherManager(
      () => ({ body: earlierStatus(1) }),
      async (pm2, manager) => {
        await manager.close();
        const watching = start(pm2, 'status', '--watch');
        await patiently('a line', () => watching.lines().length > 0);
        assert.match(
          watching.lines()[0] ?? '',
          /ECONNREFUSED\), and there is no Envoy in .*: trying again/,
        );
        const again = await startOtherManager(() => ({ body: earlierStatus(7) }), manager.port);
        await eventually('the manager', () => /idle: 7 open/.test(watching.lines().at(-1) ?? ''));
        assert.equal(await end(watching), 0);
        await again.close();
      },
    ));

  it('ends with 5 without --watch when there is neither a manager nor an Envoy', () =>
    withPm2(
      {},
      async (pm2) => {
        const { code, stdout, stderr } = await pm2.cli('status');
        assert.deepEqual([code, stdout], [5, '']);
        assert.match(
          stderr,
          /^pm2-envoy: the manager at \S+ can't be reached \(ECONNREFUSED\), and there is no Envoy in /,
        );
      },
      false,
    ));
});

describe('pm2-envoy shutdown in a pipe', { concurrency: 2 }, () => {
  it('prints a line for each phase with its time on stderr, and the result on stdout', () =>
    withHeldDelay(async (pm2, endDelay) => {
      const held = await holdTcp(pm2.ports.tcp);
      const draining = start(pm2, 'shutdown');
      await patiently('delay', () => / delay: /.test(draining.notes()));
      endDelay();
      await eventually('wait', () => /wait: 1 of 1 open/.test(draining.notes()));
      held.close();
      assert.equal(await draining.ended, 0);
      const notes = draining.notes().trimEnd().split('\n');
      assert.deepEqual(
        // `close` is over before the next look, but not on a busy machine.
        notes
          .slice(0, -1)
          .map((line) => textOf(line).split(':')[0])
          .filter((phase) => phase !== 'close'),
        ['delay', 'wait', 'finish'],
        notes.join('\n'),
      );
      for (const line of notes.slice(0, -1)) assert.match(line, TIME);
      assert.match(
        notes[0] ?? '',
        / delay: 1 of 1 open \(1 tcp\); listeners close in <?\ds, at most \S+ left/,
      );
      assert.match(notes.at(-2) ?? '', / finish: drained, 0 of 1 open$/);
      assert.match(draining.lines().join('\n'), /^drained after [\d.]+s, 0 connections left$/);
    }));

  it('with --json has one document on stdout and nothing else', () =>
    withPm2({}, async (pm2) => {
      const { code, stdout, stderr } = await pm2.cli('shutdown', '--json');
      assert.equal(code, 0, stdout + stderr);
      assert.deepEqual(Object.keys(JSON.parse(stdout)).sort(), [
        ...['connectionsAtStart', 'connectionsLeft', 'durationMs', 'outcome', 'phase', 'startedAt'],
      ]);
      assert.equal(stdout.trimEnd().split('\n').length, 1);
    }));

  it('goes on by itself when the manager dies, and says so', () =>
    withPm2({}, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      const draining = start(pm2, 'shutdown');
      await patiently('wait', () => /wait: 1 of 1 open/.test(draining.notes()));
      process.kill(await pm2.pidOf('envoy-manager'), 'SIGKILL');
      await eventually('the note', () => /: draining Envoy directly/.test(draining.notes()));
      held.close();
      assert.equal(await draining.ended, 0);
      assert.match(draining.lines().join('\n'), /^drained after /);
    }));
});

/** Leaves out what changes all the time, as JSON.stringify() asks. */
function withoutTimes(key: string, value: unknown): unknown {
  const isTime =
    /^(deadline|timeLeftMs|paceLeftMs|newConnectionsPerSecond|uptimeSeconds|seenForMs|lastPoll)$/;
  return isTime.test(key) ? undefined : value;
}
