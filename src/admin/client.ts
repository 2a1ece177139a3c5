import { Agent } from 'node:http';
import { performance } from 'node:perf_hooks';
import axios, { type AxiosInstance, isAxiosError } from 'axios';
import {
  type ErrorCode,
  isPm2EnvoyError,
  messageOf,
  Pm2EnvoyError,
  systemCodeOf,
} from '../errors.js';
import { type AdminAddress, formatAdminAddress } from './address.js';
import {
  type Contents,
  parseEdsClusters,
  parseEndpoints,
  parseNames,
  type Wanted,
} from './contents.js';
import {
  type DumpedListener,
  parseListenerDump,
  parseRunningListeners,
  type RunningListener,
} from './listeners.js';
import { parseServerInfo, type ServerInfo } from './server-info.js';
import { parseStats, type Stat } from './stats.js';

/** Envoy's own word for its state, from `/ready` and `/server_info`. */
export type EnvoyState = 'LIVE' | 'DRAINING' | 'PRE_INITIALIZING' | 'INITIALIZING';

/**
 * One Envoy's admin interface. Each call has its own time limit and rejects with a Pm2EnvoyError:
 * `admin-gone` (nothing listens there), `admin-timeout`, `admin-refused` (forbidden: asking again won't
 * help), `admin-payload` (an answer that no Envoy gives) or `admin-failed` (anything else, such as a
 * status of 500 or a broken connection).
 */
export interface AdminClient {
  readonly address: string;
  /** `POST /healthcheck/fail`: `/ready` turns 503, responses ask clients to leave. Idempotent. */
  failHealthCheck(signal?: AbortSignal): Promise<void>;
  /** `POST /healthcheck/ok`: takes {@link failHealthCheck} back. Idempotent. */
  passHealthCheck(signal?: AbortSignal): Promise<void>;
  /**
   * `POST /drain_listeners?graceful&skip_exit`: more and more responses ask clients to leave, over
   * `--drain-time-s`, with `/ready` still LIVE. Envoy 1.40 does so with {@link closeListeners} too;
   * earlier ones would keep a busy connection for good. Idempotent.
   */
  askClientsToLeave(signal?: AbortSignal): Promise<void>;
  /** `POST /drain_listeners`: listeners stop accepting immediately. Idempotent, and final. */
  closeListeners(signal?: AbortSignal): Promise<void>;
  /** {@link askClientsToLeave} for listeners with `traffic_direction: INBOUND` only. */
  askInboundToLeave(signal?: AbortSignal): Promise<void>;
  /** {@link closeListeners} for the same. */
  closeInbound(signal?: AbortSignal): Promise<void>;
  /** `POST /reopen_logs`: reopens the files of access logs, after they were moved away. Idempotent. */
  reopenLogs(signal?: AbortSignal): Promise<void>;
  state(signal?: AbortSignal): Promise<EnvoyState>;
  serverInfo(signal?: AbortSignal): Promise<ServerInfo>;
  /** Gauges or counters whose names match `filter` (RE2), without those never touched. */
  stats(query: StatsQuery, signal?: AbortSignal): Promise<StatsReply>;
  /** Ports of the configured listeners; rejects when one is no TCP or UDP port. */
  listenerPorts(signal?: AbortSignal): Promise<number[]>;
  /** Whether any listener is configured. */
  hasListeners(signal?: AbortSignal): Promise<boolean>;
  /** The listeners in effect, with every address of each. */
  listeners(signal?: AbortSignal): Promise<RunningListener[]>;
  /** The listeners as they are configured, those that Envoy refused too. With 500 of them it takes 0.1 s. */
  listenerConfigs(signal?: AbortSignal): Promise<DumpedListener[]>;
  /**
   * What it has of what its listeners refer to; if asked, its clusters by EDS with their endpoints, too. Envoy then
   * builds dumps of all clusters.
   */
  contents(wanted: Wanted, withEndpoints: boolean, signal?: AbortSignal): Promise<Contents>;
  /**
   * Whether its listeners have been closed, by whomever: `listener_manager.listener_stopped` is 0 before
   * {@link closeListeners} and above 0 for good after it (docs/facts/envoy.md). Undefined where a stats_matcher
   * hides the counter.
   */
  hasClosedListeners(signal?: AbortSignal): Promise<boolean | undefined>;
  /** Closes the kept connection. */
  close(): void;
}

/** Which stats to read. */
export interface StatsQuery {
  type: 'Gauges' | 'Counters' | 'All';
  filter: string;
  /** Includes those never touched, which Envoy leaves out otherwise; more expensive. */
  alsoUnused?: boolean;
}

/**
 * Stats, and how long Envoy took to answer: its main thread was busy for at most as long. Where this process was busy
 * itself meanwhile (a thousand callers at once), that would count as Envoy's: then it is what a query of this type took
 * when it was not, and until there has been one, what it has waited for Envoy.
 */
export interface StatsReply {
  stats: readonly Stat[];
  tookMs: number;
}

/** What is called of the admin interface. */
export type AdminPath =
  | '/ready'
  | '/server_info'
  | '/stats'
  | '/listeners'
  | '/config_dump'
  | '/healthcheck/fail'
  | '/healthcheck/ok'
  | '/drain_listeners'
  | '/reopen_logs';

/** Every path that a manager calls. */
export const ADMIN_PATHS: readonly AdminPath[] = [
  '/ready',
  '/server_info',
  '/stats',
  '/listeners',
  '/healthcheck/fail',
  '/healthcheck/ok',
  '/drain_listeners',
];

/** A call that has ended. */
export interface AdminCall {
  path: AdminPath;
  tookMs: number;
  /** Undefined: it was answered well. */
  error?: ErrorCode;
}

const STOPPED_FILTER = '^listener_manager\\.listener_stopped$';
const LARGEST_REPLY_BYTES = 64 * 1024 * 1024;
const STATES: readonly string[] = ['LIVE', 'DRAINING', 'PRE_INITIALIZING', 'INITIALIZING'];

/**
 * Creates the client of one admin interface; `timeoutMs` bounds each call.
 *
 * @param onCall told of each call at its end
 */
export function createAdminClient(
  address: AdminAddress,
  timeoutMs = 5_000,
  onCall: (call: AdminCall) => void = () => undefined,
): AdminClient {
  // One connection: admin requests queue behind each other in Envoy anyway.
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const shown = formatAdminAddress(address);
  const { call, post, get } = createCalls({
    http: createHttp(address, agent),
    shown,
    timeoutMs,
    onCall,
  });
  let showsStopped = false;
  const undisturbedMs = new Map<string, number>();
  const readStats = ({ type, filter, alsoUnused }: StatsQuery, signal?: AbortSignal) => {
    const parameters = new URLSearchParams({ type, filter, format: 'json' });
    const query = `?${parameters}${alsoUnused ? '' : '&usedonly'}`;
    const before = performance.eventLoopUtilization();
    const startedMs = performance.now();
    const read = (text: string): StatsReply => {
      const tookMs = performance.now() - startedMs;
      const { active, idle } = performance.eventLoopUtilization(before);
      if (active <= idle) undisturbedMs.set(type, tookMs);
      const envoyMs = Math.min(tookMs, undisturbedMs.get(type) ?? idle);
      return { stats: parsed(shown, '/stats', text, parseStats), tookMs: envoyMs };
    };
    return call({ method: 'GET', path: '/stats', query }, read, signal);
  };

  return {
    address: shown,
    failHealthCheck: post('/healthcheck/fail'),
    passHealthCheck: post('/healthcheck/ok'),
    askClientsToLeave: post('/drain_listeners', '?graceful&skip_exit'),
    closeListeners: post('/drain_listeners'),
    askInboundToLeave: post('/drain_listeners', '?graceful&skip_exit&inboundonly'),
    closeInbound: post('/drain_listeners', '?inboundonly'),
    reopenLogs: post('/reopen_logs'),
    state: (signal) => {
      const read = (text: string): EnvoyState => readState(shown, text.trim());
      return call({ method: 'GET', path: '/ready', alsoStatus: 503 }, read, signal);
    },
    serverInfo: (signal) => get({ path: '/server_info' }, parseServerInfo, signal),
    stats: readStats,
    listenerPorts: (signal) => get(LISTENERS, parseListenerPorts, signal),
    hasListeners: (signal) => get(LISTENERS, (json) => parseListeners(json).length > 0, signal),
    listeners: (signal) => get(LISTENERS, parseRunningListeners, signal),
    listenerConfigs: async (signal) => {
      const ask = (resource: string): Promise<DumpedListener[]> =>
        dump(get, { resource, parse: parseListenerDump, signal });
      return [...(await ask('static_listeners')), ...(await ask('dynamic_listeners'))];
    },
    contents: async (wanted, withEndpoints, signal) => ({
      ...(await readWanted(get, wanted, signal)),
      endpoints: withEndpoints ? await readEndpoints(get, signal) : new Map(),
    }),
    hasClosedListeners: async (signal) => {
      const query = { type: 'Counters', filter: STOPPED_FILTER } as const;
      const { stats } = await readStats(query, signal);
      if (stats.some(({ value }) => value > 0)) return true;
      // Left out because it was never touched, or hidden: asked once, as that costs more.
      showsStopped ||= (await readStats({ ...query, alsoUnused: true }, signal)).stats.length > 0;
      return showsStopped ? false : undefined;
    },
    close: () => agent.destroy(),
  };
}

type Get = ReturnType<typeof createCalls>['get'];

/** Asks for nothing that no listener refers to: each dump is built by Envoy's main thread. */
async function readWanted(get: Get, wanted: Wanted, signal?: AbortSignal): Promise<Wanted> {
  const namesOf = async (names: readonly string[], resource: string, key?: string) =>
    names.length === 0
      ? []
      : dump(get, { resource, parse: (json) => parseNames(json, key), signal });
  return {
    routes: await namesOf(wanted.routes, 'dynamic_route_configs', 'route_config'),
    secrets: await namesOf(wanted.secrets, 'dynamic_active_secrets'),
    filters: await namesOf(wanted.filters, 'ecds_filters', 'ecds_filter'),
  };
}

async function readEndpoints(get: Get, signal?: AbortSignal): Promise<Contents['endpoints']> {
  const clusters = (resource: string): Promise<string[]> =>
    dump(get, { resource, parse: parseEdsClusters, signal });
  const endpoints = (resource: string): Promise<[string, boolean][]> =>
    dump(get, { resource: `${resource}&include_eds`, parse: parseEndpoints, signal });
  const eds = new Set([
    ...(await clusters('static_clusters')),
    ...(await clusters('dynamic_active_clusters')),
  ]);
  if (eds.size === 0) return new Map();
  const all = [
    ...(await endpoints('static_endpoint_configs')),
    ...(await endpoints('dynamic_endpoint_configs')),
  ];
  return new Map(all.filter(([name]) => eds.has(name)));
}

function dump<T>(
  get: Get,
  {
    resource,
    parse,
    signal,
  }: { resource: string; parse: (json: unknown) => T[]; signal: AbortSignal | undefined },
): Promise<T[]> {
  return get({ path: '/config_dump', query: `?resource=${resource}` }, parse, signal);
}

const LISTENERS = { path: '/listeners', query: '?format=json' } as const;

function createHttp(address: AdminAddress, agent: Agent): AxiosInstance {
  return axios.create({
    baseURL: address.kind === 'tcp' ? address.url : 'http://envoy',
    ...(address.kind === 'unix' ? { socketPath: address.path } : {}),
    httpAgent: agent,
    // HTTP_PROXY must not catch admin calls.
    proxy: false,
    maxRedirects: 0,
    maxContentLength: LARGEST_REPLY_BYTES,
    responseType: 'text',
    transformResponse: [],
    validateStatus: () => true,
  });
}

/** The kinds of calls; each gives the answer as it is made out by a function that may throw. */
function createCalls(options: {
  http: AxiosInstance;
  shown: string;
  timeoutMs: number;
  onCall: (call: AdminCall) => void;
}) {
  const { http, shown, timeoutMs, onCall } = options;
  const call = async <T>(
    request: Request,
    read: (text: string) => T,
    signal?: AbortSignal,
  ): Promise<T> => {
    const startedMs = performance.now();
    const note = (more: Pick<AdminCall, 'error'>): void =>
      onCall({ path: request.path, tookMs: performance.now() - startedMs, ...more });
    try {
      const answer = read(await send(http, { ...request, timeoutMs, shown }, signal));
      note({});
      return answer;
    } catch (error) {
      note({ error: isPm2EnvoyError(error) ? error.code : 'admin-failed' });
      throw error;
    }
  };
  const post = (path: AdminPath, query = '') => {
    return (signal?: AbortSignal): Promise<void> =>
      call({ method: 'POST', path, query }, () => undefined, signal);
  };
  const get = <T>(
    request: Omit<Request, 'method'>,
    parse: (json: unknown) => T,
    signal?: AbortSignal,
  ): Promise<T> => {
    const read = (text: string): T => parsed(shown, request.path, text, parse);
    return call({ method: 'GET', ...request }, read, signal);
  };
  return { call, post, get };
}

interface Request {
  method: 'GET' | 'POST';
  path: AdminPath;
  query?: string;
  /** A status beside 200 that is an answer as well. */
  alsoStatus?: number;
}

async function send(
  http: AxiosInstance,
  request: Request & { timeoutMs: number; shown: string },
  signal?: AbortSignal,
): Promise<string> {
  const { method, path, query = '', timeoutMs, shown, alsoStatus } = request;
  const limit = AbortSignal.timeout(timeoutMs);
  const what = `${method} ${path} on Envoy's admin interface ${shown}`;
  try {
    const reply = await http.request<string>({
      method,
      url: path + query,
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
    if (reply.status === 200 || reply.status === alsoStatus) return String(reply.data);
    throw new Pm2EnvoyError(
      codeOfStatus(reply.status),
      `${what} returned ${reply.status}${statusHint(reply.status)}`,
    );
  } catch (error) {
    if (error instanceof Pm2EnvoyError) throw error;
    if (limit.aborted) {
      throw new Pm2EnvoyError('admin-timeout', `${what} was not answered within ${timeoutMs} ms`, {
        cause: error,
      });
    }
    if (signal?.aborted) {
      throw new Pm2EnvoyError(
        'admin-timeout',
        `${what} was not answered in the time that was left`,
        {
          cause: error,
        },
      );
    }
    const code = isAxiosError(error) ? error.code : systemCodeOf(error);
    if (code === 'ECONNREFUSED' || code === 'ENOENT') {
      throw new Pm2EnvoyError('admin-gone', `${what}: nothing listens there (${code})`, {
        cause: error,
      });
    }
    throw new Pm2EnvoyError('admin-failed', `${what} failed: ${code ?? messageOf(error)}`, {
      cause: error,
    });
  }
}

function codeOfStatus(status: number): ErrorCode {
  if (status === 404 || status === 405) return 'admin-payload';
  return status >= 400 && status < 500 ? 'admin-refused' : 'admin-failed';
}

function statusHint(status: number): string {
  if (status === 403) return ': allow it in admin.allow_paths of the bootstrap';
  if (status === 404 || status === 405) return ': is this an Envoy admin address?';
  return '';
}

function readState(shown: string, word: string): EnvoyState {
  if (!isState(word)) throw badPayload(shown, '/ready', word);
  return word;
}

function isState(word: string): word is EnvoyState {
  return STATES.includes(word);
}

function parsed<T>(shown: string, path: string, text: string, parse: (json: unknown) => T): T {
  try {
    return parse(JSON.parse(text));
  } catch (error) {
    throw badPayload(shown, path, text, error);
  }
}

function badPayload(shown: string, path: string, text: string, cause?: unknown): Pm2EnvoyError {
  return new Pm2EnvoyError(
    'admin-payload',
    `${path} on ${shown} gave an answer that no Envoy gives (${JSON.stringify(text.slice(0, 60))}): is this an Envoy admin address?`,
    { cause },
  );
}

interface ListenerStatus {
  local_address?: { socket_address?: { port_value?: unknown } };
}

function parseListeners(json: unknown): readonly ListenerStatus[] {
  const statuses = (json as { listener_statuses?: unknown }).listener_statuses ?? [];
  if (!Array.isArray(statuses)) throw new TypeError('listener_statuses is not a list');
  return statuses;
}

function parseListenerPorts(json: unknown): number[] {
  return parseListeners(json).map((status) => {
    const port = Number(status?.local_address?.socket_address?.port_value);
    if (!Number.isInteger(port) || port < 1) throw new TypeError('a listener has no port');
    return port;
  });
}
