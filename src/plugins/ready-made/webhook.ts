import { Agent as HttpAgent, validateHeaderName, validateHeaderValue } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { hostname } from 'node:os';
import type { Readable } from 'node:stream';
import axios, { isAxiosError } from 'axios';
import { systemClock } from '../../clock.js';
import { formatDuration } from '../../config/duration.js';
import { systemCodeOf } from '../../errors.js';
import { isObject } from '../../json.js';
import { packageVersion } from '../../package-root.js';
import type { HookContext, HookSpec, Plugin, PluginHost } from '../api/types.js';
import { type HookSettings, readHooks, unshown } from './options.js';
import { fillIn, fillInAll } from './variables.js';

const METHODS: readonly string[] = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'];
/** Those that carry a body of their own accord: servers may refuse one with the others (RFC 9110, 9.3). */
const WITH_BODY: readonly string[] = ['POST', 'PUT', 'PATCH'];
const MOST_RETRIES = 10;
const FIRST_DELAY_MS = 250;
/** Statuses below 500 that another try may change. */
const PASSING: readonly number[] = [408, 429];
/** An answer is read to its end, so that the server can finish, but no further than this. */
const LARGEST_REPLY_BYTES = 1024 * 1024;

/**
 * `pm2-envoy/webhook`: makes an HTTP request at each lifecycle event that its option `hooks` names
 * (docs/plugins.md). Logs and messages hold the URL as it is configured, without user, password and
 * query, and no header.
 */
export class WebhookPlugin implements Plugin {
  readonly hooks: Readonly<Record<string, HookSpec>>;

  /** @throws Pm2EnvoyError `plugin-invalid`, also when a variable that is named is not set */
  constructor({ env }: PluginHost, options: Readonly<Record<string, unknown>>) {
    this.hooks = readHooks(options, {
      main: 'url',
      more: ['method', 'headers', 'body', 'retries'],
      create: (settings) => {
        const webhook = readWebhook(settings, env);
        return (context) => callWebhook(webhook, context);
      },
    });
  }
}

export { WebhookPlugin as plugin };

interface Webhook {
  hook: string;
  /** As it is called in messages: `POST https://chat.example/hook`. */
  shown: string;
  method: string;
  url: string;
  headers: Readonly<Record<string, string>>;
  /** Undefined: what the drain has to say. */
  body: unknown;
  retries: number;
}

function readWebhook({ hook, read }: HookSettings, env: PluginHost['env']): Webhook {
  const method = read('method', parseMethod);
  const { url, shown } = read(
    'url',
    (value) => parseUrl(value, env),
    (value) => (typeof value === 'string' ? JSON.stringify(shownUrl(value)) : `(${typeof value})`),
  );
  return {
    hook,
    shown: `${method} ${shown}`,
    method,
    url,
    headers: read('headers', (value) => parseHeaders(value, env), unshown),
    body: read('body', (value) => fillInAll(value, env), unshown),
    retries: read('retries', parseRetries),
  };
}

function parseMethod(value: unknown = 'POST'): string {
  const method = METHODS.find((known) => known === value);
  if (!method) throw new Error(`must be one of ${METHODS.join(', ')}`);
  return method;
}

function parseUrl(value: unknown, env: PluginHost['env']): { url: string; shown: string } {
  const text = typeof value === 'string' && !/[\s\p{Cc}]/u.test(value) ? value : '';
  const url = fillIn(text, env);
  const { protocol } = URL.canParse(url) ? new URL(url) : {};
  if (protocol !== 'http:' && protocol !== 'https:') {
    throw new Error('must be a URL that begins with http:// or https://');
  }
  return { url, shown: shownUrl(text) };
}

/** As it is configured, with `${NAME}`, but without user, password, query and fragment. */
function shownUrl(text: string): string {
  const [url = ''] = text.split(/[?#]/);
  return url.replace(/^(\$\{\w+\}|\w+:)?[/\\]*[^/\\]*@/, '$1//');
}

function parseHeaders(value: unknown, env: PluginHost['env']): Record<string, string> {
  if (value === undefined) return {};
  if (!isObject(value)) throw new Error('must be an object of strings');
  return Object.fromEntries(
    Object.entries(value).map(([name, text]) => [name, parseHeader(name, text, env)]),
  );
}

function parseHeader(name: string, value: unknown, env: PluginHost['env']): string {
  try {
    if (typeof value !== 'string') throw new Error('must be a string');
    validateHeaderName(name);
    const filled = fillIn(value, env);
    validateHeaderValue(name, filled);
    return filled;
  } catch (error) {
    const isNodes = systemCodeOf(error) !== undefined;
    const reason = isNodes || !(error instanceof Error) ? 'is not a valid header' : error.message;
    throw new Error(`${JSON.stringify(name)} ${reason}`);
  }
}

function parseRetries(value: unknown = 0): number {
  const isCount = Number.isInteger(value) && Number(value) >= 0 && Number(value) <= MOST_RETRIES;
  if (!isCount) throw new Error(`must be a whole number, 0 to ${MOST_RETRIES}`);
  return Number(value);
}

/** Rejects when no answer is 2xx; tries again only after what may pass. */
async function callWebhook(webhook: Webhook, context: HookContext): Promise<void> {
  const { hook, shown, method, body, retries } = webhook;
  const { log, signal } = context;
  const own = WITH_BODY.includes(method) ? reportOf(hook, context) : undefined;
  const data = body === undefined ? own : body;
  for (let tries = 1; ; tries += 1) {
    const answer = await send(webhook, data, signal);
    if (answer.isFine) {
      log.info({ hook }, `${shown} ${answer.what}`);
      return;
    }
    if (signal.aborted || !answer.mayPass || tries > retries) {
      throw new Error(`${shown} ${answer.what}${tries > 1 ? ` (${tries} tries)` : ''}`);
    }
    const delayMs = FIRST_DELAY_MS * 2 ** (tries - 1);
    log.warn({ hook }, `${shown} ${answer.what}: retrying in ${formatDuration(delayMs)}`);
    await systemClock.sleep(delayMs, signal);
  }
}

/** What a webhook is told where it has no `body` of its own. */
function reportOf(hook: string, { command, event, drain }: HookContext): object {
  const at = new Date().toISOString();
  const about = drain && {
    startedAt: drain.startedAt,
    timeLeftMs: Math.round(drain.timeLeftMs()),
    connectionsAtStart: drain.connectionsAtStart,
    connectionsLeft: drain.connectionsLeft,
    outcome: drain.outcome ?? null,
  };
  return { hook, command, event, at, host: hostname(), drain: about ?? null };
}

interface Answer {
  /** `returned 200` */
  what: string;
  isFine: boolean;
  mayPass: boolean;
}

async function send(
  { method, url, headers }: Webhook,
  data: unknown,
  signal: AbortSignal,
): Promise<Answer> {
  try {
    const reply = await axios.request<Readable>({
      method,
      url,
      headers: {
        'user-agent': `pm2-envoy/${packageVersion()}`,
        ...(data === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(data === undefined ? {} : { data: JSON.stringify(data) }),
      transformRequest: (text) => text,
      // A connection that was kept may just be closing: hooks are rare.
      httpAgent: new HttpAgent(),
      httpsAgent: new HttpsAgent(),
      // A redirect makes a GET of a POST, and would take the headers to another host.
      maxRedirects: 0,
      responseType: 'stream',
      decompress: false,
      validateStatus: () => true,
      signal,
    });
    await discard(reply.data);
    const { status } = reply;
    return {
      what: `returned ${status}${status >= 300 && status < 400 ? ', a redirect: set its url to where that leads' : ''}`,
      isFine: status >= 200 && status < 300,
      mayPass: status >= 500 || PASSING.includes(status),
    };
  } catch (error) {
    // Not its message: that may quote the URL, or the proxy's.
    const code = isAxiosError(error) ? error.code : systemCodeOf(error);
    return { what: `failed: ${code ?? 'no answer'}`, isFine: false, mayPass: true };
  }
}

async function discard(body: Readable): Promise<void> {
  let bytes = 0;
  try {
    for await (const chunk of body) {
      bytes += chunk.length;
      if (bytes > LARGEST_REPLY_BYTES) return;
    }
  } catch {
    // The status has said it all.
  }
}
