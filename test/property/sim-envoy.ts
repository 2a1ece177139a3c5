import type { AdminClient, StatsQuery } from '../../src/admin/client.js';
import type { Generation } from '../../src/host/generations.js';
import { adminError } from '../unit/fakes.js';
import type { SimClock } from './sim-clock.js';
import type { SimProcess } from './sim-machine.js';

/** How an Envoy's admin interface behaves: `refusing` forbids the paths that drain. */
export type AdminMode = 'answering' | 'hanging' | 'failing' | 'refusing';

/** One Envoy process, with its connections. */
export interface SimEnvoy {
  readonly process: SimProcess;
  readonly startedAtMs: number;
  open: number;
  /** Active requests, of as many connections. */
  busy: number;
  accepted: number;
  mode: AdminMode;
  /** How the run directory has it; undefined for one at admin-address. */
  generation: Generation | undefined;
  /** When its health check was failed and its listeners closed, first. */
  failedAtMs: number | undefined;
  closedAtMs: number | undefined;
}

/** What an admin call saw. */
export interface Look {
  by: SimProcess;
  atMs: number;
  /** Undefined: there was no answer. */
  seen: { envoy: SimEnvoy; open: number; busy: number } | undefined;
}

/** The time limit of one call, as the real client has it. */
const CALL_LIMIT_MS = 5_000;

/**
 * The admin interface of the Envoy that `envoyAt` names at each call, as `by` calls it. A call gets to
 * Envoy after half its time, whatever becomes of the caller.
 */
export function createSimAdmin(options: {
  by: SimProcess;
  envoyAt: () => SimEnvoy | undefined;
  clock: SimClock;
  latencyMs: number;
  /** Told of each look at the gauges. */
  onLook: (look: Look) => void;
  /** Until when a signal lets a call run. */
  deadlineOf: (signal: AbortSignal | undefined) => number;
}): AdminClient {
  const { by, envoyAt, clock, latencyMs, onLook, deadlineOf } = options;

  const call = async <T>(
    request: { signal: AbortSignal | undefined; drains?: boolean },
    answer: (envoy: SimEnvoy) => T,
  ): Promise<T> => {
    const envoy = envoyAt();
    if (!envoy || envoy.process.state() === 'dead') {
      await by.wait(1);
      throw adminError('admin-gone');
    }
    const limitMs = Math.min(CALL_LIMIT_MS, deadlineOf(request.signal) - clock.nowMs());
    if (envoy.mode === 'hanging' || limitMs < latencyMs) {
      await by.wait(Math.max(1, limitMs));
      throw adminError(limitMs === CALL_LIMIT_MS ? 'admin-timeout' : 'admin-failed');
    }
    const reply: { answer?: { value: T }; error: Error } = { error: adminError('admin-failed') };
    clock.at(clock.nowMs() + Math.floor(latencyMs / 2), () => {
      if (envoy.process.state() === 'dead' || envoy.mode === 'failing') return;
      if (request.drains && envoy.mode === 'refusing') reply.error = adminError('admin-refused');
      else reply.answer = { value: answer(envoy) };
    });
    await by.wait(latencyMs);
    if (!reply.answer) throw reply.error;
    return reply.answer.value;
  };

  const look = async (query: StatsQuery, signal?: AbortSignal) => {
    const seen: Look = { by, atMs: clock.nowMs(), seen: undefined };
    try {
      return await call({ signal }, (envoy) => {
        seen.seen = { envoy, open: envoy.open, busy: envoy.busy };
        const values = query.type === 'Gauges' ? gaugesOf(envoy) : countersOf(envoy);
        const filter = new RegExp(query.filter);
        const stats = Object.entries(values)
          .filter(([name]) => filter.test(name))
          .map(([name, value]) => ({ name, value }));
        return { stats, tookMs: 0.4 };
      });
    } finally {
      if (query.type === 'Gauges') onLook(seen);
    }
  };

  return {
    address: 'unix:/sim/admin.sock',
    failHealthCheck: (signal) =>
      call({ signal, drains: true }, (envoy) => {
        envoy.failedAtMs ??= clock.nowMs();
      }),
    passHealthCheck: (signal) =>
      call({ signal }, (envoy) => {
        envoy.failedAtMs = undefined;
      }),
    askClientsToLeave: (signal) => call({ signal, drains: true }, () => undefined),
    reopenLogs: async () => undefined,
    contents: async () => ({ routes: [], secrets: [], filters: [], endpoints: new Map() }),
    closeListeners: (signal) =>
      call({ signal, drains: true }, (envoy) => {
        envoy.closedAtMs ??= clock.nowMs();
      }),
    askInboundToLeave: (signal) => call({ signal, drains: true }, () => undefined),
    closeInbound: (signal) => call({ signal, drains: true }, () => undefined),
    serverInfo: (signal) =>
      call({ signal }, ({ startedAtMs }) => {
        const uptimeSeconds = Math.floor((clock.nowMs() - startedAtMs) / 1_000);
        return {
          version: '1.40.0',
          state: 'LIVE',
          uptimeSeconds,
          concurrency: 2,
          drainTimeMs: 600_000,
        };
      }),
    stats: look,
    state: (signal) =>
      call({ signal }, ({ failedAtMs, generation }) => {
        if (generation?.ready === false) return 'INITIALIZING';
        return failedAtMs === undefined ? 'LIVE' : 'DRAINING';
      }),
    hasListeners: (signal) => call({ signal }, () => true),
    hasClosedListeners: (signal) => call({ signal }, ({ closedAtMs }) => closedAtMs !== undefined),
    listenerPorts: (signal) => call({ signal }, () => [10_000]),
    listeners: (signal) =>
      call({ signal }, () => [
        { name: 'web', addresses: [{ kind: 'ip', text: '127.0.0.1:10000' }] },
      ]),
    listenerConfigs: (signal) => call({ signal }, () => []),
    close: () => undefined,
  };
}

function gaugesOf({ open, busy }: SimEnvoy): Record<string, number> {
  return {
    'listener.admin.downstream_cx_active': 1,
    'http.admin.downstream_cx_active': 1,
    'http.admin.downstream_rq_active': 1,
    'listener.web.downstream_cx_active': open,
    'listener.web.worker_0.downstream_cx_active': open,
    'http.web.downstream_cx_active': open,
    'http.web.downstream_rq_active': busy,
  };
}

function countersOf({ accepted }: SimEnvoy): Record<string, number> {
  return { 'listener.admin.downstream_cx_total': 1, 'listener.web.downstream_cx_total': accepted };
}
