import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { ResumeResult } from '../../src/drain/state.js';
import { silentLog } from '../../src/log.js';
import { type ManagerActions, registerActions } from '../../src/manager/actions.js';
import { NO_DRAIN, type Status } from '../../src/status/status.js';
import { idleStatus, makeResult } from './fakes.js';

const status: Status = {
  phase: 'idle',
  ...NO_DRAIN,
  timers: null,
  orphanedDrain: false,
  listenersClosed: false,
  abandonedDrain: false,
  connections: {
    open: 2,
    byListener: { web: 2 },
    byKind: { http1: 2, http2: 0, http3: 0, tcp: 0, websocket: 0, udp: 0 },
  },
  activeRequests: 1,
  newConnectionsPerSecond: null,
  paceLeftMs: null,
  oldestPeers: [],
  oldestPeersNote: null,
  envoy: {
    version: '1.40.0',
    state: 'LIVE',
    silentSince: null,
    uptimeSeconds: 5,
    concurrency: 2,
    listeners: 2,
    admin: 'unix:/run/admin.sock',
    pid: 77,
    generation: 3,
  },
  generations: [],
  failedStart: null,
  lastPoll: null,
  lastError: null,
  holding: 1,
  settings: idleStatus.settings,
};

function setUp(now: { status?: Status; isEnding?: boolean } = {}): {
  actions: ManagerActions;
  call(name: string): Promise<unknown>;
  /** What was called, and what was answered. */
  events: string[];
  end(): void;
} {
  const handlers = new Map<string, () => unknown>();
  const events: string[] = [];
  let end: (() => void) | undefined;
  const drained = new Promise<void>((resolve) => {
    end = resolve;
  });
  const actions = registerActions({
    channel: { onAction: (name, handler) => void handlers.set(name, handler) },
    hostDrain: {
      drain: async () => {
        events.push('drain');
        await drained;
        return makeResult();
      },
      resume: async (): Promise<ResumeResult> => {
        events.push('resume');
        end?.();
        await drained;
        for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
        return { kind: 'resumed', drain: makeResult({ outcome: 'cancelled' }) };
      },
    },
    readStatus: async () => now.status ?? status,
    log: silentLog,
    ownApp: { isEnding: async () => now.isEnding === true },
  });
  const call = async (name: string): Promise<unknown> => {
    const answer = await handlers.get(name)?.();
    events.push(`${name} is answered`);
    return answer;
  };
  return { actions, call, events, end: () => end?.() };
}

describe('registerActions shutdown', () => {
  it('is answered with the result at the end of the drain', async () => {
    const { call, events, end } = setUp();
    const answer = call('shutdown');
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(events, ['drain']);
    end();
    assert.deepEqual(await answer, makeResult());
  });

  it('is no drain while pm2 stops the app: with shutdown_with_message that is the same word', async () => {
    const { call, events } = setUp({ isEnding: true });
    await call('shutdown');
    assert.ok(!events.includes('drain'));
  });

  it('is answered after the resume that has cancelled it', async () => {
    const { call, events } = setUp();
    const shutdown = call('shutdown');
    await new Promise((resolve) => setImmediate(resolve));
    await Promise.all([shutdown, call('resume')]);
    assert.deepEqual(events.slice(2), ['resume is answered', 'shutdown is answered']);
  });
});

describe('registerActions status', () => {
  it('is short', async () => {
    assert.deepEqual(await setUp().call('status'), {
      phase: 'idle',
      openConnections: 2,
      activeRequests: 1,
      envoy: '1.40.0 LIVE, generation 3, pid 77',
    });
  });

  it('has the time that a drain has left, and how it ended', async () => {
    const draining: Status = { ...status, phase: 'wait', timeLeftMs: 61_400 };
    const { timeLeft } = (await setUp({ status: draining }).call('status')) as { timeLeft: string };
    assert.equal(timeLeft, '1m1s');
    const ended: Status = { ...status, phase: 'finish', outcome: 'timeout' };
    const { outcome } = (await setUp({ status: ended }).call('status')) as { outcome: string };
    assert.equal(outcome, 'timeout');
  });

  it('says what can’t be known, and why', async () => {
    const lost = { ...status, connections: null, activeRequests: null, envoy: null };
    assert.deepEqual(await setUp({ status: { ...lost, lastError: 'nobody' } }).call('status'), {
      phase: 'idle',
      openConnections: 'unknown',
      activeRequests: 'unknown',
      envoy: 'there is none',
      lastError: 'nobody',
    });
  });

  it('names the address of an Envoy that pm2-envoy did not start', async () => {
    const { envoy } = status;
    const foreign: Status = {
      ...status,
      envoy: envoy && { ...envoy, version: null, generation: null, pid: null },
    };
    const answer = (await setUp({ status: foreign }).call('status')) as { envoy: string };
    assert.equal(answer.envoy, 'does not answer, unix:/run/admin.sock');
  });
});

describe('registerActions isTrigger', () => {
  it('takes the message shutdown for the action, unless pm2 stops the app', async () => {
    assert.equal(await setUp().actions.isTrigger('shutdown'), true);
    assert.equal(await setUp({ isEnding: true }).actions.isTrigger('shutdown'), false);
  });

  it('takes no signal for it', async () => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      assert.equal(await setUp().actions.isTrigger(signal), false);
    }
  });
});
