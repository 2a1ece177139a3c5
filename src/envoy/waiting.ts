import type { EnvoyState } from '../admin/client.js';

const WAITS = 'it waits for its configuration or its first health checks';

/** What an Envoy that answers, but is not LIVE, still does. */
export function describeWaiting(state: EnvoyState): string {
  return `${WAITS} (its state is ${state})`;
}

/** Whether an Envoy was given up because of that, as its error says. */
export function hasWaited(reason: string): boolean {
  return reason.includes(WAITS);
}
