import type { AdminCall } from '../admin/client.js';
import type { HostDrain } from '../drain/host-drain.js';
import { hasHadEnvoy } from '../host/generations.js';
import type { Log } from '../log.js';

/**
 * Whether this manager knows that there was an Envoy. Where none has ever been, it may look in the wrong
 * place: then 'envoy-gone' would be said of an Envoy that serves elsewhere.
 */
export interface Sight {
  /** Told of each call to an Envoy. */
  note(call: AdminCall): void;
  /** The drain, whose outcome is `admin-unreachable` instead of `envoy-gone` while no Envoy was seen. */
  guard(hostDrain: HostDrain): HostDrain;
}

/** Creates it; a generation that has ended, in this boot and these containers, counts as seen. */
export function createSight(runDir: string, log: Pick<Log, 'warn'>): Sight {
  let hasAnswered = false;
  const hasSeen = (): boolean => hasAnswered || hasHadEnvoy(runDir);
  return {
    note: ({ error }) => {
      hasAnswered ||= error === undefined;
    },
    guard: (hostDrain) => ({
      ...hostDrain,
      drain: async (...args) => {
        const result = await hostDrain.drain(...args);
        if (result.outcome !== 'envoy-gone' || hasSeen()) return result;
        log.warn(
          `no Envoy has been seen here (looked in ${runDir}), so it is unknown whether one is gone: is it running, as this user and with this run-dir?`,
        );
        const unknown = { connectionsAtStart: null, connectionsLeft: null };
        return { ...result, ...unknown, outcome: 'admin-unreachable' };
      },
    }),
  };
}
