import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { type Held, holdTcp, holdWebSocket } from '../support/clients.js';
import { earlierStatus, withOtherManager } from '../support/other-manager.js';
import { statusOf, type TestPm2, withPm2 } from '../support/pm2.js';
import { openTerminal, type TerminalSize, type TestTerminal } from '../support/terminal.js';
import { eventually, letPass } from '../support/wait.js';

/** Opens the command line in a terminal, and closes it after `use`. */
async function inTerminal(
  pm2: TestPm2,
  args: readonly string[],
  use: (terminal: TestTerminal) => Promise<void>,
  options: { size?: TerminalSize; env?: NodeJS.ProcessEnv } = {},
): Promise<void> {
  const { NO_COLOR: _, CI: __, ...env } = pm2.env;
  const terminal = await openTerminal(args, {
    cwd: pm2.folder,
    ...options,
    env: { ...env, ...options.env },
  });
  try {
    await use(terminal);
  } finally {
    await terminal.close();
  }
}

const ESCAPE = '\u001b';

const atPhase = (pm2: TestPm2, phase: string) =>
  eventually(`the phase ${phase}`, async () => (await statusOf(pm2)).phase === phase);

/** Whoever hides the cursor shows it again. */
function checkCursor(terminal: TestTerminal): void {
  const written = terminal.written();
  assert.ok(written.lastIndexOf('[?25h') > written.lastIndexOf('[?25l'), 'the cursor is back');
}

async function hold(pm2: TestPm2): Promise<Held[]> {
  const { tcp, http } = pm2.ports;
  return Promise.all([holdTcp(tcp), holdTcp(tcp), holdTcp(tcp), holdWebSocket(http)]);
}

describe('pm2-envoy shutdown on a terminal', { concurrency: 2 }, () => {
  it('shows phase after phase, what holds the drain, and how it ended', () =>
    withPm2({ 'check-delay': '3s' }, async (pm2) => {
      const held = await hold(pm2);
      await inTerminal(pm2, ['shutdown'], async (terminal) => {
        await terminal.shows(/^ {2}▸ delay +<?\ds, at most \ds more$/);
        const rows = await terminal.shows(/^ {2}▸ wait/);
        assert.match(
          rows[0] ?? '',
          /^Draining generation 1 \(Envoy 1\.40\.0\) since \d\d:\d\d:\d\d, for /,
        );
        assert.deepEqual(
          rows.slice(1, 4).map((row) => row.trim().split(/ +/)),
          [
            ['✓', 'fail-health', '<1s'],
            ['✓', 'delay', '3s'],
            ['✓', 'close', '<1s'],
          ],
        );
        const text = rows.join('\n');
        assert.match(text, /^ {2}░{40} {2}0 of 4 connections gone, 4 left$/m);
        assert.match(text, /^deadline {5}in \d+s, at \d\d:\d\d:\d\d$/m);
        assert.match(
          text,
          /^connections {2}4 open \(1 http1, 3 tcp, 1 websocket\), 1 active request$/m,
        );
        assert.match(text, new RegExp(`^ {7}3 {2}127\\.0\\.0\\.1_${pm2.ports.tcp}$`, 'm'));
        assert.match(
          text,
          new RegExp(`^ +<?\\ds {2}127.0.0.1:\\d+ to 127.0.0.1:${pm2.ports.tcp}$`, 'm'),
        );
        held.pop()?.close();
        await terminal.shows(/█{10}░{30} {2}1 of 4 connections gone, 3 left/);
        await terminal.shows(/^pace {9}done in about \d+s, as connections end now/);
        for (const one of held) one.close();
        assert.equal(await terminal.ended, 0);
        const last = terminal.rows();
        assert.match(
          last[0] ?? '',
          /^Drain of generation 1 \(Envoy 1\.40\.0\): drained after \d+s$/,
        );
        assert.match(last.join('\n'), /█{40} {2}4 of 4 connections gone, 0 left\ndrained after /);
        assert.equal(terminal.hasWrapped(), false);
        assert.ok(terminal.written().includes(`${ESCAPE}[32m`), 'with colours');
        checkCursor(terminal);
      });
    }));

  const SIZES: readonly TerminalSize[] = [
    { width: 20, height: 24 },
    { width: 40, height: 24 },
    { width: 80, height: 10 },
    { width: 120, height: 30 },
  ];
  it('fits into any terminal, with nothing left over of what was shown before', () =>
    withPm2({ 'check-delay': '2s' }, async (pm2) => {
      const held = await hold(pm2);
      const shown = SIZES.map((size) =>
        inTerminal(
          pm2,
          ['shutdown'],
          async (terminal) => {
            await terminal.shows(/^ *▸ delay/);
            const rows = await terminal.shows(/^ *▸ wait/);
            assert.ok(rows.length < size.height, `${rows.length} rows of ${size.height}`);
            assert.equal(rows.filter((row) => /delay/.test(row)).length, 1, rows.join('\n'));
            await terminal.ended;
            const [first] = terminal.rows();
            assert.match(first ?? '', /drained after|✓/, terminal.rows().join('\n'));
            assert.equal(terminal.hasWrapped(), false, terminal.rows().join('\n'));
          },
          { size },
        ),
      );
      await atPhase(pm2, 'wait');
      await letPass(1_500);
      for (const one of held) one.close();
      await Promise.all(shown);
    }));

  it('is drawn anew when the terminal changes its size', () =>
    withPm2({}, async (pm2) => {
      const held = await hold(pm2);
      await inTerminal(pm2, ['shutdown'], async (terminal) => {
        await terminal.shows(/4 left$/);
        for (const size of [
          { width: 40, height: 24 },
          { width: 30, height: 12 },
          { width: 100, height: 30 },
          { width: 60, height: 8 },
        ]) {
          terminal.resize(size);
          await letPass(1_200);
          const rows = await terminal.shows(/▸ wait/);
          assert.ok(rows.length < size.height, rows.join('\n'));
          assert.ok(
            rows.every((row) => row.length <= size.width),
            rows.join('\n'),
          );
          assert.equal(rows.filter((row) => row.startsWith('Draining')).length, 1, rows.join('\n'));
          assert.equal(rows.filter((row) => row.includes('▸')).length, 1, rows.join('\n'));
        }
        for (const one of held) one.close();
        assert.equal(await terminal.ended, 0);
        assert.equal(terminal.hasWrapped(), false);
      });
    }));

  const PLAIN: readonly [string, NodeJS.ProcessEnv][] = [
    ['a CI job', { CI: 'true' }],
    ['a dumb terminal', { TERM: 'dumb' }],
  ];
  for (const [what, env] of PLAIN) {
    it(`prints plain lines on ${what}`, () =>
      withPm2({}, async (pm2) => {
        const held = await holdTcp(pm2.ports.tcp);
        await inTerminal(
          pm2,
          ['shutdown'],
          async (terminal) => {
            await terminal.shows(/^\d{4}-\S+Z wait: 1 of 1 open \(1 tcp\); at most/);
            held.close();
            assert.equal(await terminal.ended, 0);
            assert.equal(terminal.written().includes(ESCAPE), false);
          },
          { env },
        );
      }));
  }

  it('has no colours with NO_COLOR, and only ASCII without a UTF-8 locale', () =>
    withPm2({}, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      await inTerminal(
        pm2,
        ['shutdown'],
        async (terminal) => {
          await terminal.shows(/^ {2}\.{40} {2}0 of 1 connection gone/);
          held.close();
          await terminal.ended;
          assert.equal(terminal.written().includes(`${ESCAPE}[3`), false);
          assert.equal(terminal.written().includes(`${ESCAPE}[1m`), false);
          assert.match(stripVTControlCharacters(terminal.written()), /^[\x20-\x7e\r\n]*$/);
        },
        { env: { NO_COLOR: '1', LANG: 'C' } },
      );
    }));

  it('says at Ctrl-C that the drain goes on, and it does', () =>
    withPm2({ 'check-delay': '4s' }, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      for (const [phase, says] of [
        ['delay', /^the drain goes on; `pm2-envoy resume` takes it back$/],
        ['wait', /^the drain goes on; Envoy’s listeners are closed/],
      ] as const) {
        await inTerminal(pm2, ['shutdown'], async (terminal) => {
          await terminal.shows(new RegExp(`▸ ${phase}`));
          terminal.interrupt();
          assert.equal(await terminal.ended, 130);
          assert.ok(
            terminal.rows().some((row) => says.test(row)),
            terminal.rows().join('\n'),
          );
        });
      }
      assert.equal((await statusOf(pm2)).phase, 'wait');
      held.close();
      await eventually('the drain to end', async () => (await statusOf(pm2)).outcome === 'drained');
    }));
});

describe('pm2-envoy shutdown without the manager, at Ctrl-C', { concurrency: 2 }, () => {
  it('in the delay says that nobody goes on, and that resume takes it back, which is so', () =>
    withPm2({ 'check-delay': '20s' }, async (pm2) => {
      await pm2.pm2('stop', 'envoy-manager');
      await inTerminal(pm2, ['shutdown'], async (terminal) => {
        await terminal.shows(/▸ delay/);
        terminal.interrupt();
        assert.equal(await terminal.ended, 130);
        const said = terminal.rows().slice(-4).join(' ');
        assert.match(said, /nobody goes on with the drain now, and Envoy stays DRAINING: /);
        assert.match(said, /`pm2-envoy shutdown`, or the manager once it is back, goes on with it/);
        assert.match(said, /`pm2-envoy resume` takes it back$/);
      });
      const { stdout } = await pm2.cli('status');
      assert.match(stdout, /^phase +delay \(drain of .*\n.*\n?envoy +1\.40\.0 DRAINING/m);
      assert.equal((await pm2.cli('resume')).code, 0);
      assert.match((await pm2.cli('status')).stdout, /^phase +idle\nenvoy +1\.40\.0 LIVE/);
    }));

  it('in wait says that it can’t be taken back; the next shutdown goes on to the same deadline', () =>
    withPm2({}, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      await pm2.pm2('stop', 'envoy-manager');
      await inTerminal(pm2, ['shutdown'], async (terminal) => {
        await terminal.shows(/▸ wait/);
        terminal.interrupt();
        assert.equal(await terminal.ended, 130);
        const said = terminal.rows().slice(-4).join(' ');
        assert.match(said, /listeners are closed, so it can’t be taken back$/);
      });
      assert.equal((await pm2.cli('resume')).code, 4);
      const before = JSON.parse((await pm2.cli('status', '--json')).stdout);
      const again = pm2.cli('shutdown', '--json');
      await letPass(1_500);
      const { deadline, startedAt } = JSON.parse((await pm2.cli('status', '--json')).stdout);
      assert.equal(startedAt, before.startedAt);
      assert.ok(Math.abs(Date.parse(deadline) - Date.parse(before.deadline)) < 50);
      held.close();
      const { code, stdout } = await again;
      assert.deepEqual([code, JSON.parse(stdout).startedAt], [0, startedAt]);
    }));

  it('leaves a drain that the manager goes on with once it is back', () =>
    withPm2({}, async (pm2) => {
      const held = await holdTcp(pm2.ports.tcp);
      await pm2.pm2('stop', 'envoy-manager');
      await inTerminal(pm2, ['shutdown'], async (terminal) => {
        await terminal.shows(/▸ wait/);
        terminal.interrupt();
        await terminal.ended;
      });
      await pm2.pm2('start', 'envoy-manager');
      await eventually('the manager', async () => (await statusOf(pm2)).phase === 'wait');
      held.close();
      await eventually('the end', async () => (await statusOf(pm2)).outcome === 'drained');
    }));

  it('says that another one leads, where that is so', () =>
    withPm2({ 'check-delay': '20s' }, async (pm2) => {
      await pm2.pm2('stop', 'envoy-manager');
      const leader = pm2.cli('shutdown');
      await eventually('the delay', async () =>
        /^phase +delay/.test((await pm2.cli('status')).stdout),
      );
      await inTerminal(pm2, ['shutdown'], async (terminal) => {
        await terminal.shows(/▸ delay/);
        terminal.interrupt();
        assert.equal(await terminal.ended, 130);
        assert.equal(terminal.rows().at(-1), 'the drain goes on; `pm2-envoy resume` takes it back');
      });
      assert.equal((await pm2.cli('resume')).code, 0);
      assert.equal((await leader).code, 4);
    }));
});

describe('pm2-envoy status --watch on a terminal', { concurrency: 2 }, () => {
  it('goes on through a drain and restarts of the manager until Ctrl-C, which is a 0', () =>
    withPm2({ 'check-delay': '2s' }, async (pm2) => {
      const held = await hold(pm2);
      await inTerminal(pm2, ['status', '--watch'], async (terminal) => {
        await terminal.shows(/^phase +idle$/);
        await terminal.shows(/^new +0 connections a second$/);
        await pm2.pm2('stop', 'envoy-manager');
        await terminal.shows(/manager is down: asked Envoy directly|asked Envoy directly$/);
        assert.match(terminal.rows().join('\n'), /^connections +4 open/m);
        await pm2.pm2('start', 'envoy-manager');
        await eventually('the manager', () => !/directly/.test(terminal.rows().join('\n')));
        const drain = pm2.http('POST', '/shutdown');
        await terminal.shows(/^ {2}▸ delay/);
        await terminal.shows(/^ {2}▸ wait/);
        for (const one of held) one.close();
        await drain;
        const rows = await terminal.shows(/^Drain of generation 1 .*: drained after/);
        assert.equal(rows.filter((row) => row.startsWith('seen at')).length, 1, rows.join('\n'));
        await pm2.pm2('stop', 'envoy', 'envoy-manager');
        await terminal.shows(/: trying again$/);
        await pm2.pm2('start', 'envoy', 'envoy-manager');
        await terminal.shows(/^phase +idle$/);
        terminal.interrupt();
        assert.equal(await terminal.ended, 0);
        checkCursor(terminal);
        assert.equal(terminal.hasWrapped(), false);
      });
    }));

  it('fits into 40 columns and 10 rows', () =>
    withPm2({}, async (pm2) => {
      const held = await hold(pm2);
      const size = { width: 40, height: 10 };
      await inTerminal(
        pm2,
        ['status', '--watch'],
        async (terminal) => {
          const rows = await terminal.shows(/^oldest/);
          assert.ok(rows.length < 10, rows.join('\n'));
          assert.ok(rows.includes('connections  4 open, 1 active request'), rows.join('\n'));
          assert.equal(terminal.hasWrapped(), false);
        },
        { size },
      );
      for (const one of held) one.close();
    }));

  it('leaves what it showed when the manager begins to refuse it, and ends with 77', () =>
    withOtherManager(
      (call) => (call < 3 ? { body: earlierStatus(2) } : { status: 403, body: {} }),
      (pm2) =>
        inTerminal(pm2, ['status', '--watch'], async (terminal) => {
          assert.equal(await terminal.ended, 77);
          const rows = terminal.rows();
          assert.equal(rows[0], 'phase        idle');
          assert.match(rows.join('\n'), /^pm2-envoy: the manager at \S+ refused \(403\)/m);
          assert.match(rows.at(-1) ?? '', /it says no more$/);
          checkCursor(terminal);
        }),
    ));

  it('takes 80 columns where the terminal says 0', () =>
    withPm2({}, async (pm2) => {
      const size = { width: 0, height: 0 };
      await inTerminal(
        pm2,
        ['status', '--watch'],
        async (terminal) => {
          await eventually('it', () => /seen at \d\d:/.test(terminal.written()));
          assert.match(terminal.written(), /envoy .*1\.40\.0 LIVE, generation 1, pid \d+, up \d+s/);
        },
        { size },
      );
    }));
});
