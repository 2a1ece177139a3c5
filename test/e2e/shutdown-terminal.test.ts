import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { holdFour, holdTcp } from '../support/clients.js';
import { withHeldDelay } from '../support/held-delay.js';
import { withPm2 } from '../support/pm2.js';
import { checkCursor, inTerminal, type TerminalSize } from '../support/terminal.js';
import { patiently } from '../support/wait.js';

const ESCAPE = '\u001b';

describe('pm2-envoy shutdown on a terminal', { concurrency: 2 }, () => {
  it('shows phase after phase, what holds the drain, and how it ended', () =>
    withHeldDelay(async (pm2, endDelay) => {
      const held = await holdFour(pm2.ports);
      await inTerminal(pm2, ['shutdown'], async (terminal) => {
        await terminal.shows(
          /^ {2}▸ delay +<?\d+s(, listeners close in <?\ds; until then: `pm2-envoy resume`)?$/,
        );
        endDelay();
        const rows = await terminal.shows(/^ {2}▸ wait/);
        assert.match(
          rows[0] ?? '',
          /^Draining generation 1 \(Envoy 1\.40\.0\) since \d\d:\d\d:\d\d, for /,
        );
        assert.match(
          rows.slice(1, 5).join(),
          /✓ fail-health +<?\d+s,.*✓ delay +\d+s,.*✓ close +<?\d+s/,
        );
        const text = rows.join('\n');
        assert.match(text, /^ {2}░{40} {2}0 of 4 connections gone, 4 left$/m);
        assert.match(text, /^deadline {5}in \S+, at \d\d:\d\d:\d\d$/m);
        assert.match(text, /^connections {2}4 open \(3 tcp, 1 websocket\), 1 active request$/m);
        assert.match(text, new RegExp(`^ {7}3 {2}127\\.0\\.0\\.1_${pm2.ports.tcp}$`, 'm'));
        assert.match(
          text,
          new RegExp(`^ +<?\\d+s {2}127.0.0.1:\\d+ to 127.0.0.1:${pm2.ports.tcp}$`, 'm'),
        );
        held.pop()?.close();
        await terminal.shows(/█{10}░{30} {2}1 of 4 connections gone, 3 left/);
        await terminal.shows(/^pace {9}done in about \d\S*s, as connections end now/);
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
    withHeldDelay(async (pm2, endDelay) => {
      const held = await holdFour(pm2.ports);
      const inDelay = afterAll(SIZES.length, endDelay);
      const inWait = afterAll(SIZES.length, () => {
        for (const one of held) one.close();
      });
      const shown = SIZES.map((size) =>
        inTerminal(
          pm2,
          ['shutdown'],
          async (terminal) => {
            await terminal.shows(/^ *▸ delay/);
            inDelay();
            const rows = await terminal.shows(/^ *▸ wait/);
            assert.ok(rows.length < size.height, `${rows.length} rows of ${size.height}`);
            assert.equal(rows.filter((row) => /delay/.test(row)).length, 1, rows.join('\n'));
            inWait();
            await terminal.ended;
            const [first] = terminal.rows();
            assert.match(first ?? '', /drained after|✓/, terminal.rows().join('\n'));
            assert.equal(terminal.hasWrapped(), false, terminal.rows().join('\n'));
          },
          { size },
        ),
      );
      await Promise.all(shown);
    }));

  it('is drawn again when the terminal changes its size', () =>
    withPm2({}, async (pm2) => {
      const held = await holdFour(pm2.ports);
      await inTerminal(pm2, ['shutdown'], async (terminal) => {
        await terminal.shows(/4 left$/);
        for (const size of [
          { width: 40, height: 24 },
          { width: 30, height: 12 },
          { width: 100, height: 30 },
          { width: 60, height: 8 },
        ]) {
          terminal.resize(size);
          const before = terminal.written().length;
          await patiently('a frame of that size', () => {
            const rows = terminal.rows();
            const isFit =
              rows.length < size.height &&
              rows.every((row) => row.length <= size.width) &&
              rows.filter((row) => row.startsWith('Draining')).length === 1 &&
              rows.filter((row) => row.includes('▸ wait')).length === 1;
            if (isFit) return terminal.written().length > before;
            throw new Error(rows.join('\n'));
          });
          // What was on its way at that moment is as wide as the terminal was.
          terminal.hasWrapped();
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
});

/** What is called once by each of so many, and does something at the last call. */
function afterAll(count: number, act: () => void): () => void {
  let calls = 0;
  return () => {
    calls += 1;
    if (calls === count) act();
  };
}
