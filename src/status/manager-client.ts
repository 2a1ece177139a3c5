import axios, { isAxiosError } from 'axios';
import { formatAdminAddress } from '../admin/address.js';
import type { Config } from '../config/config.js';
import { createTokenSource } from '../config/token.js';
import { CALLER_HEADER, type DrainResult, originOfCommand } from '../drain/state.js';
import { messageOf, Pm2EnvoyError } from '../errors.js';
import { readEndpoint } from '../host/endpoint.js';
import { openGenerations } from '../host/generations.js';
import { HOST_HEADER, hostNames } from '../host/instance.js';
import type { ProcessIdentity } from '../host/process-identity.js';
import { userName } from '../host/user.js';
import { untilSilent } from './silence.js';
import type { Status } from './status.js';
import { readStatusAnswer } from './status-answer.js';

/** The manager of this host, over HTTP. */
export interface ManagerClient {
  readonly url: string;
  /** Starts or joins the drain and resolves at its end. */
  shutdown(): Promise<DrainResult>;
  status(signal?: AbortSignal): Promise<Status>;
  /**
   * Cancels the drain; resolves to what was cancelled.
   *
   * @throws Pm2EnvoyError also `not-resumable`, and `admin-failed` when Envoy does not obey
   */
  resume(): Promise<{ resumed: boolean; drain: DrainResult | null }>;
  /** The manager's process, once a call has found that it hangs: whatever it leads, others must lead. */
  hung(): ProcessIdentity | undefined;
}

interface ResumeBody {
  resumed?: boolean;
  drain?: DrainResult | null;
  error?: { code?: string; message?: string };
}

/** Envoy is asked for 10 s at the longest. */
const RESUME_LIMIT_MS = 30_000;
const STATUS_LIMIT_MS = 15_000;
const CONNECT_SLACK_MS = 30_000;

/**
 * Finds the manager: where it has written itself down in the run directory, else where the
 * configuration has it serve. Calls reject with `manager-unreachable` (also when it hangs, after seconds,
 * and when it is another host's), `manager-refused` (403) or `manager-answer` (something else than a
 * manager's answer).
 */
export function createManagerClient(config: Config, runDir: string): ManagerClient {
  const { url, call, hung } = createCall(config, runDir);
  return {
    url,
    hung,
    shutdown: async () => {
      const body = await call(['POST', '/shutdown'], config.drainTimeoutMs + CONNECT_SLACK_MS);
      if (!isDrainResult(body)) throw strange(url, body);
      return body;
    },
    resume: async () => {
      const body = await call(['DELETE', '/shutdown'], RESUME_LIMIT_MS);
      const { resumed, drain, error } = (body ?? {}) as ResumeBody;
      if (error?.code === 'not-resumable' || error?.code === 'admin-failed') {
        throw new Pm2EnvoyError(error.code, String(error.message));
      }
      if (typeof resumed !== 'boolean') throw strange(url, body);
      return { resumed, drain: drain ?? null };
    },
    status: async (signal) => {
      const body = await call(['GET', '/status'], STATUS_LIMIT_MS, signal);
      const status = readStatusAnswer(body);
      if (!status) throw strange(url, body);
      return status;
    },
  };
}

/** The call itself, and whether one has found that the manager hangs. */
function createCall(config: Config, runDir: string) {
  const known = readEndpoint(runDir);
  const { address, port } = known ?? { address: config.serveAddress, port: config.servePort };
  const host = known ? undefined : ownHost(config, runDir);
  let isHung = false;
  const url = `http://${reachable(address)}:${port}`;
  const readToken = createTokenSource(config);
  const call = async (
    [method, path]: [string, string],
    limitMs: number,
    signal?: AbortSignal,
  ): Promise<unknown> => {
    const { kind, detail = '' } = originOfCommand(userName());
    const limit = AbortSignal.timeout(limitMs);
    const token = readToken();
    const over = new AbortController();
    const silence = new AbortController();
    let silent: string | undefined;
    void untilSilent({ url, process: known?.process }, over.signal).then((said) => {
      silent = said;
      if (said) silence.abort();
    });
    try {
      const reply = await axios.request<unknown>({
        method,
        url: `${url}${path}`,
        proxy: false,
        maxRedirects: 0,
        signal: AbortSignal.any([...(signal ? [signal] : []), limit, silence.signal]),
        validateStatus: () => true,
        headers: {
          [CALLER_HEADER]: [kind, detail].join(' ').trim(),
          ...(token ? { authorization: `Bearer ${token}` } : {}),
          ...(host ? { [HOST_HEADER]: host } : {}),
        },
      });
      if (reply.status === 403) throw refused(url, reply.data, token !== undefined);
      if (reply.status === 421) throw anotherHosts(url, reply.data);
      if (reply.status === 503) throw busy(url, reply.data);
      return reply.data;
    } catch (error) {
      if (error instanceof Pm2EnvoyError) throw error;
      isHung ||= silent !== undefined;
      if (silent) {
        throw new Pm2EnvoyError('manager-unreachable', `the manager at ${url} ${silent}`, {
          cause: error,
        });
      }
      const reason = isAxiosError(error) ? (error.code ?? error.message) : messageOf(error);
      const isLate = signal?.aborted || limit.aborted;
      throw new Pm2EnvoyError(
        'manager-unreachable',
        `the manager at ${url} can't be reached (${isLate ? 'no answer in time' : reason})`,
        {
          cause: error,
        },
      );
    } finally {
      over.abort();
    }
  };
  return { url, call, hung: () => (isHung ? known?.process : undefined) };
}

/**
 * The host that this command means, where no live manager is recorded: undefined where that may be any,
 * as for root who drains what another user runs.
 */
function ownHost({ adminAddress, runDir: configured }: Config, runDir: string): string | undefined {
  if (adminAddress) return hostNames(runDir, formatAdminAddress(adminAddress))[0];
  if (configured === undefined && openGenerations(runDir).live().length === 0) return undefined;
  return hostNames(runDir, undefined)[0];
}

/** A manager that serves on all addresses is called on loopback: only there it trusts us. */
function reachable(address: string): string {
  if (address === '0.0.0.0') return '127.0.0.1';
  if (address === '::') return '[::1]';
  return address.includes(':') ? `[${address}]` : address;
}

function refused(url: string, body: unknown, hasToken: boolean): Pm2EnvoyError {
  const said = errorOf(body)?.message;
  const reason =
    typeof said === 'string' ? said.split(': call it on a loopback')[0] : 'it gives no reason';
  const remedy = hasToken
    ? 'the token here (shutdown-token, shutdown-token-file) differs from the manager’s'
    : 'set the same PM2_ENVOY_SHUTDOWN_TOKEN (or shutdown-token-file) here as in the manager';
  return new Pm2EnvoyError(
    'manager-refused',
    `the manager at ${url} refused (403): ${reason}; ${remedy}`,
  );
}

/** Two projects have the same serve-port, and the other one's manager has it. */
function anotherHosts(url: string, body: unknown): Pm2EnvoyError {
  const said = errorOf(body)?.message;
  return new Pm2EnvoyError(
    'manager-unreachable',
    `the manager at ${url} is another project's (${typeof said === 'string' ? said : 'it gives no reason'})`,
    { cause: ANOTHER_HOSTS },
  );
}

const ANOTHER_HOSTS = 'another host’s manager';

/** Whether a manager answered, which is another project's. */
export function isAnotherHosts(error: unknown): boolean {
  return error instanceof Pm2EnvoyError && error.cause === ANOTHER_HOSTS;
}

/** Too many callers wait there already: a caller that can join the drain in another way should. */
function busy(url: string, body: unknown): Pm2EnvoyError {
  return errorOf(body)?.code === 'too-many-callers'
    ? new Pm2EnvoyError('manager-unreachable', `the manager at ${url} has too many callers (503)`)
    : strange(url, body);
}

function errorOf(body: unknown): { code?: unknown; message?: unknown } | undefined {
  return (body as { error?: { code?: unknown; message?: unknown } } | null)?.error;
}

function strange(url: string, body: unknown): Pm2EnvoyError {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  return new Pm2EnvoyError(
    'manager-answer',
    `what serves at ${url} is not a pm2-envoy manager; it answered ${JSON.stringify((text ?? '').slice(0, 80))}: check serve-address and serve-port`,
  );
}

/** Whether a body is that of `/shutdown`. */
export function isDrainResult(body: unknown): body is DrainResult {
  return typeof body === 'object' && body !== null && 'outcome' in body && 'durationMs' in body;
}
