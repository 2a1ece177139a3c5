import { openHandoverLedger } from '../drain/locate.js';
import { hasGenerationClosed } from '../drain/witness.js';
import { forwardOutput } from '../envoy/output.js';
import { watchEnvoy } from '../envoy/process.js';
import { isPm2EnvoyError, messageOf, Pm2EnvoyError } from '../errors.js';
import type { Generation, Generations } from '../host/generations.js';
import { isAlive, ownIdentity, signalProcess } from '../host/process-identity.js';
import { sameSupervisor } from '../host/supervisor.js';
import { type Log, silentLog } from '../log.js';
import { ownSupervisor } from '../pm2/supervisor.js';
import type { HostHold } from './drain-meanwhile.js';
import type { RunningGeneration } from './start.js';

const ASK_LIMIT_MS = 1_000;

/**
 * Takes over the generation in service when this runner can't bring up one of its own: a reload that
 * fails must leave it serving. Its old runner then finds that it is no longer responsible for the
 * generation, and ends without touching Envoy (docs/facts/pm2.md, reload with a bad new Envoy).
 *
 * @param reason why there is no new generation; kept for later requests
 * @returns undefined when there is none to take over
 */
export async function adoptGeneration(
  context: { generations: Generations; hold: HostHold; log: Log },
  reason: unknown,
): Promise<RunningGeneration | undefined> {
  const { log } = context;
  const failedReload = {
    at: new Date().toISOString(),
    reason: messageOf(reason),
    ...(isPm2EnvoyError(reason) ? { code: reason.code } : {}),
  };
  const found = adoptableOf(context.generations);
  if (!found) return undefined;
  for (const line of messageOf(reason).split('\n')) log.error(line);
  const adopted = takeOver(found, { ...context, more: { failedReload } });
  const { generation } = adopted;
  const drain = context.hold.drainOf(generation);
  const isDrained =
    drain?.result !== undefined ||
    (await hasGenerationClosed(generation, { callMs: ASK_LIMIT_MS }));
  const next = 'fix what is wrong, and `pm2-envoy redeploy` brings the host back';
  log.error(
    drain && !drain.result
      ? `generation ${generation.number} is being drained, under this runner: ${next}`
      : isDrained
        ? `generation ${generation.number} stays as it is, drained, under this runner: ${next}`
        : `generation ${generation.number} keeps serving, under this runner: fix what is wrong and reload again`,
  );
  return adopted;
}

/** Takes over the newest generation of a host that is drained: no other one may be brought up. */
export function adoptDrained(context: {
  generations: Generations;
  log: Log;
}): RunningGeneration | undefined {
  const found = adoptableOf(context.generations);
  return found && takeOver(found, { ...context, more: {} });
}

function adoptableOf(generations: Generations): Generation | undefined {
  return generations.live().findLast(isAdoptable);
}

function takeOver(
  found: Generation,
  how: { generations: Generations; log: Log; more: Pick<Generation, 'failedReload'> },
): RunningGeneration {
  const { generations, log, more } = how;
  const generation: Generation = { ...found, runner: ownIdentity(), orphaned: false, ...more };
  try {
    generations.write(generation);
  } catch (error) {
    throw new Pm2EnvoyError(
      'envoy-start-failed',
      `generation ${found.number} goes on without this runner, as that can't be written down (${messageOf(error)}): is there room on the disk of ${found.directory}?`,
      { cause: error },
    );
  }
  followOutput(generation, log);
  // A runner that has lost pm2 is signaled by no one else.
  if (found.orphaned && isAlive(found.runner)) signalProcess(found.runner, 'SIGTERM');
  return { generation, envoy: watchEnvoy(generation.envoy) };
}

/** Forwards the output of a generation whose runner has ended, or is about to. */
export function followOutput({ number, directory }: Generation, log: Log): void {
  try {
    void forwardOutput(directory);
  } catch (error) {
    log.warn(`the output of generation ${number} can't be followed: ${messageOf(error)}`);
  }
}

/** One that is being handed over from has closed its listeners, and is about to end. */
function isAdoptable(generation: Generation): boolean {
  return (
    generation.ready &&
    sameSupervisor(generation.supervisor, ownSupervisor()) &&
    openHandoverLedger(generation, silentLog).read() === undefined
  );
}
