import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import type { Socket } from 'node:net';

/** What can go wrong with the answers of an admin interface. */
export type AdminFault = 'slow' | '500' | 'garbage' | 'noise' | 'truncated' | '10 MB' | 'never';

/** The phases in which a drain asks Envoy something, as the requests tell them. */
export type AskedPhase = 'fail-health' | 'delay' | 'close' | 'wait';

/** A socket in front of an Envoy's admin socket, which passes everything on until told otherwise. */
export interface AdminProxy {
  /** Requests so far. */
  requests(): number;
  /** Polls of connections since the listeners were closed. */
  polls(): number;
  /** From now on answers are like this. */
  setFault(fault: AdminFault): void;
  /** Does something with the first request of a phase, before it gets any further. */
  atPhase(phase: AskedPhase, act: () => void | Promise<void>): void;
  /** Stops listening and cuts what is open, as the death of Envoy does. */
  close(): void;
}

const SLOW_MS = 300;
const TEN_MEGABYTES = 10 * 1024 * 1024;
const PAGE = '<!doctype html><title>It works!</title>';

/** Listens at `at` for what is meant for the admin socket `real`. */
export async function startAdminProxy(paths: { at: string; real: string }): Promise<AdminProxy> {
  const { at, real } = paths;
  let fault: AdminFault | undefined;
  let requests = 0;
  let polls = 0;
  let isClosed = false;
  const waiting = new Map<AskedPhase, () => void | Promise<void>>();
  const sockets = new Set<Socket>();

  const notePhase = async (request: IncomingMessage): Promise<void> => {
    requests += 1;
    const phase = phaseOf(request, isClosed);
    if (phase === 'close') isClosed = true;
    if (phase === 'wait') polls += 1;
    const act = phase && waiting.get(phase);
    if (!phase || !act) return;
    waiting.delete(phase);
    await act();
  };
  const server = createServer(async (request, response) => {
    request.resume();
    await notePhase(request);
    switch (fault) {
      case 'never':
        return;
      case '500':
        response.writeHead(500).end('no healthy thread');
        return;
      case 'garbage':
        response.writeHead(200, { 'content-type': 'text/html' }).end(PAGE);
        return;
      case 'noise':
        request.socket.end('\x16\x03\x01 this is no HTTP\r\n\r\n');
        return;
      case 'slow':
        setTimeout(() => void answer(request, response, real), SLOW_MS);
        return;
      case 'truncated':
      case '10 MB':
      case undefined:
        await answer(request, response, real, fault);
    }
  });
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(at, resolve));
  return {
    requests: () => requests,
    polls: () => polls,
    setFault: (next) => {
      fault = next;
    },
    atPhase: (phase, act) => void waiting.set(phase, act),
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

function phaseOf({ method, url = '' }: IncomingMessage, isClosed: boolean): AskedPhase | undefined {
  if (method === 'POST' && url.startsWith('/healthcheck/fail')) return 'fail-health';
  if (method === 'POST' && url.startsWith('/drain_listeners')) return 'close';
  if (url.startsWith('/stats?type=Counters')) return 'delay';
  return isClosed && url.startsWith('/stats?type=Gauges') ? 'wait' : undefined;
}

/** Envoy's own answer, cut in half or blown up on the way. */
async function answer(
  { method, url }: IncomingMessage,
  response: ServerResponse,
  real: string,
  fault?: 'truncated' | '10 MB',
): Promise<void> {
  try {
    const reply = await ask(real, { method, path: url });
    if (fault === 'truncated') {
      response.writeHead(reply.status, { 'content-length': reply.body.length });
      response.write(reply.body.subarray(0, reply.body.length / 2), () => response.destroy());
      return;
    }
    response.writeHead(reply.status).end(fault ? blownUp(reply.body) : reply.body);
  } catch {
    response.destroy();
  }
}

function ask(
  socketPath: string,
  call: { method: string | undefined; path: string | undefined },
): Promise<{ status: number; body: Buffer }> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ socketPath, ...call, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks) }),
      );
      response.on('error', reject);
    });
    request.on('error', reject);
    request.end();
  });
}

const STATS = Buffer.from('{"stats":[');

/** Stats grow by gauges of clusters, as where there are 10,000 of them; any other answer by blanks. */
function blownUp(body: Buffer): Buffer {
  if (!body.subarray(0, STATS.length).equals(STATS)) return Buffer.concat([body, blanks()]);
  return Buffer.concat([STATS, gauges(), body.subarray(STATS.length)]);
}

const blanks = once(() => Buffer.alloc(TEN_MEGABYTES, ' '));
const gauges = once(() => {
  const row = `{"name":"cluster.${'of_someone_else'.repeat(64)}.upstream_cx_active","value":1},`;
  return Buffer.from(row.repeat(TEN_MEGABYTES / row.length));
});

function once<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => {
    made ??= make();
    return made;
  };
}
