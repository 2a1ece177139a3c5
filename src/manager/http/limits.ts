import { readFileSync } from 'node:fs';
import type { RequestHandler } from 'express';
import { sendError } from './answers.js';
import { createTally } from './sockets.js';

/** What callers can take of the manager. */
export interface Limits {
  /** Callers of `/shutdown` that wait at the same moment; one takes about 20 kB. */
  readonly waiters: number;
  /** Open sockets; more than waiters, so that one that is refused can be told. */
  readonly sockets: number;
  /** For the headers of a request to arrive, and for all of it. */
  readonly headersMs: number;
  readonly requestMs: number;
  /** Longest silence on a socket, unless it waits for the end of a drain. */
  readonly idleMs: number;
  readonly headerBytes: number;
  readonly headers: number;
  readonly bodyBytes: number;
}

/** Descriptors for everything that is no caller: Envoy, logs, files. Node itself has 25. */
const OWN_FILES = 200;
const FEWEST_OWN_FILES = 48;
const RETRY_AFTER_SECONDS = 5;

/** The limits, where this process may open `files` files. */
export function createLimits(files: number = maxOpenFiles()): Limits {
  const own = Math.max(FEWEST_OWN_FILES, Math.min(OWN_FILES, files / 2));
  const sockets = Math.max(8, Math.min(5_000, Math.floor(files - own)));
  return {
    sockets,
    waiters: Math.floor(sockets * 0.8),
    headersMs: 10_000,
    requestMs: 20_000,
    idleMs: 30_000,
    headerBytes: 16 * 1024,
    headers: 200,
    bodyBytes: 64 * 1024,
  };
}

/** Lets so many requests wait at the same moment, however long, and answers 503 to the others. */
export function limitWaiters({ waiters }: Pick<Limits, 'waiters'>): RequestHandler {
  const tally = createTally();
  return (request, response, next) => {
    if (tally.total() >= waiters) {
      response.set('retry-after', String(RETRY_AFTER_SECONDS));
      sendError(response, 503, {
        code: 'too-many-callers',
        message: `${waiters} callers are already waiting for the drain, which is the limit: it continues; ask again in ${RETRY_AFTER_SECONDS} s`,
      });
      return;
    }
    tally.hold(request.socket, response);
    // Node sets the idle limit again for the next request on this socket.
    request.socket.setTimeout(0);
    next();
  };
}

/** Refuses a request of very many headers, which could hide the one that matters. */
export function limitHeaders({ headers }: Pick<Limits, 'headers'>): RequestHandler {
  return (request, response, next) => {
    if (request.rawHeaders.length <= 2 * headers) {
      next();
      return;
    }
    response.set('connection', 'close');
    const message = `it has more than ${headers} headers`;
    sendError(response, 431, { code: 'bad-request', message });
  };
}

/** No endpoint takes a body: one that is small is read and dropped, a large one is refused. */
export function dropBody({ bodyBytes }: Pick<Limits, 'bodyBytes'>): RequestHandler {
  return (request, response, next) => {
    const refuse = (): void => {
      response.set('connection', 'close');
      const message = `no endpoint takes a body, and this one is over ${bodyBytes} bytes`;
      sendError(response, 413, { code: 'bad-request', message });
    };
    if (Number(request.headers['content-length'] ?? 0) > bodyBytes) {
      refuse();
      return;
    }
    let size = 0;
    request.on('data', (chunk: Buffer) => {
      const before = size;
      size += chunk.length;
      if (before > bodyBytes || size <= bodyBytes) return;
      if (response.headersSent) request.socket.destroy();
      else refuse();
    });
    next();
  };
}

/** Node has raised the soft limit to the hard one, so the hard one counts. */
function maxOpenFiles(): number {
  try {
    const limits = readFileSync('/proc/self/limits', 'utf8');
    return Number(/^Max open files\s+\d+\s+(\d+)/m.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY);
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
