import { type AdminClient, createAdminClient } from '../admin/client.js';
import { type Clock, systemClock } from '../clock.js';
import { isPm2EnvoyError } from '../errors.js';
import type { Generation } from '../host/generations.js';

const ASK_LIMIT_MS = 3_000;
const LONGEST_PAUSE_MS = 5_000;

/**
 * Asks an Envoy now and then, until `signal` aborts, and calls `onStuck` once it has not answered for `afterMs`: its
 * process lives, but hangs. What it says does not matter, and a drain bounds an Envoy that hangs by itself.
 */
export async function watchStuck(
  watched: {
    generation: Pick<Generation, 'adminSocket'>;
    /** 0: it is not watched. */
    afterMs: number;
    isDraining: () => boolean;
    onStuck: (silentForMs: number) => void;
    clock?: Clock;
    admin?: Pick<AdminClient, 'state' | 'close'>;
  },
  signal: AbortSignal,
): Promise<void> {
  const { generation, afterMs, isDraining, onStuck, clock = systemClock } = watched;
  if (afterMs === 0) return;
  const address = { kind: 'unix', path: generation.adminSocket } as const;
  const { admin = createAdminClient(address, ASK_LIMIT_MS) } = watched;
  let answeredMs = clock.nowMs();
  while (!signal.aborted) {
    // One whose socket is gone may serve all the same.
    const isSilent = await admin.state(signal).then(
      () => false,
      (error: unknown) => isPm2EnvoyError(error, 'admin-timeout'),
    );
    if (!isSilent || isDraining()) answeredMs = clock.nowMs();
    const silentForMs = clock.nowMs() - answeredMs;
    if (silentForMs >= afterMs && !signal.aborted) {
      onStuck(silentForMs);
      break;
    }
    await clock.sleep(Math.min(LONGEST_PAUSE_MS, Math.max(1, afterMs / 4)), signal);
  }
  admin.close();
}
