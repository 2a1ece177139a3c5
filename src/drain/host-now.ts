import type { Generation } from '../host/generations.js';
import { sameProcess } from '../host/process-identity.js';
import type { EnvoyTarget } from './envoys.js';
import type { DrainRecord } from './record.js';
import { describeDrained, describeOrigin, keepsHostOut } from './state.js';

/** The host as a drain under way finds it. */
export interface HostNow {
  /** The Envoys that the drain is about, those included that came after it had begun. */
  targets: readonly EnvoyTarget[];
  /** One more may come: a runner is about to start it, or it is not LIVE yet. */
  isStarting: boolean;
  /** The host was requested since, and a generation that the drain does not include serves. */
  isBack: boolean;
}

/**
 * Whether a drain of the host is about this generation, also when it came up after the drain: unless
 * it was requested since.
 */
export function appliesTo(record: DrainRecord, generation: Generation): boolean {
  if (record.isReleased) return false;
  if (record.number === 0) return isAbout(record, generation);
  if (generation.afterDrain !== undefined) return record.number > generation.afterDrain;
  // An earlier version of pm2-envoy has started it, and brought the host back by that.
  return (
    isAbout(record, generation) || Date.parse(generation.startedAt) < Date.parse(record.startedAt)
  );
}

/** Whether a drain has drained this very Envoy, or is about to. */
export function isAbout({ envoys }: DrainRecord, { envoy }: Generation): boolean {
  return envoys.some((one) => sameProcess(one, envoy));
}

/**
 * Whether a runner that is starting has to leave the host out of service, because it was drained and
 * not requested since.
 *
 * @param askedAtMs when this runner was asked for ({@link askedAt}), in epoch milliseconds
 */
export function isHeldBy(record: DrainRecord | undefined, askedAtMs: number): boolean {
  if (!record || record.isReleased || record.result?.outcome === 'cancelled') return false;
  if (record.startedBy === null || !keepsHostOut(record.startedBy)) return false;
  return Date.parse(record.startedAt) >= askedAtMs;
}

/** Since when a host is out of service, and by whom: what follows `the host is`. */
export function describeHeld({ result, startedAt, startedBy }: DrainRecord): string {
  const by = startedBy ? `, by ${describeOrigin(startedBy)}` : '';
  return result ? describeDrained(result, startedBy) : `being drained since ${startedAt}${by}`;
}

/**
 * When pm2 was last asked to start this app, in epoch milliseconds: pm2 hands `created_at` on over every
 * automatic restart and `pm2 resurrect`, and resets it at start, restart and reload (docs/facts/pm2.md). A process
 * that pm2 has not started was asked for when it started.
 */
export function askedAt(env: NodeJS.ProcessEnv = process.env): number {
  const createdAtMs = Number(env['created_at']);
  if (env['pm_id'] !== undefined && createdAtMs > 0) return createdAtMs;
  return Date.now() - process.uptime() * 1_000;
}
