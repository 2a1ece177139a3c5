import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { forkModule } from './hosts.js';
import type { TrafficReport } from './traffic/tally.js';

export type { Failure, TrafficKind, TrafficReport } from './traffic/tally.js';

/** Where the clients connect to. */
export interface TrafficPorts {
  http: number;
  tcp: number;
  /** The manager, whose `/readyz` is then asked all the time. */
  serve?: number;
}

/** How much of each kind there is; 0 leaves it out. */
export interface TrafficOptions {
  /** Connections that send one request after the other. */
  keepAlive: number;
  /** Pause between an answer and the next request of the same connection or stream, in milliseconds. */
  pauseMs: number;
  /** New connections per second, one request each, whether or not the earlier ones were answered. */
  newPerSecond: number;
  /** HTTP/2 sessions; their streams send one request after the other. */
  sessions: number;
  streams: number;
  /** Requests of {@link slowMs} that are begun per second, each on a connection of its own. */
  slowPerSecond: number;
  slowMs: number;
  /** The answers to `/` that are right. */
  bodies: readonly string[];
}

/**
 * Clients in a process of their own, so that a busy test does not slow them down. None of them ever
 * tries again, and all leave when they are told to (`Connection: close`, GOAWAY). So whatever is lost
 * was lost by the other side.
 */
export interface Traffic {
  /** Opens a TCP connection and a WebSocket, and has something echoed on both. */
  hold(): Promise<void>;
  /** Has something echoed on what is held; what does not come back is counted as lost. */
  echo(): Promise<void>;
  /** Closes what is held. */
  letGo(): Promise<void>;
  /** What there has been so far. */
  look(): Promise<TrafficReport>;
  /** Connects to other ports from now on; connections that are open stay until they are told to close. */
  moveTo(ports: TrafficPorts): Promise<void>;
  /** Begins nothing new, waits for what is under way, and ends the process. */
  stop(): Promise<TrafficReport>;
  /** Ends the process immediately. */
  kill(): void;
}

/** Messages to the process. */
export type TrafficOrder =
  | { do: 'start'; ports: TrafficPorts; options: TrafficOptions }
  | { do: 'moveTo'; ports: TrafficPorts }
  | { do: 'hold' | 'echo' | 'letGo' | 'look' | 'stop' };

/** Its answers, in the order of the messages. */
export type TrafficAnswer = { report: TrafficReport } | { error: string };

const USUAL: TrafficOptions = {
  keepAlive: 6,
  pauseMs: 10,
  newPerSecond: 500,
  sessions: 2,
  streams: 4,
  slowPerSecond: 3,
  slowMs: 2_000,
  bodies: ['hello'],
};

/**
 * Starts the clients; resolves when each kind that is quick has been answered once.
 *
 * @param within the words that make them run on a host of the test's own
 */
export async function startTraffic(
  ports: TrafficPorts,
  options: Partial<TrafficOptions> = {},
  within?: readonly string[],
): Promise<Traffic> {
  const child = forkModule(join(import.meta.dirname, 'traffic/child.ts'), within);
  const tell = teller(child);
  await tell({ do: 'start', ports, options: { ...USUAL, ...options } });
  const order = (what: 'hold' | 'echo' | 'letGo') => async (): Promise<void> => {
    await tell({ do: what });
  };
  return {
    hold: order('hold'),
    echo: order('echo'),
    letGo: order('letGo'),
    look: () => tell({ do: 'look' }),
    moveTo: async (to) => {
      await tell({ do: 'moveTo', ports: to });
    },
    stop: async () => {
      const report = await tell({ do: 'stop' });
      const ended = once(child, 'exit');
      child.disconnect();
      await ended;
      return report;
    },
    kill: () => void child.kill('SIGKILL'),
  };
}

/** In one line: how many requests of each kind, and what was lost. */
export function describeTraffic({ requests, lost, kinds, failures }: TrafficReport): string {
  const each = Object.entries(kinds)
    .filter(([, tally]) => tally.requests > 0)
    .map(
      ([kind, tally]) => `${kind} ${tally.requests}${tally.lost ? ` (lost ${tally.lost})` : ''}`,
    );
  const texts = failures.map(({ kind, atMs, error }) => `\n  ${kind} at ${atMs} ms: ${error}`);
  return `${requests} requests, ${lost} lost: ${each.join(', ')}${texts.join('')}`;
}

function teller(child: ChildProcess): (order: TrafficOrder) => Promise<TrafficReport> {
  const waiting: { resolve(report: TrafficReport): void; reject(error: Error): void }[] = [];
  child.on('message', (answer: TrafficAnswer) => {
    const caller = waiting.shift();
    if ('error' in answer) caller?.reject(new Error(answer.error));
    else caller?.resolve(answer.report);
  });
  child.on('exit', (code, signal) => {
    for (const { reject } of waiting) reject(new Error(`the traffic ended: ${code ?? signal}`));
  });
  return (order) =>
    new Promise((resolve, reject) => {
      waiting.push({ resolve, reject });
      child.send(order, (error) => error && reject(error));
    });
}
