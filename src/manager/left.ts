import { until } from '../clock.js';
import type { HostDrain } from '../drain/host-drain.js';
import { terminateEnvoy } from '../envoy/process.js';
import { type Generation, type Generations, isAttended } from '../host/generations.js';
import type { Log } from '../log.js';
import type { Pm2Daemon, Pm2Process } from '../pm2/daemon.js';

/** After that a generation that a restart has left is one that somebody has left on purpose. */
const RECENT_MS = 60_000;
/** How long a runner that is told to stop while it is loading may take to say so. */
const RUNNER_LIMIT_MS = 5_000;
const LOOK_MS = 100;
const WANTED: readonly string[] = ['online', 'launching', 'waiting restart'];

/**
 * pm2 that is told to end in the middle of a restart of `envoy` ends the next runner before that hears of a signal:
 * Envoy would serve on for good. The manager, which pm2 ends too, drains the host and ends it then. Anything in doubt,
 * such as a pm2 that does not answer, leaves Envoy alone.
 */
export async function endWhatRestartLeft(
  { generations, hostDrain, log }: { generations: Generations; hostDrain: HostDrain; log: Log },
  daemon: Pm2Daemon,
): Promise<void> {
  const left = await until(() => lookFor(generations, daemon), {
    everyMs: LOOK_MS,
    limitMs: RUNNER_LIMIT_MS,
  });
  if (!left || left === 'nothing') return;
  log.warn(`pm2 has ended before the next runner took over from generation ${left.number}`);
  await hostDrain.drainForGood({
    kind: 'stop',
    detail: 'pm2 has ended in the middle of a restart',
  });
  if (isAttended(left)) return;
  await terminateEnvoy(left.envoy);
  log.info(`generation ${left.number} has ended`);
}

/** Undefined: the runner that pm2 is ending may still do it. */
async function lookFor(
  generations: Generations,
  daemon: Pm2Daemon,
): Promise<Generation | 'nothing' | undefined> {
  const newest = generations.newest();
  if (!newest || !isLeft(newest)) return 'nothing';
  if (generations.live().some(isAttended)) return 'nothing';
  const apps = await daemon.processes().catch(() => undefined);
  if (!apps) return 'nothing';
  const app = apps.find((one) => isRunnerOf(newest, one));
  if (app && WANTED.includes(app.status)) return 'nothing';
  return generations.isAnyReserved() || (app && app.pid !== 0) ? undefined : newest;
}

function isLeft({ leftAt }: Generation): boolean {
  return leftAt !== undefined && Date.now() - Date.parse(leftAt) < RECENT_MS;
}

function isRunnerOf({ supervisor }: Generation, { name, pmId }: Pm2Process): boolean {
  return name === supervisor?.app && (supervisor.pmId ?? String(pmId)) === String(pmId);
}
