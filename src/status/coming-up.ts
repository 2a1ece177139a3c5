import type { Status } from './status.js';

/** Whether no Envoy has served yet since the last one ended: the newest is still starting, and silent until then. */
export function isComingUp({ envoy, generations }: Pick<Status, 'envoy' | 'generations'>): boolean {
  const newest = generations.find(({ number }) => number === envoy?.generation);
  return newest?.state === 'starting';
}
