import axios from 'axios';
import { type Clock, systemClock } from '../clock.js';
import { conditionOf, type ProcessIdentity } from '../host/process-identity.js';

/** A manager that answers nothing for so long counts as hung; its probes give up sooner. */
const SILENT_MS = 5_000;
const LOOK_MS = 500;
/** It may be stopped for a moment. */
const STOPPED_LOOKS = 2;

/**
 * Resolves once the manager has been silent for five seconds, or its process is stopped, to what is said
 * of it; to undefined when `over` aborts. While a caller waits for the manager's answer to something
 * long, that tells one that works from one that hangs.
 */
export async function untilSilent(
  manager: { url: string; process: ProcessIdentity | undefined },
  over: AbortSignal,
  clock: Clock = systemClock,
): Promise<string | undefined> {
  let heardMs = clock.nowMs();
  let stoppedLooks = 0;
  for (;;) {
    await clock.sleep(LOOK_MS, over);
    if (over.aborted) return undefined;
    const isStopped = manager.process && conditionOf(manager.process) === 'stopped';
    stoppedLooks = isStopped ? stoppedLooks + 1 : 0;
    if (stoppedLooks >= STOPPED_LOOKS) {
      return `is stopped (pid ${manager.process?.pid})`;
    }
    if (isStopped) continue;
    const leftMs = Math.max(LOOK_MS, heardMs + SILENT_MS - clock.nowMs());
    if (await answers(manager.url, AbortSignal.any([over, AbortSignal.timeout(leftMs)]))) {
      heardMs = clock.nowMs();
    }
    if (clock.nowMs() - heardMs >= SILENT_MS) {
      return `has not answered for ${SILENT_MS / 1_000} s, not even /healthz`;
    }
  }
}

async function answers(url: string, signal: AbortSignal): Promise<boolean> {
  try {
    await axios.get(`${url}/healthz`, { proxy: false, signal, validateStatus: () => true });
    return true;
  } catch {
    return false;
  }
}
