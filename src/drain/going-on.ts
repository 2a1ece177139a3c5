import { type Clock, systemClock } from '../clock.js';
import { formatDuration } from '../config/duration.js';
import type { Log } from '../log.js';
import { createEnvoys } from './envoys.js';
import type { Located } from './locate.js';
import type { DrainConfig } from './run.js';

/** A drain that began this shortly before the stop began with it: both apps are signaled at the same time. */
const SAME_MOMENT_MS = 250;

/**
 * Logs what a drain still has to wait for, when its Envoy is to be stopped during it. A platform that allows too
 * little time (such as a short grace period) kills silently: this line is then the only record of the connections
 * that are cut. Logs nothing for a drain that starts now. Never rejects.
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
