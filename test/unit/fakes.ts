import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import pino from 'pino';
import type { AdminClient, StatsQuery } from '../../src/admin/client.js';
import type { Stat } from '../../src/admin/stats.js';
import type { Clock } from '../../src/clock.js';
import type { EnvoyTarget } from '../../src/drain/envoys.js';
import type { DrainLedger, DrainRecord } from '../../src/drain/record.js';
import type { DrainConfig } from '../../src/drain/run.js';
import { type DrainCommand, type DrainResult, eventsOf } from '../../src/drain/state.js';
import { type ErrorCode, Pm2EnvoyError } from '../../src/errors.js';
import { ownIdentity, type ProcessIdentity } from '../../src/host/process-identity.js';
import type { Log } from '../../src/log.js';
import type { PluginHost } from '../../src/plugins/api/types.js';
import type { Pm2Process } from '../../src/pm2/daemon.js';
import type { Status } from '../../src/status/status.js';

/** A clock whose sleeps take no time, but advance it. */
export interface FakeClock extends Clock {
  /** Every sleep so far, in milliseconds. */
  readonly sleeps: readonly number[];
  advance(ms: number): void;
  /** Calls `action` as soon as the clock has come to `atMs`. */
  at(atMs: number, action: () => void): void;
}

/** Starts far from 0, so that a duration taken for an instant shows. */
export function createFakeClock(startMs = 1_000_000): FakeClock {
  let nowMs = startMs;
  let alarms: { atMs: number; action: () => void }[] = [];
  const sleeps: number[] = [];
  const advance = (ms: number): void => {
    nowMs += ms;
    const due = alarms.filter(({ atMs }) => atMs <= nowMs);
    alarms = alarms.filter(({ atMs }) => atMs > nowMs);
    for (const { action } of due) action();
  };
  return {
    sleeps,
    advance,
    at: (atMs, action) => {
      alarms.push({ atMs, action });
    },
    nowMs: () => nowMs,
    sleep: async (ms, signal) => {
      if (signal?.aborted) return;
      if (!(ms > 0)) throw new RangeError(`slept for ${ms} ms: that would be a busy loop`);
      sleeps.push(ms);
      advance(ms);
      await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

/** A log that keeps what it is told. */
export interface FakeLog {
  log: Log;
  entries: { level: string; msg: string }[];
  /** Messages of one level. */
  of(level: string): string[];
}

export function createFakeLog(): FakeLog {
  const entries: FakeLog['entries'] = [];
  const log = pino(
    { level: 'debug', formatters: { level: (label) => ({ level: label }) } },
    { write: (line) => void entries.push(JSON.parse(line)) },
  );
  const of = (level: string) =>
    entries.filter((entry) => entry.level === level).map(({ msg }) => msg);
  return { log, entries, of };
}

/** What a fake Envoy shows and does; tests change it as time goes by. */
export interface FakeEnvoy {
  admin: AdminClient;
  /** `fail`, `close`, `Gauges`, `Counters`, `ports`: every call, failed ones too. */
  calls: string[];
  gauges: Record<string, number>;
  counters: Record<string, number>;
  tookMs: number;
  /** Every call but those below fails with this. */
  fault: Error | undefined;
  failFault: Error | undefined;
  closeFault: Error | undefined;
  statsFault: Error | undefined;
  ports: number[];
  /** What its counter says of its listeners. */
  isClosed: boolean;
  /** Told to close its listeners, it does so once `isClosed` is set. */
  closesLate: boolean;
  process: { pid: number; startTime: string } | undefined;
  /** Ends it as a process: its admin is gone as well. */
  die(): void;
}

const WEB = { name: 'web', addresses: [{ kind: 'ip', text: '127.0.0.1:10000' }] } as const;

/** An Envoy with one HTTP listener `web`; its process is this one, which lives for sure. */
export function createFakeEnvoy(open = 0, options: { foreign?: boolean } = {}): FakeEnvoy {
  const ask = <T>(name: string, fault: () => Error | undefined, answer: () => T): Promise<T> => {
    envoy.calls.push(name);
    const error = envoy.fault ?? fault();
    return error ? Promise.reject(error) : Promise.resolve(answer());
  };
  const statsOf = ({ type, filter }: StatsQuery): Stat[] =>
    Object.entries(type === 'Gauges' ? envoy.gauges : envoy.counters)
      .filter(([name]) => new RegExp(filter).test(name))
      .map(([name, value]) => ({ name, value }));
  const envoy: FakeEnvoy = {
    calls: [],
    gauges: {
      'listener.admin.downstream_cx_active': 1,
      'listener.web.downstream_cx_active': open,
      'http.web.downstream_cx_active': open,
      'http.web.downstream_rq_active': open,
    },
    counters: { 'listener.admin.downstream_cx_total': 1, 'listener.web.downstream_cx_total': 10 },
    tookMs: 0.4,
    fault: undefined,
    failFault: undefined,
    closeFault: undefined,
    statsFault: undefined,
    ports: [],
    isClosed: false,
    closesLate: false,
    process: options.foreign ? undefined : { ...ownIdentity() },
    die: () => {
      if (envoy.process) envoy.process.startTime = 'another life';
      envoy.fault = adminError('admin-gone');
    },
    admin: {
      address: 'unix:/fake.sock',
      contents: async () => ({ routes: [], secrets: [], filters: [], endpoints: new Map() }),
      failHealthCheck: () =>
        ask(
          'fail',
          () => envoy.failFault,
          () => undefined,
        ),
      passHealthCheck: () =>
        ask(
          'pass',
          () => envoy.failFault,
          () => undefined,
        ),
      askClientsToLeave: () =>
        ask(
          'leave',
          () => envoy.closeFault,
          () => undefined,
        ),
      reopenLogs: async () => undefined,
      closeListeners: () =>
        ask(
          'close',
          () => envoy.closeFault,
          () => {
            envoy.isClosed ||= !envoy.closesLate;
          },
        ),
      askInboundToLeave: () =>
        ask(
          'leave inbound',
          () => envoy.closeFault,
          () => undefined,
        ),
      closeInbound: () =>
        ask(
          'close inbound',
          () => envoy.closeFault,
          () => undefined,
        ),
      state: () =>
        ask(
          'state',
          () => undefined,
          () => 'LIVE',
        ),
      hasListeners: async () => envoy.ports.length > 0,
      listeners: () =>
        ask(
          'ports',
          () => undefined,
          () => [WEB],
        ),
      hasClosedListeners: async () => envoy.isClosed,
      serverInfo: () =>
        ask(
          'info',
          () => undefined,
          () => ({
            version: '1.40.0',
            state: 'LIVE',
            uptimeSeconds: 100,
            concurrency: 2,
            drainTimeMs: 600_000,
          }),
        ),
      stats: (query) =>
        ask(
          query.type,
          () => envoy.statsFault,
          () => ({ stats: statsOf(query), tookMs: envoy.tookMs }),
        ),
      listenerPorts: () =>
        ask(
          'ports',
          () => undefined,
          () => envoy.ports,
        ),
      listenerConfigs: async () => [],
      close: () => undefined,
    },
  };
  return envoy;
}

/** Sets how many connections, all of them busy HTTP ones, the listener `web` has. */
export function setOpen(envoy: FakeEnvoy, open: number, busy = open): void {
  envoy.gauges['listener.web.downstream_cx_active'] = open;
  envoy.gauges['http.web.downstream_cx_active'] = open;
  envoy.gauges['http.web.downstream_rq_active'] = busy;
}

export function targetOf(envoy: FakeEnvoy, name = 'generation 1'): EnvoyTarget {
  return { name, admin: envoy.admin, process: envoy.process };
}

export function adminError(code: ErrorCode): Pm2EnvoyError {
  return new Pm2EnvoyError(code, `fake ${code}`);
}

/** A drain of at most 60 s that polls at least each second. */
export const drainConfig: DrainConfig = {
  checkIntervalMs: 1_000,
  checkIntervalMinMs: 250,
  checkDelayMs: 10_000,
  quietPeriodMs: 0,
  minOpenConnections: 0,
  drainTimeoutMs: 60_000,
  drainUntil: 'connections',
  drainListeners: 'all',
  ignoreListeners: [],
};

/** Goes through the steps of a drain without any hooks around them. */
export const drainSteps: Pick<PluginHost, 'run'> = {
  run: async (command, call = {}) => {
    const events: readonly string[] = eventsOf(command as DrainCommand);
    if (command === 'resume') {
      await call.drain?.passHealth();
      return;
    }
    for (const event of events.slice(events.indexOf(call.from ?? events[0] ?? ''))) {
      if (call.skips?.(event)) continue;
      call.onEvent?.(event);
      if (event === 'fail-health') await call.drain?.failHealth();
      if (event === 'delay') await call.drain?.delay();
      if (event === 'close') await call.drain?.close();
      if (event === 'wait') await call.drain?.wait();
    }
  },
};

/** A record of a drain that begins at `nowMs` and is led by this process. */
export function makeRecord(nowMs: number, more: Partial<DrainRecord> = {}): DrainRecord {
  return {
    phase: 'fail-health',
    startedAt: '2026-01-01T00:00:00.000Z',
    startedAtMs: nowMs,
    deadlineMs: nowMs + 60_000,
    connectionsAtStart: null,
    leader: ownIdentity(),
    ...{ number: 1, term: 1, envoys: [], steps: [], checkDelayMs: null, startedBy: null },
    ...more,
  };
}

export function makeResult(more: Partial<DrainResult> = {}): DrainResult {
  return {
    outcome: 'drained',
    phase: 'finish',
    startedAt: '2026-01-01T00:00:00.000Z',
    durationMs: 1_234,
    connectionsAtStart: 3,
    connectionsLeft: 0,
    ...more,
  };
}

/** The status of a host without an Envoy. */
export const idleStatus: Status = {
  ...{ phase: 'idle', outcome: null, startedAt: null, deadline: null, timeLeftMs: null },
  ...{ connectionsAtStart: null, durationMs: null, connectionsLeft: null },
  ...{ orphanedDrain: false, listenersClosed: false, abandonedDrain: false },
  ...{ connections: null, activeRequests: null, newConnectionsPerSecond: null, paceLeftMs: null },
  ...{ oldestPeers: [], oldestPeersNote: null, lastPoll: null, lastError: null },
  ...{ envoy: null, generations: [], failedStart: null, holding: null, listenersCloseAt: null },
  ...{ steps: [], checkDelayMs: null, startedBy: null, timers: null },
  settings: {
    version: '0.1.0',
    bootstrap: null,
    checkDelayMs: 60_000,
    drainTimeoutMs: 300_000,
    drainUntil: 'connections',
    minOpenConnections: 0,
  },
};

/** An app of pm2's that is online, with the settings of envoyApps(). */
export function makePm2Process(more: Partial<Pm2Process> = {}): Pm2Process {
  return {
    pmId: 0,
    name: 'envoy',
    pid: 0,
    status: 'online',
    createdAtMs: 0,
    restarts: 0,
    backOffMs: undefined,
    startedAtMs: 0,
    script: '/app.js',
    cwd: '/',
    env: {},
    givenEnv: {},
    args: [],
    settings: {
      execMode: 'cluster_mode',
      waitReady: true,
      killTimeoutMs: 330_000,
      listenTimeoutMs: 90_000,
      treekill: false,
      pmx: false,
      stopExitCodes: [75, 78],
      autorestart: true,
    },
    ...more,
  };
}

/** No one: a process that has ended. */
export const deadIdentity: ProcessIdentity = { pid: process.pid, startTime: 'another life' };

/** No one cancels a drain. */
export const undecided: Pick<DrainLedger, 'decide' | 'decision' | 'hasLater'> = {
  decide: (decision) => decision,
  decision: () => undefined,
  hasLater: () => false,
};

/** A folder that is removed when the tests of the file are over. */
export function makeTempFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'pu-'));
  after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Asks again until `check` holds; for what the kernel does in its own time. */
export async function reaches(what: string, check: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + 5_000;
  while (!check()) {
    if (performance.now() > deadlineMs) throw new Error(`it never came to ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
