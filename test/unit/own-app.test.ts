import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Pm2EnvoyError } from '../../src/errors.js';
import type { Pm2Daemon, Pm2Process } from '../../src/pm2/daemon.js';
import { type OwnApp, openOwnApp, type StopIntent } from '../../src/pm2/own-app.js';
import { createFakeClock, makePm2Process } from './fakes.js';

/** When the signal came. */
const SIGNAL_MS = 1_800_000_000_000;
const HOUR_MS = 3_600_000;

/** What pm2 says of an app that has run for an hour; this process, unless told otherwise. */
function appWith(more: Partial<Pm2Process> = {}): Pm2Process {
  const startedAtMs = SIGNAL_MS - HOUR_MS;
  return makePm2Process({ pid: process.pid, createdAtMs: startedAtMs, startedAtMs, ...more });
}

interface FakeDaemon {
  daemon: Pm2Daemon;
  removed: (number | string)[];
  asked(): number;
}

/** A daemon with these apps; one that fails, if there are none. */
function daemonWith(apps: readonly Pm2Process[] | undefined): FakeDaemon {
  const removed: (number | string)[] = [];
  let asked = 0;
  const failing = async (): Promise<never> => {
    asked += 1;
    throw new Pm2EnvoyError('pm2-unreachable', 'no daemon listens there');
  };
  const daemon: Pm2Daemon = {
    processes: async () => {
      if (!apps) return failing();
      asked += 1;
      return [...apps];
    },
    reload: failing,
    remove: async (pmId) => {
      if (!apps) return failing();
      removed.push(pmId);
    },
  };
  return { daemon, removed, asked: () => asked };
}

function ownAppOf(daemon: Pm2Daemon, env: NodeJS.ProcessEnv = { pm_id: '0' }): OwnApp {
  return openOwnApp({ env, daemon, isPm2There: () => false });
}

describe('openOwnApp stopIntent', () => {
  const own = (more: Partial<Pm2Process>): Pm2Process[] => [appWith(more)];
  const intents: readonly { what: string; apps: readonly Pm2Process[]; intent: StopIntent }[] = [
    { what: 'an app that has run as it was started', apps: own({}), intent: 'stop' },
    ...[0, 4, 49, 300].map((agoMs) => ({
      what: `counters that were reset ${agoMs} ms before the signal`,
      apps: own({ createdAtMs: SIGNAL_MS - agoMs }),
      intent: 'restart' as const,
    })),
    {
      what: 'counters that were reset 301 ms before the signal, as by `pm2 reset`',
      apps: own({ createdAtMs: SIGNAL_MS - 301 }),
      intent: 'stop',
    },
    {
      what: 'the first restart, however late the signal is heard of',
      apps: own({ createdAtMs: SIGNAL_MS - 2_000, backOffMs: 0 }),
      intent: 'restart',
    },
    {
      what: '`pm2 reset` long before',
      apps: own({ createdAtMs: SIGNAL_MS - HOUR_MS / 2 }),
      intent: 'stop',
    },
    {
      what: 'a stop right after the start, which resets nothing',
      apps: own({ createdAtMs: SIGNAL_MS - 100, startedAtMs: SIGNAL_MS - 100 }),
      intent: 'stop',
    },
    {
      what: 'a stop right after a restart: the reset was before this process',
      apps: own({ createdAtMs: SIGNAL_MS - 120, startedAtMs: SIGNAL_MS - 100 }),
      intent: 'stop',
    },
    {
      what: 'a pm2 that knows other apps only',
      apps: [appWith({ pmId: 7, name: 'other', pid: 1, createdAtMs: SIGNAL_MS })],
      intent: 'stop',
    },
    { what: 'a pm2 without apps', apps: [], intent: 'stop' },
    {
      what: 'another app that is restarted',
      apps: [...own({}), appWith({ pmId: 1, pid: 1, createdAtMs: SIGNAL_MS - 10 })],
      intent: 'stop',
    },
  ];
  for (const { what, apps, intent } of intents) {
    it(`is ${intent} for ${what}`, async () => {
      assert.equal(await ownAppOf(daemonWith(apps).daemon).stopIntent(SIGNAL_MS), intent);
    });
  }

  it('is stop where a later process was reset: that is no first restart', async () => {
    const { daemon } = daemonWith([appWith({ createdAtMs: SIGNAL_MS - 2_000, backOffMs: 0 })]);
    const env = { pm_id: '0', prev_restart_delay: '0' };
    assert.equal(await ownAppOf(daemon, env).stopIntent(SIGNAL_MS), 'stop');
  });

  it('is stop when the daemon fails', async () => {
    assert.equal(await ownAppOf(daemonWith(undefined).daemon).stopIntent(SIGNAL_MS), 'stop');
  });

  it('is stop without pm2, which is not asked then', async () => {
    const { daemon, asked } = daemonWith([appWith({ createdAtMs: SIGNAL_MS })]);
    assert.equal(await ownAppOf(daemon, {}).stopIntent(SIGNAL_MS), 'stop');
    assert.equal(asked(), 0);
  });

  it('is reload for an instance that another one has replaced', async () => {
    const { daemon } = daemonWith([appWith({ pid: process.pid + 1, startedAtMs: SIGNAL_MS })]);
    assert.equal(await ownAppOf(daemon).stopIntent(SIGNAL_MS), 'reload');
  });
});

describe('openOwnApp with a pm2 that is there, and does not answer', () => {
  const openWith = (failures: number) => {
    const clock = createFakeClock(0);
    const said: string[] = [];
    let asked = 0;
    const { daemon } = daemonWith([appWith({ pid: process.pid + 1 })]);
    const own = openOwnApp({
      env: { pm_id: '0' },
      daemon: {
        ...daemon,
        processes: async () => {
          asked += 1;
          if (asked <= failures) throw new Pm2EnvoyError('pm2-unreachable', 'no answer');
          return daemon.processes();
        },
      },
      isPm2There: () => true,
      warn: (message) => void said.push(message),
      clock,
    });
    return { own, said, clock };
  };

  it('asks again: being busy is not being gone', async () => {
    const { own, said } = openWith(3);
    assert.equal(await own.stopIntent(SIGNAL_MS), 'reload');
    assert.deepEqual(said, []);
  });

  it('gives up after seconds, says so, and then it is a stop', async () => {
    const { own, said, clock } = openWith(Number.POSITIVE_INFINITY);
    assert.equal(await own.stopIntent(SIGNAL_MS), 'stop');
    assert.ok(clock.nowMs() < 10_000, `after ${clock.nowMs()} ms`);
    assert.deepEqual(said, ['what pm2 is doing is unknown: no answer']);
  });
});

describe('openOwnApp isEnding', () => {
  it('is true while pm2 stops this process, and once another one has replaced it', async () => {
    for (const app of [appWith({ status: 'stopping' }), appWith({ pid: process.pid + 1 })]) {
      assert.equal(await ownAppOf(daemonWith([app]).daemon).isEnding(), true);
    }
  });

  it('is false while it is to run, when the daemon fails, and without pm2', async () => {
    assert.equal(await ownAppOf(daemonWith([appWith()]).daemon).isEnding(), false);
    assert.equal(await ownAppOf(daemonWith(undefined).daemon).isEnding(), false);
    const stopping = daemonWith([appWith({ status: 'stopping' })]);
    assert.equal(await ownAppOf(stopping.daemon, {}).isEnding(), false);
  });
});

describe('openOwnApp isStopping', () => {
  it('is true while pm2 stops that process', async () => {
    const { daemon } = daemonWith([appWith(), appWith({ pmId: 1, pid: 7, status: 'stopping' })]);
    assert.equal(await ownAppOf(daemon).isStopping(7), true);
  });

  it('is false of one that goes on or that a reload replaces, and when the daemon fails', async () => {
    const replaced = appWith({ pmId: '_old_1', pid: 8, status: 'stopping' });
    const { daemon } = daemonWith([appWith({ pmId: 1, pid: 7 }), replaced]);
    for (const pid of [7, 8, 9]) assert.equal(await ownAppOf(daemon).isStopping(pid), false);
    assert.equal(await ownAppOf(daemonWith(undefined).daemon).isStopping(7), false);
  });
});

describe('openOwnApp isWanted', () => {
  const wanted: Readonly<Record<string, boolean>> = {
    online: true,
    launching: true,
    'waiting restart': true,
    stopping: false,
    stopped: false,
    errored: false,
    'one-launch-status': false,
    unknown: false,
  };
  for (const [status, isWanted] of Object.entries(wanted)) {
    it(`is ${isWanted} while pm2 has the app as ${status}, whichever process it is`, async () => {
      const { daemon } = daemonWith([appWith({ pid: 1, status })]);
      assert.equal(await ownAppOf(daemon).isWanted(), isWanted);
    });
  }

  it('goes by the pm_id, not by the name', async () => {
    const { daemon } = daemonWith([appWith({ pmId: 1 }), appWith({ pmId: 2, status: 'stopped' })]);
    assert.equal(await ownAppOf(daemon, { pm_id: '1' }).isWanted(), true);
    assert.equal(await ownAppOf(daemon, { pm_id: '2' }).isWanted(), false);
    assert.equal(await ownAppOf(daemon, { pm_id: '3' }).isWanted(), false);
  });

  it('is false when the daemon fails, and without pm2', async () => {
    assert.equal(await ownAppOf(daemonWith(undefined).daemon).isWanted(), false);
    assert.equal(await ownAppOf(daemonWith([appWith()]).daemon, {}).isWanted(), false);
  });
});

describe('openOwnApp removeReplaced', () => {
  it('removes the instance that pm2 has put aside for this one', async () => {
    const { daemon, removed } = daemonWith([appWith()]);
    assert.equal(await ownAppOf(daemon, { pm_id: '3' }).removeReplaced(), true);
    assert.deepEqual(removed, ['_old_3']);
  });

  it('is false when the daemon refuses, as it does without such an instance', async () => {
    assert.equal(await ownAppOf(daemonWith(undefined).daemon).removeReplaced(), false);
  });

  it('is false without pm2, and removes nothing', async () => {
    const { daemon, removed } = daemonWith([appWith()]);
    assert.equal(await ownAppOf(daemon, {}).removeReplaced(), false);
    assert.deepEqual(removed, []);
  });
});
