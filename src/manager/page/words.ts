import {
  type DrainOrigin,
  type DrainOriginKind,
  type DrainOutcome,
  type DrainPhase,
  STARTS_ENVOY,
} from '../../drain/state.js';
import { unreachable } from '../../errors.js';
import { situationOf } from '../../status/situation.js';
import type { EnvoyStatus, Status } from '../../status/status.js';
import { type Html, html } from './html.js';

/** How a headline is coloured; the words say the same. */
export type Tone = 'good' | 'busy' | 'warn' | 'bad';

/** What the host is doing, in a few words and in a sentence. */
export interface Headline {
  title: string;
  text: string;
  tone: Tone;
}

const PHASES: Readonly<Record<DrainPhase, readonly [title: string, text: string]>> = {
  'fail-health': ['Draining: failing the health check', 'Load balancers will see it.'],
  delay: [
    'Draining: waiting for load balancers',
    'Envoy fails its health check, and still accepts new connections.',
  ],
  close: ['Draining: closing the listeners', 'No new connections are accepted from now on.'],
  wait: [
    'Draining: waiting for open connections',
    'No new connections are accepted. Open ones continue, at most until the deadline.',
  ],
  finish: ['Draining: finishing', 'The outcome comes next.'],
};

const ABANDONED = [
  'Draining: no process continues it',
  'The process that led the drain is gone. Drain continues it.',
] as const;

const NEXT = '`pm2-envoy redeploy` brings up a new Envoy.';
const OUTCOMES: Readonly<Record<DrainOutcome, readonly [tone: Tone, title: string, text: string]>> =
  {
    drained: ['busy', 'Drained: out of service', `Envoy accepts no more connections. ${NEXT}`],
    timeout: [
      'warn',
      'Time is over: out of service',
      `Connections that are still open are cut when Envoy stops. ${NEXT}`,
    ],
    cancelled: ['good', 'Drain cancelled: in service', 'Envoy passes its health check again.'],
    'envoy-gone': ['warn', 'Envoy is gone', `It ended during the drain. ${NEXT}`],
    'admin-unreachable': [
      'bad',
      'Envoy could not be drained',
      'It did not answer until drain-timeout was over, or refused to close its listeners: the last error below says which.',
    ],
  };

/** The headline of a status. */
export function headlineOf(status: Status): Headline {
  const now = situationOf(status);
  switch (now.kind) {
    case 'ended':
      return withOrigin(say(...OUTCOMES[now.outcome]), status);
    case 'draining': {
      if (now.isAbandoned) return say('warn', ...ABANDONED);
      const [title, text] = PHASES[now.phase];
      return withOrigin(say('busy', title, `${text}${closingOf(status)}`), status);
    }
    case 'no-envoy':
      return now.failedStart
        ? failedHeadline(now.failedStart)
        : say('bad', 'There is no Envoy', `${STARTS_ENVOY}.`);
    case 'listeners-closed':
      return say(
        'bad',
        'Out of service, without a drain',
        'Envoy’s listeners are closed, and nothing opens them again: `pm2-envoy redeploy` brings up a new Envoy.',
      );
    case 'orphaned-drain':
      return say(
        'bad',
        'Out of service, without a drain',
        'Another program has failed Envoy’s health check: revert that (Resume), or drain it.',
      );
    case 'starting':
      return say('busy', 'Envoy is starting', 'No Envoy serves until it is LIVE.');
    case 'idle':
      return idleHeadline(now.envoy, status.generations);
    default:
      return unreachable(now);
  }
}

/** With the moment, not the time that is left: what is read out must not tick. */
function closingOf({ listenersCloseAt }: Status): string {
  if (listenersCloseAt === null) return '';
  return ` Listeners close at ${clockOf(listenersCloseAt)}; until then: Resume.`;
}

function withOrigin(headline: Headline, { startedBy, startedAt }: Status): Headline {
  if (!startedBy || startedAt === null) return headline;
  const text = `${headline.text} Started at ${clockOf(startedAt)} by ${originOf(startedBy)}.`;
  return { ...headline, text };
}

/** Who began a drain, in words. */
function originOf({ kind, detail }: DrainOrigin): string {
  const of = detail === undefined ? '' : ` (${detail})`;
  return `${ORIGINS[kind]}${of}`;
}

const ORIGINS: Readonly<Record<DrainOriginKind, string>> = {
  http: 'an HTTP request',
  cli: '`pm2-envoy shutdown`',
  trigger: '`pm2 trigger`',
  signal: 'a signal to the manager',
  'orphaned-drain': 'the manager, because orphaned-drain is shutdown',
  stop: 'the stop of the app',
  unknown: 'an unknown process',
};

/** A moment as UTC: `14:03:20`. */
function clockOf(iso: string): string {
  return Number.isNaN(Date.parse(iso)) ? iso : new Date(iso).toISOString().slice(11, 19);
}

function idleHeadline(envoy: EnvoyStatus, generations: Status['generations']): Headline {
  if (envoy.state === null) {
    const since = envoy.silentSince ? ` since ${clockOf(envoy.silentSince)}` : '';
    return say(
      'bad',
      'Envoy does not answer',
      `Its admin interface has been silent${since}, although its process is there. \`pm2 logs envoy\` may say why; \`pm2 restart envoy\` starts a new one next to it.`,
    );
  }
  if (envoy.state !== 'LIVE') return say('busy', `Envoy is ${envoy.state}`, 'No drain is running.');
  if (generations.some(({ state }) => state === 'handing-over')) {
    return say(
      'busy',
      `In service, handing over to generation ${envoy.generation}`,
      'Connections of the old Envoy continue, at most until its deadline.',
    );
  }
  if (generations.some(({ state }) => state === 'starting')) {
    return say(
      'busy',
      'In service, a new generation is starting',
      'The old one serves until then.',
    );
  }
  return say('good', 'In service', 'Envoy is LIVE. No drain is running.');
}

function failedHeadline({ count, reason }: NonNullable<Status['failedStart']>): Headline {
  const often = count === 1 ? 'Its start has failed' : `${count} starts in a row have failed`;
  const title = 'There is no Envoy: it does not start';
  return say('bad', title, `${often}: ${reason}. \`pm2-envoy doctor\` says what to do.`);
}

function say(tone: Tone, title: string, text: string): Headline {
  return { tone, title, text };
}

const UNITS = [
  ['d', 86_400],
  ['h', 3_600],
  ['m', 60],
  ['s', 1],
] as const;

/** Milliseconds as people read them, to the two largest units: `12s`, `3m12s`, `5h`, `3d4h`. */
export function span(ms: number): string {
  let seconds = Math.max(0, Math.round(ms / 1_000));
  const parts = UNITS.map(([unit, size]) => {
    const count = Math.floor(seconds / size);
    seconds %= size;
    return count > 0 ? `${count}${unit}` : '';
  });
  const largest = parts.findIndex((part) => part !== '');
  return parts.slice(largest, largest + 2).join('') || '0s';
}

/** The same with a tenth of a second below a minute, for what took so long. */
export function exactSpan(ms: number): string {
  return ms < 59_950 ? `${(ms / 1_000).toFixed(1)}s` : span(ms);
}

/** A name that may be broken where its parts meet: `edge_https`, `10.0.0.1_443`. */
export function breakable(name: string): Html {
  const parts = name.split(/(?<=[_./-])/);
  return html`${parts.map((part, index) => (index === 0 ? html`${part}` : html`<wbr>${part}`))}`;
}

/** An address that may be broken before its port, but not in it. */
export function address(text: string): Html {
  const at = text.lastIndexOf(':');
  if (at < 0) return html`${text}`;
  return html`${text.slice(0, at)}<wbr><span class="port">${text.slice(at)}</span>`;
}

/** Text in which commands stand between backticks. */
export function withCode(text: string): Html {
  const part = (one: string, index: number) => (index % 2 ? html`<code>${one}</code>` : one);
  return html`${text.split('`').map(part)}`;
}

/** A moment as UTC, as it stands in the logs too; with its day where that is not today. */
export function moment(at: string | number, nowMs: number): Html {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return html`${at}`;
  const iso = date.toISOString();
  const isToday = iso.slice(0, 10) === new Date(nowMs).toISOString().slice(0, 10);
  const text = iso.slice(isToday ? 11 : 0, 19).replace('T', ' ');
  return html`<time datetime="${iso}">${text}</time>`;
}
