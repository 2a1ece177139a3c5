import { openGenerationLedger } from '../drain/locate.js';
import { forwardOutput } from '../envoy/output.js';
import { watchEnvoy } from '../envoy/process.js';
import { messageOf } from '../errors.js';
import type { Generation, Generations } from '../host/generations.js';
import { isAlive, ownIdentity, signalProcess } from '../host/process-identity.js';
import { sameSupervisor } from '../host/supervisor.js';
import { type Log, silentLog } from '../log.js';
import { ownSupervisor } from '../pm2/supervisor.js';
import type { RunningGeneration } from './start.js';

/**
 * Takes over the generation in service when this runner can't bring up one of its own: a reload that
 * fails must leave it serving. Its old runner then finds that it no longer answers for the
 * generation, and ends without touching Envoy (pm2-facts.md, reload with a bad new Envoy).
 *
 * @param reason why there is no new generation; kept for whoever asks later
 * @returns undefined when there is none to take over
 */
export function adoptGeneration(
  generations: Generations,
  reason: unknown,
  log: Log,
): RunningGeneration | undefined {
  const found = generations.live().findLast(isAdoptable);
  if (!found) return undefined;
  const generation: Generation = {
    ...found,
    runner: ownIdentity(),
    orphaned: false,
    failedReload: { at: new Date().toISOString(), reason: messageOf(reason) },
  };
  generations.write(generation);
  for (const line of messageOf(reason).split('\n')) log.error(line);
  const isDrained = openGenerationLedger(found, 'shutdown', silentLog).read() !== undefined;
  const stays = isDrained ? 'stays as it is, drained' : 'goes on serving';
  log.error(
    `generation ${found.number} ${stays}, under this runner: mend what is wrong and reload again`,
  );
  followOutput(generation, log);
  // A runner that has lost pm2 is signalled by nobody else.
  if (found.orphaned && isAlive(found.runner)) signalProcess(found.runner, 'SIGTERM');
  return { generation, envoy: watchEnvoy(generation.envoy) };
}

/** Forwards the output of a generation whose runner has ended, or is about to. */
export function followOutput({ number, directory }: Generation, log: Log): void {
  try {
    forwardOutput(directory);
  } catch (error) {
    log.warn(`the output of generation ${number} can't be followed: ${messageOf(error)}`);
  }
}

/** One that is being handed over from has closed its listeners, and is about to end. */
function isAdoptable(generation: Generation): boolean {
  return (
    generation.ready &&
    sameSupervisor(generation.supervisor, ownSupervisor()) &&
    openGenerationLedger(generation, 'handover', silentLog).read() === undefined
  );
}
