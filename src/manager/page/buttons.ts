import { situationOf } from '../../status/situation.js';
import type { PageState } from './state.js';
import { exactSpan, span } from './words.js';

/** What a button says of itself: what it does, or, when it must not be pressed, the reason. */
export interface ButtonState {
  isOff: boolean;
  why: string;
}

/** What a button calls. */
export type PageCommand = 'shutdown' | 'resume';

type Seen = Pick<PageState, 'status' | 'link'>;

/** What a button may do now. */
export function buttonOf(command: PageCommand, state: Seen): ButtonState {
  if (state.link.kind === 'snapshot') return off('connecting to the manager');
  if (state.link.kind !== 'live') return off('there is no connection to the manager');
  return command === 'shutdown' ? shutdownOf(state) : resumeOf(state);
}

/** The question before a drain. */
export function questionOf({
  status: { connections, settings },
}: Pick<PageState, 'status'>): string {
  const { checkDelayMs } = settings;
  const open = `Open connections: ${connections?.open ?? 'unknown'}.`;
  return checkDelayMs === 0
    ? `${open} Envoy fails its health check, and its listeners close immediately: you can’t cancel it (check-delay is 0s). This host is out of service then.`
    : `${open} Envoy fails its health check. You can cancel for ${span(checkDelayMs)}; then its listeners close, and this host is out of service.`;
}

/** What an answer of `/shutdown` means to the user who has pressed the button. */
export function describeAnswer({ status, body }: { status: number; body: unknown }): string {
  const { outcome, durationMs, connectionsLeft, resumed, error } = (body ?? {}) as Record<
    string,
    unknown
  >;
  if (resumed === true) return 'Cancelled: Envoy passes its health check again.';
  if (resumed === false) return 'There was no drain to cancel.';
  if (outcome === 'cancelled') return 'The drain was cancelled: Envoy stays in service.';
  const advice = ADVICE[status] ?? '';
  if (typeof outcome === 'string') {
    const left = `${connectionsLeft ?? 'unknown'} ${connectionsLeft === 1 ? 'connection' : 'connections'}`;
    return `The drain ended: ${outcome} after ${exactSpan(Number(durationMs))}, ${left} left.${advice}`;
  }
  const { message } = (error ?? {}) as { message?: unknown };
  return `Refused (${status}): ${message ?? 'no reason was given'}.${advice}`;
}

/** What it means that a call got no answer. */
export const SILENCE =
  'The manager has not answered. What has started continues without this page.';

const ADVICE: Readonly<Record<number, string>> = {
  403: ' Open this page at 127.0.0.1 or localhost, from another machine through `ssh -L`, or use `pm2-envoy` on the host.',
  502: ' See `pm2 logs envoy`, then try again.',
  503: ' A drain that is running continues.',
  504: ' They are cut when Envoy stops.',
};
const ENDED = 'the drain has ended; `pm2-envoy redeploy` brings up a new Envoy';

function shutdownOf({ status }: Seen): ButtonState {
  const { kind } = situationOf(status);
  if (kind === 'ended') return off(ENDED);
  if (kind === 'draining') return off('a drain is running');
  if (kind === 'no-envoy') return off('there is no Envoy');
  return { isOff: false, why: 'drains this host; asks for confirmation' };
}

function resumeOf({ status }: Seen): ButtonState {
  const { phase } = status;
  const { kind } = situationOf(status);
  if (kind === 'ended') return off(ENDED);
  if (kind === 'orphaned-drain' || phase === 'fail-health' || phase === 'delay') {
    return { isOff: false, why: 'Envoy passes its health check again' };
  }
  if (kind !== 'draining') return off('there is no drain to cancel');
  return off('too late, the listeners are closed; `pm2-envoy redeploy` brings up a new Envoy');
}

function off(why: string): ButtonState {
  return { isOff: true, why };
}
