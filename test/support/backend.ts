import { once } from 'node:events';
import { createServer as createHttpServer, type Server as HttpServer } from 'node:http';
import {
  type AddressInfo,
  createServer as createTcpServer,
  type Server,
  type Socket,
} from 'node:net';
import { join } from 'node:path';
import { WebSocketServer } from 'ws';
import { forkModule } from './hosts.js';

/** What Envoy forwards to. */
export interface Backend {
  httpPort: number;
  tcpPort: number;
  close(): Promise<void>;
}

/**
 * Starts the servers behind Envoy: HTTP (`/` and `/again` immediately, `/slow?ms=` after a while, `/whole` once the
 * request has come whole (with `early` the headers come immediately), `/stream` a byte each 50 ms until then), WebSocket
 * echo on the same port, and TCP echo.
 *
 * @param onRequest told the path and query of each HTTP request
 */
export async function startBackend(
  onRequest: (path: string) => void = () => undefined,
): Promise<Backend> {
  const http = createHttpServer((request, response) => {
    onRequest(request.url ?? '');
    const url = new URL(request.url ?? '/', 'http://backend');
    const ms = Number(url.searchParams.get('ms') ?? 0);
    if (url.pathname === '/slow') {
      setTimeout(() => response.end('slow and whole'), ms);
    } else if (url.pathname === '/whole') {
      if (url.searchParams.has('early')) response.flushHeaders();
      request.resume().once('end', () => response.end('came whole'));
    } else if (url.pathname === '/stream') {
      response.writeHead(200);
      const timer = setInterval(() => response.write('.'), 50);
      response.on('close', () => clearInterval(timer));
      request.resume().once('end', () => {
        clearInterval(timer);
        response.end('came whole');
      });
    } else {
      response.end(url.pathname === '/again' ? 'hello again' : 'hello');
    }
  });
  // A connection that Node closes just when Envoy reuses it would look like a request that Envoy lost.
  http.keepAliveTimeout = 0;
  const sockets = new WebSocketServer({ server: http });
  sockets.on('connection', (socket) => socket.on('message', (data) => socket.send(data)));
  const tcp = createTcpServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.pipe(socket);
  });
  const open = new Set<Socket>();
  for (const server of [http, tcp]) {
    server.on('connection', (socket: Socket) => {
      open.add(socket);
      socket.on('close', () => open.delete(socket));
    });
  }
  const [httpPort, tcpPort] = await Promise.all([listen(http), listen(tcp)]);
  return {
    httpPort,
    tcpPort,
    close: async () => {
      for (const socket of open) socket.destroy();
      await Promise.all([http, tcp].map((server) => new Promise((done) => server.close(done))));
    },
  };
}

/**
 * The same in a process of its own, for as much traffic as would slow the test down.
 *
 * @param within the words that make it run on a host of the test's own
 */
export async function startBackendProcess(within?: readonly string[]): Promise<Backend> {
  const child = forkModule(join(import.meta.dirname, 'backend-child.ts'), within);
  const ports = await new Promise<Pick<Backend, 'httpPort' | 'tcpPort'>>((resolve, reject) => {
    child.once('message', resolve);
    child.once('exit', (code) => reject(new Error(`the backend ended with ${code}`)));
  });
  return {
    ...ports,
    close: async () => {
      const ended = once(child, 'exit');
      child.disconnect();
      await ended;
    },
  };
}

function listen(server: HttpServer | Server): Promise<number> {
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port));
  });
}
