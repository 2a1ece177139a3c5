import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { messageOf, Pm2EnvoyError } from '../errors.js';

/** An app as pm2's daemon has it. */
export interface Pm2Process {
  /** A number, or `_old_N` for the instance that a reload replaces. */
  pmId: number | string;
  name: string;
  pid: number;
  /** `online`, `launching`, `stopping`, `stopped`, `errored`, `waiting restart`. */
  status: string;
  /** When pm2 last reset this app's counters, which a restart does first; epoch milliseconds. */
  createdAtMs: number;
  /** How often pm2 has started it again; `pm2 reset` sets it to 0. */
  restarts: number;
  /** Its current back-off; undefined: it has never been restarted, neither by a user nor after a crash. */
  backOffMs: number | undefined;
  /** When this process was started; epoch milliseconds. */
  startedAtMs: number;
  /** Working directory of the app, as it was given: it may be a link. */
  cwd: string;
  /** Path of what it runs, as pm2 was first given it. */
  script: string;
  /** What the app is given: the ecosystem's variables over those of the shell that started it. */
  env: Readonly<Record<string, string>>;
  /** The part of {@link env} that a shell or an ecosystem file has given it; the rest is pm2's own. */
  givenEnv: Readonly<Record<string, string>>;
  args: readonly string[];
  settings: Pm2Settings;
}

/** The settings of an app that its drain depends on; undefined: pm2's own default holds. */
export interface Pm2Settings {
  execMode: string | undefined;
  waitReady: boolean;
  killTimeoutMs: number | undefined;
  listenTimeoutMs: number | undefined;
  treekill: boolean;
  pmx: boolean;
  stopExitCodes: readonly number[];
  autorestart: boolean;
}

/** pm2's daemon, asked over its own socket. Every call rejects with `pm2-unreachable` when it fails. */
export interface Pm2Daemon {
  processes(): Promise<Pm2Process[]>;
  /**
   * As `pm2 reload`, with variables to change; resolves once the old instance has ended.
   *
   * @param limitMs how long that may take
   */
  reload(pmId: number, env: Readonly<Record<string, string>>, limitMs: number): Promise<void>;
  /** As `pm2 delete`: ends an instance, and pm2 forgets it. Resolves once it has ended. */
  remove(pmId: number | string): Promise<void>;
}

/** The parts of pm2's vendored axon that are used here; it has no types of its own. */
interface RpcModules {
  axon: { socket(type: 'req'): RpcSocket };
  rpc: { Client: new (socket: RpcSocket) => RpcClient };
}
interface RpcSocket {
  set(name: 'retry timeout', value: number): void;
  connect(path: string): void;
  on(event: 'error' | 'close', listener: (error?: Error) => void): void;
  close(): void;
}
interface RpcClient {
  call(
    method: string,
    argument: unknown,
    done: (error: Error | null, result: unknown) => void,
  ): void;
}

/** The daemon answers in some 10 ms; with all cores busy it may take longer. */
const ANSWER_LIMIT_MS = 2_000;
/** It answers once the instance has ended, which takes longer then, too. */
const REMOVE_LIMIT_MS = 10_000;

/**
 * Loads now what a call of the daemon needs. A runner makes one only when it is stopped or has failed, and by then
 * the files of its release may have been removed. What can't be loaded comes out of the call.
 */
export function loadPm2Client(): void {
  tryLoadRpc();
}

/**
 * pm2's daemon at a PM2_HOME. It is never started here, unlike by pm2's own API.
 *
 * The calls are those of pm2's command line (pm2's lib/Daemon.js); their modules are loaded with the first one.
 *
 * @param answerLimitMs how long a call may take, unless it has a limit of its own
 */
export function openPm2Daemon(home: string, answerLimitMs: number = ANSWER_LIMIT_MS): Pm2Daemon {
  const call = (method: string, argument: unknown, limitMs = answerLimitMs): Promise<unknown> =>
    callDaemon(resolve(home, 'rpc.sock'), { method, argument }, limitMs);
  return {
    processes: async () => {
      const list = await call('getMonitorData', {});
      return (Array.isArray(list) ? list : []).filter(isObject).map(toProcess);
    },
    reload: async (pmId, env, limitMs) => {
      await call('reloadProcessId', { id: pmId, env }, limitMs);
    },
    remove: async (pmId) => {
      await call('deleteProcessId', pmId, REMOVE_LIMIT_MS);
    },
  };
}

async function callDaemon(
  path: string,
  { method, argument }: { method: string; argument: unknown },
  limitMs: number,
): Promise<unknown> {
  const loaded = tryLoadRpc();
  if (loaded instanceof Error) throw loaded;
  const { axon, rpc } = loaded;
  const socket = axon.socket('req');
  socket.set('retry timeout', 0);
  let timer: NodeJS.Timeout | undefined;
  const answer = new Promise<unknown>((done, reject) => {
    const fail = (reason: string, cause?: unknown): void =>
      reject(new Pm2EnvoyError('pm2-unreachable', `pm2 at ${path}: ${reason}`, { cause }));
    timer = setTimeout(() => fail(`no answer to ${method} within ${limitMs} ms`), limitMs);
    socket.on('error', (error) => fail(messageOf(error), error));
    socket.on('close', () =>
      fail('no daemon listens there: is pm2 running, and is this its PM2_HOME?'),
    );
    socket.connect(path);
    new rpc.Client(socket).call(method, argument, (error, result) => {
      if (error) fail(messageOf(error), error);
      else done(result);
    });
  });
  return answer.finally(() => {
    clearTimeout(timer);
    socket.close();
  });
}

let rpcModules: RpcModules | undefined;

function tryLoadRpc(): RpcModules | Pm2EnvoyError {
  try {
    const require = createRequire(import.meta.url);
    rpcModules ??= {
      axon: require('pm2/modules/pm2-axon') as RpcModules['axon'],
      rpc: require('pm2/modules/pm2-axon-rpc') as RpcModules['rpc'],
    };
    return rpcModules;
  } catch (error) {
    return new Pm2EnvoyError('pm2-unreachable', `pm2's own modules: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

function toProcess(raw: RawProcess): Pm2Process {
  const { pid, name, pm2_env: env = {} } = raw;
  return {
    pmId: env.pm_id ?? -1,
    name: name ?? '',
    pid: pid ?? 0,
    status: env.status ?? 'unknown',
    createdAtMs: env.created_at ?? 0,
    restarts: env.restart_time ?? 0,
    backOffMs: env.prev_restart_delay,
    startedAtMs: env.pm_uptime ?? 0,
    cwd: env.pm_cwd ?? '',
    script: env.pm_exec_path ?? '',
    env: variablesOf(env),
    givenEnv: env.env ?? {},
    args: Array.isArray(env.args) ? env.args : [],
    settings: {
      execMode: env.exec_mode,
      waitReady: env.wait_ready === true,
      killTimeoutMs: env.kill_timeout,
      listenTimeoutMs: env.listen_timeout,
      treekill: env.treekill !== false,
      pmx: env.pmx !== false,
      stopExitCodes: [env.stop_exit_codes ?? []].flat().map(Number),
      autorestart: env.autorestart !== false,
    },
  };
}

/**
 * The variables that the process has: pm2 lays `env` over everything else that it knows of the app. After
 * `pm2 resurrect` and `pm2 reload FILE` only those of the file are left in `env`.
 */
function variablesOf({ env, ...rest }: NonNullable<RawProcess['pm2_env']>): Record<string, string> {
  const variables = Object.entries(rest).filter(
    (entry): entry is [string, string] => typeof entry[1] === 'string',
  );
  return { ...Object.fromEntries(variables), ...env };
}

interface RawProcess {
  pid?: number;
  name?: string;
  pm2_env?: {
    pm_id?: number | string;
    status?: string;
    created_at?: number;
    restart_time?: number;
    prev_restart_delay?: number;
    pm_uptime?: number;
    pm_exec_path?: string;
    pm_cwd?: string;
    env?: Record<string, string>;
    args?: string[];
    exec_mode?: string;
    wait_ready?: boolean;
    kill_timeout?: number;
    listen_timeout?: number;
    treekill?: boolean;
    pmx?: boolean;
    stop_exit_codes?: number | number[];
    autorestart?: boolean;
  };
}
