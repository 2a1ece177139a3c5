import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { widthOf } from '../../src/cli/terminal/fit.js';
import type { Terminal } from '../../src/cli/terminal/terminal.js';
import { see } from '../../src/cli/view/drain-history.js';
import { drainView, type Scene, watchView } from '../../src/cli/view/drain-view.js';
import type { Status } from '../../src/status/status.js';
import { draining, ended, openOn, recorded, statusWith } from './statuses.js';

function terminal(part: Partial<Terminal> = {}): Terminal {
  return { tty: true, width: 80, height: 24, color: false, unicode: true, live: true, ...part };
}

/** What is known after these looks. */
function sceneOf(...statuses: readonly Status[]): Scene {
  const status = statuses.at(-1) ?? statusWith();
  const seen = recorded(statuses).reduce<Scene['seen']>(see, undefined);
  return { status, seen };
}

const PEERS: Status['oldestPeers'] = [
  { peer: '10.0.0.7:51234', local: '10.0.0.1:10000', generation: 1, seenForMs: 312_000 },
  { peer: '10.0.0.9:40000', local: '10.0.0.1:10000', generation: 1, seenForMs: 800 },
];
const WAITING = draining('wait', 72_000, {
  connections: openOn({ '0.0.0.0_10000': 3, '0.0.0.0_10001': 1 }, { websocket: 3, tcp: 1 }),
  newConnectionsPerSecond: 0,
  paceLeftMs: 120_000,
  oldestPeers: PEERS,
});
const BEFORE = [draining('delay', 100), draining('wait', 10_200)];

/** Everything that is longer than any terminal. */
const LONG = {
  connections: openOn(
    Object.fromEntries(
      Array.from({ length: 40 }, (_, at) => [
        `a-very-long-listener-name-${'x'.repeat(150)}-${at}`,
        at,
      ]),
    ),
  ),
  oldestPeers: Array.from({ length: 10 }, (_, at) => ({
    peer: `[2001:0db8:85a3:0000:0000:8a2e:0370:733${at}]:51234`,
    local: '[2001:0db8:85a3:0000:0000:8a2e:0370:7000]:10000',
    generation: 1,
    seenForMs: 10 ** at,
  })),
  newConnectionsPerSecond: 123_456.7,
  paceLeftMs: 3_600_000_000,
  lastError: `connect ENOENT /a/very/long/path/${'d/'.repeat(100)}admin.sock`,
};
const NOTE =
  'the manager at http://127.0.0.1:8090 can’t be reached (ECONNREFUSED): asked Envoy directly';

const SCENES: Readonly<Record<string, Scene>> = {
  'an Envoy that serves': sceneOf(statusWith()),
  'no Envoy': sceneOf(statusWith({ envoy: null, generations: [], connections: null })),
  'a drain in its delay': sceneOf(draining('delay', 4_000, { newConnectionsPerSecond: 12.5 })),
  'a drain that waits': sceneOf(...BEFORE, WAITING),
  'a drain that was joined late': sceneOf(WAITING),
  'a drain with long names': sceneOf(...BEFORE, draining('wait', 72_000, LONG)),
  'a long-lived Envoy with long names': sceneOf(statusWith(LONG)),
  'names with control characters': sceneOf(
    draining('wait', 9_000, { connections: openOn({ 'a\u001b[2J\nb': 1, 日本語の名前: 2 }) }),
  ),
  'a drain that has ended': sceneOf(...BEFORE, ended('drained')),
  'a drain that timed out': sceneOf(...BEFORE, ended('timeout', { connectionsLeft: 4 })),
  'a drain that was over': sceneOf(ended('drained')),
  'an earlier manager': sceneOf(
    draining('wait', 9_000, { generations: [], oldestPeers: null, activeRequests: null }),
  ),
};

describe('drainView and watchView', () => {
  for (const [what, scene] of Object.entries(SCENES)) {
    it(`fit ${what} into any terminal`, () => {
      for (const width of [1, 2, 10, 20, 39, 40, 80, 200]) {
        for (const height of [1, 2, 5, 10, 24, 100]) {
          for (const color of [false, true]) {
            for (const unicode of [false, true]) {
              const size = terminal({ width, height, color, unicode });
              for (const lines of [
                drainView(scene, size),
                watchView(scene, size, [{ text: NOTE }]),
              ]) {
                checkFits(lines, size);
              }
            }
          }
        }
      }
    });
  }
});

/** The last row stays free for the cursor. */
function checkFits(lines: readonly string[], { width, height, color, unicode }: Terminal): void {
  assert.ok(lines.length <= Math.max(1, height - 1), `${lines.length} lines in ${height} rows`);
  for (const line of lines) {
    const text = color ? stripVTControlCharacters(line) : line;
    assert.ok(widthOf(text) <= width, `${JSON.stringify(line)} in ${width} columns`);
    assert.doesNotMatch(text, /\p{Cc}/u);
    if (!unicode) assert.match(text, /^[\x20-\x7e]*$/);
  }
}

describe('drainView', () => {
  it('shows a drain at 80 columns', () => {
    assert.deepEqual(drainView(sceneOf(...BEFORE, WAITING), terminal()), [
      `Draining generation 1 (Envoy 1.40.0) since ${clock('20:34:41')}, for 1m12s`,
      '  ✓ fail-health  <1s',
      '  ✓ delay        10s',
      '  ✓ close        <1s',
      '  ▸ wait         1m2s',
      `  ${'█'.repeat(24)}${'░'.repeat(16)}  6 of 10 connections gone, 4 left`,
      `deadline     in 3m48s, at ${clock('20:39:41')}`,
      'pace         done in about 2m, as connections end now',
      'connections  4 open (1 tcp, 3 websocket), 3 active requests',
      '       3  0.0.0.0_10000',
      '       1  0.0.0.0_10001',
      'oldest       peers, by how long each has been seen',
      '   5m12s  10.0.0.7:51234 to 10.0.0.1:10000',
      '     <1s  10.0.0.9:40000 to 10.0.0.1:10000',
    ]);
  });

  it('names what is drained', () => {
    const first = (generations: Status['generations']): string | undefined =>
      drainView(sceneOf({ ...WAITING, generations }), terminal())[0];
    const [one = assert.fail()] = statusWith().generations;
    assert.match(first([one, { ...one, number: 2 }]) ?? '', /^Draining generations 1, 2 \(Envoy/);
    assert.match(first([]) ?? '', /^Draining Envoy 1\.40\.0 since /);
  });

  it('shows the same at 20 columns, in ASCII', () => {
    assert.deepEqual(
      drainView(sceneOf(...BEFORE, WAITING), terminal({ width: 20, unicode: false })),
      [
        'Draining: 1m12s',
        '+ fail-health  <1s',
        '+ delay        10s',
        '+ close        <1s',
        '> wait         1m2s',
        '#######.....  4 left',
        'deadline in 3m48s',
        'pace about 2m',
        'connections 4 open',
        '    1 tcp, 3 webso..',
        '  3 0.0.0.0_10000',
        '  1 0.0.0.0_10001',
        'oldest peers',
        '5m12s 10.0.0.7:51234',
        '<1s 10.0.0.9:40000',
      ],
    );
  });

  it('says the most important in 10 rows', () => {
    const lines = drainView(sceneOf(...BEFORE, WAITING), terminal({ height: 10 }));
    assert.deepEqual(
      lines.map((line) => line.trim().split(/ +/)[0]),
      [
        'Draining',
        '▸',
        `${'█'.repeat(24)}${'░'.repeat(16)}`,
        'deadline',
        'pace',
        'connections',
        '3',
        'oldest',
      ],
    );
    assert.equal(lines[1], '▸ wait 1m2s  (✓ fail-health, delay, close)');
    assert.equal(lines[7], 'oldest       10.0.0.7:51234 to 10.0.0.1:10000, seen for 5m12s');
  });

  it('says when the listeners close, and what can be done until then', () => {
    const close = { listenersCloseAt: '2026-11-22T20:34:51.000Z' };
    const at = (elapsedMs: number, width = 80): string | undefined => {
      const looks = [draining('delay', 100, close), draining('delay', elapsedMs, close)];
      return drainView(sceneOf(...looks), terminal({ width }))[2];
    };
    const long = '  ▸ delay        3s, listeners close in 7s; until then: `pm2-envoy resume`';
    assert.equal(at(3_100), long);
    assert.equal(at(3_100, 50), '  ▸ delay        3s, listeners close in 7s');
    assert.equal(at(3_100, 40), '  ▸ delay 3s, listeners close in 7s');
    const unknown = drainView(sceneOf(draining('delay', 30_100)), terminal())[2];
    assert.equal(unknown?.trimEnd(), '  ▸ delay');
  });

  it('says who began it, and how long each phase took although no one looked', () => {
    const part = {
      startedBy: { kind: 'http', detail: '10.0.0.7' },
      steps: [
        { phase: 'fail-health', at: '2026-11-22T20:34:41.000Z' },
        { phase: 'delay', at: '2026-11-22T20:34:43.000Z' },
        { phase: 'close', at: '2026-11-22T20:34:51.000Z' },
        { phase: 'wait', at: '2026-11-22T20:34:51.100Z' },
      ],
    } as const;
    const lines = drainView(sceneOf({ ...WAITING, ...part, steps: [...part.steps] }), terminal());
    assert.deepEqual(lines.slice(1, 6), [
      'by           an HTTP request from 10.0.0.7',
      '  ✓ fail-health  2s',
      '  ✓ delay        8s',
      '  ✓ close        <1s',
      '  ▸ wait         1m2s',
    ]);
    const narrow = drainView(sceneOf({ ...WAITING, ...part, steps: [] }), terminal({ width: 40 }));
    assert.equal(narrow[1], 'by           http 10.0.0.7');
  });

  it('says of a drain that waits for requests alone what holds it, and what does not', () => {
    const { settings } = statusWith();
    const requests = { settings: { ...settings, drainUntil: 'requests' as const } };
    const looks = [3, 1].map((holding) =>
      draining('wait', 10_000, {
        ...requests,
        connections: openOn({ a: 7 }, { http1: 7 }),
        activeRequests: holding,
        holding,
      }),
    );
    const bar = (scene: Scene): string | undefined =>
      drainView(scene, terminal()).find((line) => /█/.test(line));
    assert.equal(
      bar(sceneOf(...looks))?.replace(/[█░]+/, '#'),
      '  #  1 request left; 6 idle connections do not hold it',
    );
    const over = ended('drained', { ...requests, connectionsLeft: 7, holding: 0 });
    assert.match(
      bar(sceneOf(...looks, over)) ?? '',
      /█+ {2}0 requests left; 7 idle connections left$/,
    );
  });

  it('says that nothing ends, once that has lasted', () => {
    const wait = (elapsedMs: number) =>
      draining('wait', elapsedMs, { connections: openOn({ a: 4 }) });
    const lines = drainView(sceneOf(wait(10_000), wait(52_000)), terminal());
    assert.ok(lines.includes('pace         none has ended for 42s'), lines.join('\n'));
    const early = drainView(sceneOf(wait(10_000), wait(12_000)), terminal());
    assert.doesNotMatch(early.join('\n'), /^pace/m);
  });

  it('warns when the pace is too slow for the deadline', () => {
    const slow = { ...WAITING, paceLeftMs: 600_000 };
    const text = drainView(sceneOf(...BEFORE, slow), terminal()).join('\n');
    assert.match(text, /^pace {9}done in about 10m, as connections end now: after the deadline$/m);
  });

  it('says once why peers can’t be seen', () => {
    const status = {
      ...WAITING,
      oldestPeers: null,
      oldestPeersNote: 'only Linux shows them (/proc)',
    };
    const text = drainView(sceneOf(...BEFORE, status), terminal()).join('\n');
    assert.equal(text.match(/peers unknown: only Linux shows them/g)?.length, 1);
  });

  it('says how a drain ended, and what held it if it did not end well', () => {
    const [first, ...rest] = drainView(SCENES['a drain that timed out'] ?? sceneOf(), terminal());
    assert.equal(first, 'Drain of generation 1 (Envoy 1.40.0): timeout after 1m12s');
    assert.equal(rest[3], '  ✗ wait         1m2s');
    assert.match(rest.join('\n'), /6 of 10 connections gone, 4 left\nconnections {2}4 open/);
    const drained = drainView(SCENES['a drain that has ended'] ?? sceneOf(), terminal()).join('\n');
    assert.doesNotMatch(drained, /^connections/m);
  });

  it('colours only where the terminal does', () => {
    const scene = sceneOf(...BEFORE, WAITING);
    const plain = drainView(scene, terminal());
    const coloured = drainView(scene, terminal({ color: true }));
    assert.notDeepEqual(coloured, plain);
    assert.deepEqual(coloured.map(stripVTControlCharacters), plain);
  });
});

describe('watchView', () => {
  it('shows an Envoy that serves', () => {
    const rate = statusWith({ newConnectionsPerSecond: 12.5 });
    assert.deepEqual(watchView(sceneOf(rate), terminal(), [{ text: 'seen at 20:34:41' }]), [
      'phase        idle',
      'envoy        1.40.0 LIVE, generation 1, pid 12502, up 3m22s, 2 workers',
      'connections  4 open (4 tcp), 3 active requests',
      '       4  0.0.0.0_10000',
      'new          12.5 connections a second',
      'seen at 20:34:41',
    ]);
  });

  it('says how a drain ended that no one watched', () => {
    const [first] = watchView(sceneOf(ended('drained')), terminal({ width: 100 }), []);
    assert.equal(
      first,
      'phase        drained after 1m12s, 0 connections left then (drain of 2026-11-22T20:34:41.000Z)',
    );
  });

  it('calls those idle that a drain which waits for requests has left', () => {
    const settings = { ...statusWith().settings, drainUntil: 'requests' as const };
    const [first] = watchView(
      sceneOf(ended('drained', { settings, connectionsLeft: 1 })),
      terminal({ width: 120 }),
      [],
    );
    assert.match(first ?? '', /^phase +drained after 1m12s, 1 idle connection left then \(/);
  });

  it('shows both generations of a hand-over, in fewer words where there is no room', () => {
    const [serving = assert.fail()] = statusWith().generations;
    const deadline = '2026-11-22T20:39:41.000Z';
    const older = { ...serving, state: 'handing-over' as const, deadline };
    const scene = sceneOf(statusWith({ generations: [older, { ...serving, number: 2 }] }));
    const wide = watchView(scene, terminal({ width: 120 }), []).join('\n');
    assert.match(wide, /^ {7}1 {2}handing-over, 1\.40\.0, pid 12502, 4 connections open, until /m);
    const narrow = watchView(scene, terminal({ width: 40 }), []);
    assert.ok(narrow.includes('       1  handing-over, 4 open'), narrow.join('\n'));
  });
});

/** A time of day of UTC, where the test runs. */
function clock(time: string): string {
  return new Date(`2026-11-22T${time}.000Z`).toTimeString().slice(0, 8);
}
