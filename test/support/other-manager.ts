import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestPm2, withPm2 } from './pm2.js';
import { freePorts } from './ports.js';

/** Something that serves where the manager would. */
export interface OtherManager {
  readonly port: number;
  /** How often `GET /status` was asked. */
  asked(): number;
  close(): Promise<void>;
}

/** What `GET /status` answers at the first, second, … call; undefined: nothing, ever. */
export type Answer = (call: number) => { status?: number; body: unknown } | undefined;

/** Serves `/status` as told, and nothing else: 404, as JSON. Listens on `port`, or on any free one. */
export async function startOtherManager(answer: Answer, port = 0): Promise<OtherManager> {
  let asked = 0;
  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    const isStatus = request.url === '/status';
    if (isStatus) asked += 1;
    const said = isStatus ? answer(asked) : NOT_FOUND;
    if (!said) return;
    const { status = 200, body } = said;
    const isText = typeof body === 'string';
    response.writeHead(status, { 'content-type': isText ? 'text/html' : 'application/json' });
    response.end(isText ? body : JSON.stringify(body));
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    asked: () => asked,
    close: async () => {
      if (!server.listening) return;
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

const NOT_FOUND = {
  status: 404,
  body: { error: { code: 'not-found', message: 'there is no such path' } },
};

/** Runs a test with a pm2 that is not started, and something else for its manager. */
export async function withOtherManager(
  answer: Answer,
  use: (pm2: TestPm2, manager: OtherManager) => Promise<void>,
): Promise<void> {
  // Not any free one, which the system would give to another test as soon as it is closed.
  const [port] = await freePorts(1);
  const manager = await startOtherManager(answer, port);
  try {
    await withPm2({ 'serve-port': manager.port }, (pm2) => use(pm2, manager), false);
  } finally {
    await manager.close();
  }
}

/** The answer of the first manager that there was: what it had not yet is not in it. */
export function earlierStatus(open: number): Record<string, unknown> {
  return {
    phase: 'idle',
    outcome: null,
    startedAt: null,
    deadline: null,
    timeLeftMs: null,
    connectionsAtStart: null,
    connections: {
      open,
      byListener: { '0.0.0.0_10000': open },
      byKind: { http1: open, http2: 0, http3: 0, tcp: 0, websocket: 0, udp: 0 },
    },
    activeRequests: 0,
    envoy: {
      state: 'LIVE',
      version: '1.39.3',
      uptimeSeconds: 60,
      concurrency: 2,
      admin: 'unix:/run/pm2-envoy/generations/1/admin.sock',
      pid: 4711,
      generation: 1,
    },
    lastPoll: { at: '2026-11-22T20:34:41.000Z', tookMs: 0.4 },
    lastError: null,
  };
}
