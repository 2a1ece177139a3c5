import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { OUTCOMES, SHUTDOWN_EVENTS } from '../../src/drain/state.js';
import { lose, tick } from '../../src/manager/page/progress.js';
import { type Region, renderRegions, titleOf } from '../../src/manager/page/view.js';
import { makeDrain, makeGeneration, makeState, makeStatus, NOW_MS, textOf } from './page-states.js';

type Changes = Parameters<typeof makeStatus>[0];

const region = (
  name: Region,
  status?: Changes,
  changed?: Parameters<typeof makeState>[1],
): string => String(renderRegions(makeState(status, changed))[name]);

describe('the headline', () => {
  const title = (status: Changes): string | undefined =>
    /<h2[^>]*>(.*?)<\/h2>/.exec(region('headline', status))?.[1];

  for (const phase of SHUTDOWN_EVENTS) {
    it(`says that a drain is at ${phase}`, () => {
      assert.match(title(makeDrain({ phase })) ?? '', /^Draining: /);
    });
  }
  for (const outcome of OUTCOMES) {
    it(`says how a drain has ended: ${outcome}`, () => {
      const headline = title(makeDrain({ phase: 'finish', outcome }));
      assert.ok(headline && !headline.startsWith('Draining'), headline);
    });
  }

  const situations: readonly [Changes, RegExp][] = [
    [{}, /^In service$/],
    [{ envoy: null }, /^There is no Envoy$/],
    [
      { envoy: null, failedStart: { at: '', since: '', count: 3, reason: 'Address in use' } },
      /^There is no Envoy: it does not start$/,
    ],
    [{ generations: [makeGeneration({ number: 3, state: 'starting' })] }, /^Envoy is starting$/],
    [
      {
        generations: [makeGeneration({ number: 3, state: 'starting' })],
        failedStart: { at: '', since: '', count: 3, reason: 'Address in use' },
      },
      /^There is no Envoy: it does not start$/,
    ],
    [{ orphanedDrain: true }, /^Out of service, without a drain$/],
    [{ listenersClosed: true }, /^Out of service, without a drain$/],
    [
      { generations: [makeGeneration({ state: 'handing-over' }), makeGeneration()] },
      /handing over to generation 3$/,
    ],
    [
      { generations: [makeGeneration(), makeGeneration({ state: 'starting' })] },
      /a new generation is starting$/,
    ],
  ];
  for (const [status, expected] of situations) {
    it(`says without a drain: ${expected.source}`, () =>
      assert.match(title(status) ?? '', expected));
  }
  for (const [state, expected] of [
    [null, 'Envoy does not answer'],
    ['INITIALIZING', 'Envoy is INITIALIZING'],
  ] as const) {
    it(`says what Envoy is: ${state}`, () => {
      const { envoy } = makeStatus();
      assert.equal(title({ envoy: envoy && { ...envoy, state } }), expected);
    });
  }

  it('says when the listeners close and who began the drain, without ticking', () => {
    const delay = makeDrain({
      phase: 'delay',
      listenersCloseAt: '2026-11-24T14:03:30.000Z',
      startedBy: { kind: 'cli', detail: 'root' },
    });
    assert.match(
      textOf(region('headline', delay)),
      /Listeners close at 14:03:30; until then: Resume\. Started at 14:02:50 by pm2-envoy shutdown \(root\)\.$/,
    );
    assert.match(textOf(region('facts', delay)), /Listeners close in 10s until then: Resume/);
  });

  it('is no good news where the host is out of service', () => {
    const drained = makeDrain({ phase: 'finish', outcome: 'drained' });
    assert.match(region('headline', drained), /<h2 class="busy">Drained: out of service</);
  });

  it('never says of a lost connection what may no longer be so', () => {
    const lost = lose(makeState(makeDrain()), 'it can’t be reached', NOW_MS + 4_000);
    const { headline, link } = renderRegions(lost);
    assert.match(String(headline), /<h2 class="bad">No connection to the manager<\/h2>/);
    assert.match(
      textOf(String(headline)),
      /At 14:03:20 it said: Draining: .* Envoy itself does not need the manager, and keeps running\. Retrying: it can’t be reached\.$/,
    );
    assert.match(textOf(String(link)), /^not connected last heard 4s ago$/);
  });

  it('does not change with time alone, so that it is read out once', () => {
    const state = makeState(makeDrain());
    const later = tick(state, NOW_MS + 5_000);
    assert.equal(String(renderRegions(later).headline), String(renderRegions(state).headline));
  });

  it('shows commands as code', () => {
    assert.match(region('headline', { envoy: null }), /<code>pm2-envoy redeploy<\/code>/);
  });
});

describe('the steps', () => {
  it('are the lifecycle events, with the one under way', () => {
    const steps = region('steps', makeDrain({ phase: 'close' }));
    assert.deepEqual(
      [...steps.matchAll(/<b>(.*?)<\/b>/g)].map(([, name]) => name),
      SHUTDOWN_EVENTS,
    );
    assert.match(steps, /<li class="now" aria-current="step"><b>close<\/b>/);
    assert.equal(steps.split('(done)').length - 1, 2);
  });

  it('end with the outcome', () => {
    const steps = region('steps', makeDrain({ phase: 'finish', outcome: 'timeout' }));
    assert.match(steps, /<b>finish<\/b> <span>timeout<\/span>/);
    assert.doesNotMatch(steps, /aria-current/);
  });

  it('are all ahead without a drain', () => {
    assert.doesNotMatch(region('steps'), /class=|done/);
  });
});

describe('the facts', () => {
  it('count down while the page is live, and stand still while it is not', () => {
    const state = makeState(makeDrain());
    const facts = (at: number): string =>
      textOf(String(renderRegions(tick(state, NOW_MS + at)).facts));
    assert.match(facts(0), /Time left 4m30s until 14:07:50 At this pace 42s left$/);
    assert.match(facts(5_000), /Time left 4m25s .* At this pace 37s left$/);
    assert.match(facts(20_000), /Time left 4m30s .* At this pace 42s left$/);
  });

  it('say what a drain came to', () => {
    const ended = makeDrain({
      phase: 'finish',
      outcome: 'timeout',
      durationMs: 61_000,
      connectionsLeft: 3,
      timeLeftMs: null,
    });
    assert.match(
      textOf(region('facts', ended)),
      /Drain took 1m1s from its start Left at its end 3 connections$/,
    );
  });

  it('show the old generation of a hand-over', () => {
    const leaving = makeGeneration({
      number: 2,
      state: 'handing-over',
      connections: 4,
      deadline: '2026-11-24T14:07:50.000Z',
      paceLeftMs: 42_000,
    });
    assert.match(
      textOf(region('facts', { generations: [leaving, makeGeneration()] })),
      /^Left to hand over 4 of 12 in all, on generation 2 .* Generation 2: time left 4m30s until 14:07:50 At this pace 42s left$/,
    );
  });

  it('show what a drain until requests waits for, and what does not hold it', () => {
    const { settings } = makeStatus();
    const drain = makeDrain({ holding: 1, settings: { ...settings, drainUntil: 'requests' } });
    assert.match(textOf(region('facts', drain)), /^Still busy 1 11 idle, not waited for /);
  });

  it('show since when an Envoy is silent, and what was seen last', () => {
    const { envoy } = makeStatus();
    const silent = {
      envoy: envoy && { ...envoy, state: null, silentSince: '2026-11-24T14:02:20.000Z' },
      connections: null,
      activeRequests: null,
      newConnectionsPerSecond: null,
    };
    const facts = textOf(
      region('facts', silent, { spans: [[NOW_MS - 90_000, NOW_MS - 60_000, 7]] }),
    );
    assert.equal(
      facts,
      'Silent for 1m since 14:02:20 Last seen open 7 connections, at 14:02:20 Process 4711 pid, still there',
    );
    assert.match(textOf(region('headline', silent)), /silent since 14:02:20.*pm2 restart envoy/);
  });

  it('say what is not known', () => {
    const facts = textOf(
      region('facts', { connections: null, activeRequests: null, newConnectionsPerSecond: null }),
    );
    assert.equal(facts.split('unknown').length - 1, 3);
  });
});

describe('the notices', () => {
  it('are none where nothing is wrong', () => assert.equal(region('notices'), ''));

  it('tell the last error, and a failed reload of the generation that serves', () => {
    const failedReload = { at: '2026-11-24T13:59:00.000Z', reason: 'envoy.yaml:\n  bad' };
    const notices = region('notices', {
      lastError: 'admin does not answer',
      generations: [makeGeneration({ failedReload })],
    });
    assert.match(
      textOf(notices),
      /The last reload failed at 13:59:00, and generation 3 keeps serving: envoy\.yaml: bad Last error: admin does not answer/,
    );
  });
});

describe('the tables', () => {
  it('have a caption and heads', () => {
    for (const name of ['listeners', 'kinds', 'peers', 'generations'] as const) {
      assert.match(
        region(name),
        /<caption[^>]*>.+<\/caption>[\s\S]*<th scope="col">[\s\S]*<th scope="row">/,
      );
    }
  });

  it('show the busiest listeners, and the sum of the others', () => {
    const byListener = Object.fromEntries(
      Array.from({ length: 20 }, (_, index) => [`l${index}`, index]),
    );
    const { connections } = makeStatus();
    const listeners = textOf(
      region('listeners', { connections: connections && { ...connections, byListener } }),
    );
    assert.match(listeners, /Listener Open l19 19 l18 18 /);
    assert.match(listeners, /l12 12 12 others 66$/);
  });

  it('say what each generation does', () => {
    const generations = [
      makeGeneration({
        number: 1,
        state: 'handing-over',
        deadline: '2026-11-24T14:07:50.000Z',
        connections: null,
      }),
      makeGeneration({ number: 2, runnerPid: null }),
      makeGeneration({ number: 3, state: 'starting', version: null }),
    ];
    const shown = textOf(region('generations', { generations }));
    assert.match(shown, /1 handing over, at most to 14:07:50 unknown 1\.40\.0 13:01:15 4711/);
    assert.match(shown, /2 serving, without a runner/);
    assert.match(shown, /3 starting 12 unknown/);
  });

  it('show the kinds that there are, which add up', () => {
    assert.match(textOf(region('kinds')), /Open HTTP\/1 6 HTTP\/2 2 TCP 1 WebSocket 3$/);
  });

  it('group peers by their address', () => {
    const peer = (port: number, seenForMs: number) => ({
      ...{ peer: `10.0.0.7:${port}`, local: '10.0.0.1:443', generation: 3, seenForMs },
    });
    const oldestPeers = [peer(1, 90_000), peer(2, 80_000), { ...peer(3, 1_000), peer: '[::1]:3' }];
    assert.match(
      textOf(region('peers', { oldestPeers })),
      /Seen for 10\.0\.0\.7 2 connections 10\.0\.0\.1:443 1m30s \[::1\]:3 10\.0\.0\.1:443 1s$/,
    );
  });

  it('let long names break where their parts meet', () => {
    assert.match(region('listeners'), /edge_<wbr>https/);
    assert.match(region('peers'), /10\.0\.0\.7<wbr><span class="port">:51234<\/span>/);
  });

  it('name the generation of a peer where there are several', () => {
    assert.match(
      textOf(region('peers')),
      /From To Seen for 10\.0\.0\.7:51234 10\.0\.0\.1:443 1m5s$/,
    );
    const generations = [makeGeneration({ number: 2 }), makeGeneration()];
    assert.match(textOf(region('peers', { generations })), /10\.0\.0\.1:443 3 1m5s$/);
  });

  it('say why they are empty', () => {
    assert.match(
      region('peers', { oldestPeers: null, oldestPeersNote: 'only Linux shows them' }),
      /can’t be seen: only Linux shows them/,
    );
    assert.match(region('peers', { oldestPeers: [] }), /There are none/);
    assert.match(region('listeners', { connections: null }), /can’t be counted/);
    assert.match(region('kinds', { connections: null }), /can’t be counted/);
    assert.match(region('generations', { generations: [] }), /None that pm2-envoy started/);
    assert.match(region('envoy', { envoy: null }), /There is none/);
    assert.match(region('log'), /Nothing has happened/);
  });

  it('show an Envoy of which little is known', () => {
    const envoy = {
      state: null,
      silentSince: null,
      version: null,
      uptimeSeconds: null,
      concurrency: null,
      listeners: 2,
      admin: 'http://127.0.0.1:9901',
      pid: null,
      generation: null,
    };
    assert.match(
      textOf(region('envoy', { envoy, lastPoll: null })),
      /^State does not answer Version unknown .* Admin http:\/\/127\.0\.0\.1:9901 Asked at never/,
    );
  });
});

describe('the title', () => {
  it('says what is worth knowing in another window', () => {
    assert.equal(titleOf(makeState()), 'idle, 12 open · edge-7 · pm2-envoy');
    assert.equal(
      titleOf(makeState(makeDrain({ connections: null }))),
      'wait, open unknown · edge-7 · pm2-envoy',
    );
    assert.match(titleOf(lose(makeState(), '', NOW_MS)), /^no connection · /);
  });
});
