import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { holdFour } from '../support/clients.js';
import { withHeldDelay } from '../support/held-delay.js';
import { earlierStatus, withOtherManager } from '../support/other-manager.js';
import { withPm2 } from '../support/pm2.js';
import { checkCursor, inTerminal } from '../support/terminal.js';
import { patiently } from '../support/wait.js';

describe('pm2-envoy status --watch on a terminal', { concurrency: 2 }, () => {
  it('goes on through a drain and restarts of the manager until Ctrl-C, which is a 0', () =>
    withHeldDelay(async (pm2, endDelay) => {
      const held = await holdFour(pm2.ports);
      await inTerminal(pm2, ['status', '--watch'], async (terminal) => {
        await terminal.shows(/^phase +idle$/);
        await terminal.shows(/^new +0 connections a second$/);
        await pm2.pm2('stop', 'envoy-manager');
        await terminal.shows(/manager is down: asked Envoy directly|asked Envoy directly$/);
        assert.match(terminal.rows().join('\n'), /^connections +4 open/m);
        await pm2.pm2('start', 'envoy-manager');
        await patiently('the manager', () => !/directly/.test(terminal.rows().join('\n')));
        const drain = pm2.http('POST', '/shutdown');
        await terminal.shows(/^ {2}▸ delay/);
        endDelay();
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
      const held = await holdFour(pm2.ports);
      const size = { width: 40, height: 10 };
      await inTerminal(
        pm2,
        ['status', '--watch'],
        async (terminal) => {
          await terminal.shows(/^connections {2}4 open, 1 active request$/);
          const rows = await terminal.shows(/^oldest/);
          assert.ok(rows.length < 10, rows.join('\n'));
          assert.match(rows.at(-1) ?? '', /^seen at .*; Ctrl-C ends watching$/);
          await pm2.pm2('stop', 'envoy-manager');
          const down = await terminal.shows(/^manager down: asked Envoy itself$/);
          assert.equal(down.at(-2), 'manager down: asked Envoy itself');
          assert.equal(terminal.hasWrapped(), false);
          terminal.resize({ width: 24, height: 10 });
          await terminal.shows(/^\d\d:\d\d:\d\d; Ctrl-C ends$/);
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
          assert.match(
            rows.join(' '),
            /it gives no reason; set the same PM2_ENVOY_SHUTDOWN_TOKEN .* in the manager$/,
          );
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
          await patiently('it', () => /seen at \d\d:/.test(terminal.written()));
          assert.match(terminal.written(), /envoy .*1\.40\.0 LIVE, generation 1, pid \d+, up \d+s/);
        },
        { size },
      );
    }));
});
