import type { TrafficOptions, TrafficPorts } from '../traffic.js';
import { type Exchange, openHttp1 } from './http1.js';
import { createHttp2Client } from './http2.js';
import type { Tally, TrafficKind } from './tally.js';

/** Clients that go on until they are told to stop. */
export interface Clients {
  /** Begins nothing new, and resolves when nothing is under way. */
  stop(): Promise<void>;
}

/** What the clients share. */
export interface Stage {
  /** May change while they run. */
  ports: TrafficPorts;
  options: TrafficOptions;
  tally: Tally;
  isStopping: boolean;
}

/** A request that takes longer has been lost; the slow ones get their own time in addition. */
const ANSWER_LIMIT_MS = 15_000;
/** More new connections are never under way, whatever their rate. */
const MOST_UNDER_WAY = 1_000;
const READYZ_PAUSE_MS = 50;
/** Between two looks at what is due; new connections then come a few at a time. */
const TICK_MS = 4;

/** Starts the clients of every kind but the held connections. */
export function startClients(stage: Stage): Clients {
  const { options } = stage;
  const loops = [
    ...repeat(options.keepAlive, () => keepAlive(stage)),
    ...repeat(options.sessions, () => http2(stage)),
    paced(stage, { kind: 'new', perSecond: options.newPerSecond, path: '/', slowMs: 0 }),
    paced(stage, {
      kind: 'slow',
      perSecond: options.slowPerSecond,
      path: `/slow?ms=${options.slowMs}`,
      slowMs: options.slowMs,
    }),
    readyz(stage),
  ];
  return {
    stop: async () => {
      stage.isStopping = true;
      await Promise.all(loops);
    },
  };
}

/** One request after the other on one connection, for as long as the server keeps it. */
async function keepAlive(stage: Stage): Promise<void> {
  let connection = openHttp1(stage.ports.http);
  while (!stage.isStopping) {
    if (!connection.isOpen()) {
      if (connection.wasClosedUnannounced()) stage.tally.closedUnannounced();
      connection.close();
      connection = openHttp1(stage.ports.http);
    }
    judge(stage, 'keep-alive', await connection.get('/', ANSWER_LIMIT_MS));
    await pause(stage.options.pauseMs);
  }
  connection.close();
}

/** Several streams side by side on one session. */
async function http2(stage: Stage): Promise<void> {
  const client = createHttp2Client(() => stage.ports.http);
  const stream = async (): Promise<void> => {
    while (!stage.isStopping) {
      judge(stage, 'http2', await client.get('/', ANSWER_LIMIT_MS));
      await pause(stage.options.pauseMs * stage.options.streams);
    }
  };
  await Promise.all(repeat(stage.options.streams, stream));
  client.close();
}

/** Begins requests at a steady rate, each on a connection of its own. */
async function paced(
  stage: Stage,
  what: { kind: TrafficKind; perSecond: number; path: string; slowMs: number },
): Promise<void> {
  const underWay = new Set<Promise<void>>();
  const one = async (): Promise<void> => {
    const connection = openHttp1(stage.ports.http);
    judge(stage, what.kind, await connection.get(what.path, ANSWER_LIMIT_MS + what.slowMs));
    connection.close();
  };
  const startedMs = performance.now();
  let begun = 0;
  while (!stage.isStopping) {
    const due = Math.floor(((performance.now() - startedMs) / 1_000) * what.perSecond);
    for (; begun < due; begun += 1) {
      if (underWay.size >= MOST_UNDER_WAY) {
        stage.tally.heldBack();
        continue;
      }
      const request = one().finally(() => underWay.delete(request));
      underWay.add(request);
    }
    await pause(TICK_MS);
  }
  await Promise.all(underWay);
}

/** The manager must call this host ready all the time. */
async function readyz(stage: Stage): Promise<void> {
  const { serve } = stage.ports;
  if (serve === undefined) return;
  while (!stage.isStopping) {
    const connection = openHttp1(serve);
    const exchange = await connection.get('/readyz', ANSWER_LIMIT_MS);
    connection.close();
    if (exchange.ok && exchange.status === 200) stage.tally.answered('readyz');
    else stage.tally.lost('readyz', JSON.stringify(exchange));
    await pause(READYZ_PAUSE_MS);
  }
}

function judge({ options, tally }: Stage, kind: TrafficKind, exchange: Exchange): void {
  if (!exchange.ok) {
    tally.lost(kind, exchange.error);
    return;
  }
  const { status, body } = exchange;
  const isRight = kind === 'slow' ? body === 'slow and whole' : options.bodies.includes(body);
  if (status === 200 && isRight) tally.answered(kind);
  else tally.lost(kind, `status ${status}: ${JSON.stringify(body.slice(0, 80))}`);
}

function repeat(count: number, make: () => Promise<void>): Promise<void>[] {
  return Array.from({ length: count }, make);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
