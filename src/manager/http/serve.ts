import { createServer, type RequestListener, type Server, type ServerOptions } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { type Clock, systemClock } from '../../clock.js';
import { Pm2EnvoyError, systemCodeOf } from '../../errors.js';
import type { Log } from '../../log.js';
import { createLimits, type Limits } from './limits.js';
import { boundSockets } from './sockets.js';

/** Callers of `/shutdown` may come by the thousand at the same moment. */
const BACKLOG = 4_096;
const RETRY_MS = 200;
/** How long a busy port is tried: the manager before us may just be leaving. */
const BUSY_LIMIT_MS = 5_000;
const CLOSE_LIMIT_MS = 2_000;
const KEEP_ALIVE_MS = 30_000;

/** Status and message for Node's reasons not to read a request; any other is a 400. */
const UNREADABLE: Readonly<Record<string, readonly [string, string]>> = {
  HPE_HEADER_OVERFLOW: ['431 Request Header Fields Too Large', 'its headers are too large'],
  HPE_CHUNK_EXTENSIONS_OVERFLOW: ['413 Content Too Large', 'its chunk extensions are too large'],
  ERR_HTTP_REQUEST_TIMEOUT: ['408 Request Timeout', 'it did not arrive completely in time'],
};

/** The manager's listening server. */
export interface ManagerServer {
  readonly address: string;
  readonly port: number;
  /** Stops listening, lets answers under way go out, and ends; at most two seconds. */
  close(): Promise<void>;
}

/**
 * Listens, and tries again while the port is busy: for a moment, or as long as `isHeldByManager` says
 * that an earlier manager holds it, which stays for the drain that it serves.
 *
 * @throws Pm2EnvoyError `serve-failed`
 */
export async function serve(options: {
  listener: RequestListener;
  address: string;
  port: number;
  isHeldByManager(): boolean;
  log: Log;
  clock?: Clock;
  limits?: Limits;
}): Promise<ManagerServer> {
  const { listener, address, port, isHeldByManager, log, clock = systemClock } = options;
  const { limits = createLimits() } = options;
  const server = createServer(serverOptions(limits), listener);
  server.setTimeout(limits.idleMs);
  // Node drops the headers above 2,000 and hands on the rest: a proxy's own, at the end, would be lost.
  server.maxHeadersCount = 0;
  boundSockets(server, { limit: limits.sockets, log, clock });
  server.on('clientError', answerUnreadable);
  server.on('checkExpectation', listener);
  const startedMs = clock.nowMs();
  let said = false;
  for (;;) {
    try {
      await listen(server, { host: address, port, backlog: BACKLOG });
      break;
    } catch (error) {
      const busy = systemCodeOf(error) === 'EADDRINUSE';
      const held = busy && isHeldByManager();
      if (!busy || (!held && clock.nowMs() - startedMs > BUSY_LIMIT_MS)) {
        throw unusable({ host: address, port }, error);
      }
      if (!said) log.warn(`port ${port} on ${address} is in use: retrying`);
      said = true;
      await clock.sleep(RETRY_MS);
    }
  }
  const bound = server.address() as AddressInfo;
  return {
    address: bound.address,
    port: bound.port,
    close: () =>
      new Promise((resolve) => {
        const timer = setTimeout(resolve, CLOSE_LIMIT_MS);
        server.close(() => {
          clearTimeout(timer);
          resolve();
        });
        server.closeIdleConnections();
      }),
  };
}

function serverOptions({ headersMs, requestMs, idleMs, headerBytes }: Limits): ServerOptions {
  return {
    // The trust rule refuses a request without Host, and says why.
    requireHostHeader: false,
    headersTimeout: headersMs,
    requestTimeout: requestMs,
    keepAliveTimeout: Math.min(5_000, idleMs),
    // Each look costs an idle manager 0.2 ms.
    connectionsCheckingInterval: Math.min(5_000, headersMs / 4),
    maxHeaderSize: headerBytes,
    // A caller that waits says nothing for long: find out when it is gone.
    keepAlive: true,
    keepAliveInitialDelay: KEEP_ALIVE_MS,
  };
}

/** What Node itself can't read as HTTP is answered in our form too. */
function answerUnreadable(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const [status, message] = UNREADABLE[error.code ?? ''] ?? [
    '400 Bad Request',
    'it is not valid HTTP',
  ];
  const body = JSON.stringify({ error: { code: 'bad-request', message } });
  socket.end(
    `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
  );
}

function listen(
  server: Server,
  at: { host: string; port: number; backlog: number },
): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: Error): void => {
      server.removeListener('error', settle).removeListener('listening', settle);
      if (error) reject(error);
      else resolve();
    };
    server.once('error', settle).once('listening', settle);
    server.listen(at);
  });
}

/**
 * Whether something could listen there now.
 *
 * @param what and what to do where it can't
 * @throws Pm2EnvoyError `serve-failed` when it could not
 */
export async function checkPort(
  { host, port }: { host: string; port: number },
  what: { subject: string; remedy: string } = MANAGER,
): Promise<void> {
  const server = createServer();
  try {
    await listen(server, { host, port, backlog: 1 });
  } catch (error) {
    throw unusable({ host, port }, error, what);
  } finally {
    server.close();
  }
}

const MANAGER = { subject: 'the manager', remedy: 'set serve-address and serve-port' };

function unusable(
  { host, port }: { host: string; port: number },
  cause: unknown,
  { subject, remedy } = MANAGER,
): Pm2EnvoyError {
  const code = systemCodeOf(cause);
  const reason =
    code === 'EADDRINUSE'
      ? 'another program uses it'
      : code === 'EADDRNOTAVAIL'
        ? 'this host has no such address'
        : code === 'EACCES'
          ? 'this user is not allowed to'
          : String(code);
  return new Pm2EnvoyError(
    'serve-failed',
    `${subject} can't listen on ${host} port ${port} (${reason}): ${remedy}`,
    { cause },
  );
}
