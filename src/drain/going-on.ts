import { type Clock, systemClock } from '../clock.js';
import { formatDuration } from '../config/duration.js';
import type { Log } from '../log.js';
import { createEnvoys } from './envoys.js';
import type { Located } from './locate.js';
import type { DrainConfig } from './run.js';

/** A drain that began this shortly before the stop began with it: both apps are signalled at once. */
const SAME_MOMENT_MS = 250;

/**
 * Says what a drain still has before it, when its Envoy is to be stopped in the middle of it. Whoever gave
 * it too short a time (a grace period, say) kills without a word: this is then the last that is known of
 * the connections that are cut. Says nothing of a drain that begins now. Never rejects.
 */
export async function sayGoesOn(
  { ledger, targets }: Pick<Located, 'ledger' | 'targets'>,
  options: { config: DrainConfig; log: Log; clock?: Clock },
): Promise<void> {
  const { config, log, clock = systemClock } = options;
  const record = ledger.read();
  if (!record || record.result || clock.nowMs() - record.startedAtMs < SAME_MOMENT_MS) return;
  const { phase, startedAt, deadlineMs } = record;
  const envoys = createEnvoys({ targets, rule: config, deadlineMs: clock.nowMs(), clock, log });
  const sample = await envoys.sample();
  const connections = sample.kind === 'known' ? sample.open : sample.kind === 'gone' ? 0 : null;
  const timeLeftMs = Math.max(0, Math.round(deadlineMs - clock.nowMs()));
  const timeLeft = formatDuration(Math.round(timeLeftMs / 1_000) * 1_000);
  log.warn(
    { command: 'shutdown', phase, connections, timeLeftMs },
    `the drain of ${startedAt} continues in phase ${phase}, connections left: ${connections ?? 'unknown'}, for at most ${timeLeft}; a kill before its end cuts them`,
  );
}
