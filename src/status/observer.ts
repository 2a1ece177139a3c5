import { type Clock, systemClock } from '../clock.js';
import { isDraining } from './situation.js';
import type { Status } from './status.js';

/** Lets any number of callers watch the status, at the cost of one. */
export interface Observer {
  /**
   * Calls `listener` with the status as soon as it is known, and then whenever it differs in more than the
   * passing of time; returns what ends that. Polls only while a client watches.
   */
  watch(listener: (status: Status) => void): () => void;
}

const DRAINING_MS = 500;
const QUIET_MS = 1_000;

/** Creates the observer; `read` reads the status. */
export function createObserver(options: { read(): Promise<Status>; clock?: Clock }): Observer {
  const { read, clock = systemClock } = options;
  const listeners = new Set<(status: Status) => void>();
  let last: { status: Status; key: string } | undefined;
  let isPolling = false;

  const poll = async (): Promise<void> => {
    if (isPolling) return;
    isPolling = true;
    while (listeners.size > 0) {
      // It rejects only when this process is out of something, such as file descriptors.
      const status = await read().catch(() => undefined);
      if (status) tell(status);
      await clock.sleep(!status || isQuiet(status) ? QUIET_MS : DRAINING_MS);
    }
    last = undefined;
    isPolling = false;
  };
  const tell = (status: Status): void => {
    const key = keyOf(status);
    if (key !== last?.key) for (const listener of listeners) listener(status);
    last = { status, key };
  };
  return {
    watch: (listener) => {
      if (last) listener(last.status);
      listeners.add(listener);
      void poll();
      return () => void listeners.delete(listener);
    },
  };
}

/** What is the same in two statuses that differ only in when they were read. */
function keyOf(status: Status): string {
  const { timeLeftMs, paceLeftMs, lastPoll, envoy, oldestPeers, ...rest } = status;
  const { uptimeSeconds, ...lasting } = envoy ?? {};
  const peers = oldestPeers?.map(({ peer, local }) => `${peer} ${local}`);
  const generations = rest.generations.map(({ deadline, paceLeftMs: _, ...one }) => one);
  const { deadline, ...others } = rest;
  return JSON.stringify([others, lasting, peers, generations]);
}

function isQuiet(status: Status): boolean {
  const { generations } = status;
  return (
    !isDraining(status) &&
    generations.every(({ state }) => state === 'serving' || state === 'drained')
  );
}
