import type { Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { type Clock, systemClock } from '../../clock.js';
import type { Log } from '../../log.js';

const MINUTE_MS = 60_000;

/** Counts answers that are under way. */
export interface Tally {
  total(): number;
  /** Counts an answer until it is out, or its socket is closed. */
  hold(socket: Socket, response: ServerResponse): void;
}

/** @param onRest is told each socket on which nothing is under way any more, but which is open */
export function createTally(onRest: (socket: Socket) => void = () => undefined): Tally {
  const held = new Map<Socket, number>();
  const watched = new WeakSet<Socket>();
  let total = 0;
  const release = (socket: Socket, count: number): void => {
    const left = (held.get(socket) ?? 0) - count;
    // A pipelined answer whose socket is gone may never hear of it, or later.
    if (left < 0) return;
    total -= count;
    if (left > 0) held.set(socket, left);
    else held.delete(socket);
    if (left === 0 && !socket.destroyed) onRest(socket);
  };
  return {
    total: () => total,
    hold: (socket, response) => {
      if (!watched.has(socket)) socket.once('close', () => release(socket, held.get(socket) ?? 0));
      watched.add(socket);
      held.set(socket, (held.get(socket) ?? 0) + 1);
      total += 1;
      response.once('close', () => release(socket, 1));
    },
  };
}

/**
 * Bounds the open sockets of a server. At the bound the one gives way that has been without a request
 * for longest, so that a client that opens many pushes out its own, and a probe still gets its answer.
 */
export function boundSockets(
  server: Server,
  options: { limit: number; log: Log; clock?: Clock },
): void {
  const { limit, log, clock = systemClock } = options;
  const resting = new Set<Socket>();
  const tally = createTally((socket) => resting.add(socket));
  let open = 0;
  let saidMs = Number.NEGATIVE_INFINITY;
  const makeRoom = (): void => {
    const [oldest] = resting;
    oldest?.destroy();
    if (clock.nowMs() - saidMs < MINUTE_MS) return;
    saidMs = clock.nowMs();
    log.warn(`more than ${limit} open sockets: closing those that have been silent for longest`);
  };
  server.on('connection', (socket: Socket) => {
    open += 1;
    resting.add(socket);
    socket.once('close', () => {
      open -= 1;
      resting.delete(socket);
    });
    if (open > limit) makeRoom();
  });
  server.on('request', ({ socket }, response) => {
    resting.delete(socket);
    tally.hold(socket, response);
  });
}
