import { type Generation, type Generations, ownSupervisor } from '../envoy/generations.js';
import { forwardOutput } from '../envoy/output.js';
import { watchEnvoy } from '../envoy/process.js';
import { isAlive, ownIdentity, signalProcess } from '../envoy/process-identity.js';
import { messageOf } from '../errors.js';
import type { Log } from '../log.js';
import type { RunningGeneration } from './start.js';

/**
 * Takes over the generation in service when this runner can't bring up one of its own: a reload that
 * fails must leave it serving. pm2 signals its runner anyway, at the latest when listen_timeout is
 * over; that one then finds it is no longer answerable, and ends without touching Envoy
 * (pm2-facts.md, reload with a bad new Envoy).
 *
 * @returns undefined when there is none to take over
 */
export function adoptGeneration(generations: Generations, log: Log): RunningGeneration | undefined {
  const found = generations
    .live()
    .findLast(({ ready, supervisor }) => ready && supervisor === ownSupervisor());
  if (!found) return undefined;
  const generation: Generation = { ...found, runner: ownIdentity(), orphaned: false };
  generations.write(generation);
  log.error(
    `generation ${found.number} goes on serving, under this runner: mend what is wrong and reload again`,
  );
  try {
    forwardOutput(generation.directory);
  } catch (error) {
    log.warn(`the output of generation ${found.number} can't be followed: ${messageOf(error)}`);
  }
  // A runner that has lost pm2 is signalled by nobody else.
  if (found.orphaned && isAlive(found.runner)) signalProcess(found.runner, 'SIGTERM');
  return { generation, envoy: watchEnvoy(generation.envoy) };
}
