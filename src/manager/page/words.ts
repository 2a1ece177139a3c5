import type { DrainOutcome, DrainPhase } from '../../drain/state.js';
import type { Status } from '../../status/status.js';
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
    'Envoy fails its health check, and still takes new connections.',
  ],
  close: ['Draining: closing the listeners', 'From now on no new connections are taken.'],
  wait: [
    'Draining: waiting for open connections',
    'No new connections are taken. Those that are open go on, at most to the deadline.',
  ],
  finish: ['Draining: finishing', 'The outcome comes next.'],
};

const NEXT = '`pm2-envoy redeploy` brings up a new Envoy.';
const OUTCOMES: Readonly<Record<DrainOutcome, readonly [tone: Tone, title: string, text: string]>> =
  {
    drained: ['good', 'Drained', `Envoy takes no more connections. ${NEXT}`],
    timeout: ['warn', 'Time is over', `What is still open is cut when Envoy stops. ${NEXT}`],
    cancelled: ['good', 'Taken back', 'Envoy passes its health check again.'],
    'envoy-gone': ['warn', 'Envoy is gone', `It ended during the drain. ${NEXT}`],
    'admin-unreachable': [
      'bad',
      'Envoy could not be asked',
      'It did not answer until drain-timeout was over: see `pm2 logs envoy`.',
    ],
  };

/** The headline of a status. */
export function headlineOf(status: Status): Headline {
  const { phase, outcome } = status;
  if (outcome !== null) return say(...OUTCOMES[outcome]);
  return phase === 'idle' ? idleHeadline(status) : say('busy', ...PHASES[phase]);
}

function idleHeadline({ envoy, orphanedDrain, generations }: Status): Headline {
  if (!envoy) return say('bad', 'There is no Envoy', NEXT);
  if (orphanedDrain) {
    return say(
      'bad',
      'Out of service, without a drain',
      'Somebody has failed Envoy’s health check: take that back (Resume), or drain it.',
    );
  }
  if (envoy.state === null) {
    return say('bad', 'Envoy does not answer', 'It is asked again and again.');
  }
  if (envoy.state !== 'LIVE') return say('busy', `Envoy is ${envoy.state}`, 'No drain is running.');
  if (generations.some(({ state }) => state === 'handing-over')) {
    return say(
      'busy',
      `In service, handing over to generation ${envoy.generation}`,
      'Connections of the old Envoy go on, at most to its deadline.',
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
