import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { widthOf } from '../../src/cli/terminal/fit.js';
import { layOut } from '../../src/cli/terminal/layout.js';
import type { Terminal } from '../../src/cli/terminal/terminal.js';
import { statusRows } from '../../src/cli/view/status-view.js';
import { timelineOf } from '../../src/config/timeline.js';
import type { Status } from '../../src/status/status.js';
import { draining, openOn, statusWith } from './statuses.js';

const PIPE: Terminal = {
  tty: false,
  width: Number.POSITIVE_INFINITY,
  height: 24,
  color: false,
  unicode: true,
  live: false,
};

const WAITING = draining('wait', 72_000, {
  connections: openOn({ '0.0.0.0_10000': 3, '0.0.0.0_10001': 1 }, { websocket: 3, tcp: 1 }),
  newConnectionsPerSecond: 0,
  paceLeftMs: 120_000,
  oldestPeers: [{ peer: '10.0.0.7:1', local: '10.0.0.1:2', generation: 1, seenForMs: 312_000 }],
});

function shown(status: Status, width = Number.POSITIVE_INFINITY): string[] {
  return layOut(statusRows(status), { ...PIPE, width }, 'wrap');
}

describe('statusRows', () => {
  it('leaves out the least important of Envoy where a line may not be longer', () => {
    const lines = layOut(statusRows(statusWith()), { ...PIPE, width: 40 });
    assert.ok(lines.includes('envoy        1.40.0 LIVE, generation 1'), lines.join('\n'));
  });

  it('says of an Envoy that no one has served before that it is starting, or why the last one did not', () => {
    const [one = assert.fail()] = statusWith().generations;
    const { envoy } = statusWith();
    const starting = {
      envoy: envoy && { ...envoy, version: null, state: null, uptimeSeconds: null },
      generations: [{ ...one, state: 'starting' as const }],
    };
    const textOf = (status: Partial<Status>) =>
      statusRows(statusWith(status)).find(({ label }) => label === 'envoy')?.text;
    assert.match(String(textOf(starting)?.[0]), /^is starting, generation 1, pid 12502/);
    const failedStart = { at: 'b', since: 'a', count: 3, reason: 'Address already in use' };
    assert.equal(
      textOf({ ...starting, failedStart }),
      'there is none: 3 starts in a row have failed since a: Address already in use',
    );
  });

  it('say what starts an Envoy where there is none, whether or not pm2 has the app', () => {
    const none = statusWith({ envoy: null, generations: [] });
    assert.ok(
      shown(none).includes(
        'envoy        there is none; `pm2-envoy redeploy` starts one, or `pm2 start ecosystem.config.js` where pm2 does not have the app',
      ),
      shown(none).join('\n'),
    );
  });

  it('say what holds a drain, and until when', () => {
    assert.deepEqual(shown(WAITING), [
      'phase        wait (drain of 2026-11-22T20:34:41.000Z)',
      'deadline     in 3m48s, at 2026-11-22T20:39:41.000Z',
      'pace         done in about 2m, as connections end now',
      'envoy        1.40.0 LIVE, generation 1, pid 12502, up 3m22s, 2 workers',
      'connections  4 open (1 tcp, 3 websocket), 3 active requests',
      '       3  0.0.0.0_10000',
      '       1  0.0.0.0_10001',
      'oldest       peers, by how long each has been seen',
      '   5m12s  10.0.0.7:1 to 10.0.0.1:2',
    ]);
  });

  it('are broken at words on a terminal, with nothing left out', () => {
    const status = {
      ...WAITING,
      lastError: 'connect ENOENT /run/pm2-envoy/generations/1/admin.sock',
    };
    const all = shown(status).join(' ').replaceAll(/\s+/g, '');
    for (const width of [20, 40, 80]) {
      const lines = shown(status, width);
      for (const line of lines) assert.ok(widthOf(line) <= width, line);
      assert.equal(lines.join('').replaceAll(/\s+/g, ''), all);
    }
  });

  it('say which timer wins, where that is not drain-timeout alone', () => {
    const timers = timelineOf({
      checkDelayMs: 15_000,
      drainTimeoutMs: 90_000,
      gracePeriodMs: 120_000,
    });
    assert.equal(
      shown(statusWith({ timers }))[1],
      'timers       0s health fails · 15s listeners close · 1m30s cut at the latest (grace-period) · 2m SIGKILL',
    );
    const plain = timelineOf({ checkDelayMs: 0, drainTimeoutMs: 1_000, gracePeriodMs: undefined });
    assert.ok(
      !shown(statusWith({ timers: plain }))
        .join()
        .includes('timers'),
    );
  });

  it('have only what an earlier manager says', () => {
    const earlier = { generations: [], activeRequests: null, newConnectionsPerSecond: null };
    assert.deepEqual(shown(statusWith(earlier)), [
      'phase        idle',
      'envoy        1.40.0 LIVE, generation 1, pid 12502, up 3m22s, 2 workers',
      'connections  4 open (4 tcp)',
      '       4  0.0.0.0_10000',
    ]);
  });

  it('say why peers can’t be seen, once, unless nothing is open', () => {
    const note = { oldestPeersNote: 'only Linux shows them (/proc)' };
    const said = 'oldest       peers unknown: only Linux shows them (/proc)';
    assert.deepEqual(
      shown(statusWith(note)).filter((line) => line.includes('/proc')),
      [said],
    );
    const idle = statusWith({ ...note, connections: openOn({}) });
    assert.doesNotMatch(shown(idle).join('\n'), /oldest/);
    const silent = statusWith({ oldestPeersNote: 'no answer', lastError: 'no answer' });
    assert.deepEqual(
      shown(silent).filter((line) => line.includes('no answer')),
      ['last error   no answer'],
    );
  });

  it('count the listeners that there is no room for', () => {
    const many = Object.fromEntries(
      Array.from({ length: 8 }, (_, at) => [`listener-${at}`, at + 1]),
    );
    const lines = shown(statusWith({ connections: openOn(many) }));
    assert.ok(lines.includes('       8  listener-7'));
    assert.ok(lines.includes('          and 3 more listeners'), lines.join('\n'));
  });

  it('say of an Envoy that someone else drains how to revert that', () => {
    const [alone] = shown(statusWith({ phase: 'wait', abandonedDrain: true }));
    assert.match(alone ?? '', /^phase +wait .*no process continues it: `pm2-envoy shutdown` does/);
    const [first] = shown(statusWith({ orphanedDrain: true }));
    assert.match(
      first ?? '',
      /^phase {8}idle, but another program has failed .*`pm2-envoy resume`/,
    );
    const [closed] = shown(statusWith({ listenersClosed: true }));
    assert.match(
      closed ?? '',
      /^phase {8}idle, but Envoy’s listeners are closed .*`pm2-envoy redeploy`/,
    );
  });
});
