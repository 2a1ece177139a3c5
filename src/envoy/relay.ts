import { chmodSync, readFileSync, rmSync } from 'node:fs';
import {
  createServer as createHttpServer,
  type IncomingMessage,
  request,
  type ServerResponse,
} from 'node:http';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { type Clock, systemClock } from '../clock.js';
import { systemCodeOf } from '../errors.js';
import type { BootstrapAddress, BootstrapAdmin } from '../host/bootstrap-admin.js';
import { allowsPath } from './path-rules.js';

/** Node's cluster gives no acknowledgement when a worker stops listening. */
const HANDED_OVER_MS = 200;
const LISTEN_LIMIT_MS = 5_000;

/** Passes connections to the bootstrap's admin address on to the newest generation. */
export interface AdminRelay {
  /**
   * Takes no more connections; those under way go on. Resolves once what pm2's daemon had already
   * handed to this process has been given back to it: a process that ends before loses them.
   */
  close(): Promise<void>;
}

/**
 * Listens on the admin address that the bootstrap names, so that tools which use it (a Prometheus
 * scrape, a stats listener) need not know of generations. What the bootstrap's `allow_paths` forbids is
 * forbidden here.
 *
 * Under pm2's cluster mode the listening socket belongs to the daemon and is shared by old and new
 * runner, so nothing is refused while one replaces the other (docs/facts/pm2.md).
 *
 * @param newestSocket path of the newest generation's admin socket; undefined: there is none
 * @throws the system error when the address can't be listened on
 */
export async function startAdminRelay(
  { address, allowPaths }: { address: BootstrapAddress } & Pick<BootstrapAdmin, 'allowPaths'>,
  newestSocket: () => string | undefined,
  clock: Clock = systemClock,
): Promise<AdminRelay> {
  const server =
    allowPaths.length === 0
      ? createServer({ allowHalfOpen: true }, (client) => relay(client, newestSocket()))
      : createHttpServer((asked, answer) => {
          if (allowsPath(allowPaths, asked.url ?? '')) passOn(asked, answer, newestSocket());
          else forbid(asked, answer);
        });
  await listen(server, address).catch(async (error: unknown) => {
    const isFile = 'path' in address && !isAbstract(address.path);
    if (systemCodeOf(error) !== 'EADDRINUSE' || !isFile) throw error;
    if (await answers(address.path)) throw error;
    // A socket file that no one listens on is what the last Envoy or runner left.
    rmSync(address.path, { force: true });
    await listen(server, address);
  });
  server.unref();
  return {
    close: () => {
      server.close();
      return clock.sleep(HANDED_OVER_MS);
    },
  };
}

function relay(client: Socket, path: string | undefined): void {
  client.on('error', () => client.destroy());
  if (path === undefined) {
    client.destroy();
    return;
  }
  const envoy = connect({ path, allowHalfOpen: true });
  envoy.on('error', () => client.destroy());
  client.on('close', () => envoy.destroy());
  envoy.on('close', () => client.destroy());
  client.pipe(envoy);
  envoy.pipe(client);
}

function passOn(
  asked: IncomingMessage,
  answer: ServerResponse,
  socketPath: string | undefined,
): void {
  const fail = (): void => {
    answer.destroy();
  };
  asked.on('error', fail);
  if (socketPath === undefined) {
    fail();
    return;
  }
  const { method, url: path, headers } = asked;
  const { connection: _, ...kept } = headers;
  const envoy = request({ socketPath, method, path, headers: kept, agent: false }, (reply) => {
    const { 'transfer-encoding': _, connection: __, ...shown } = reply.headers;
    answer.writeHead(reply.statusCode ?? 502, shown);
    reply.on('error', fail).pipe(answer);
  });
  envoy.on('error', fail);
  answer.on('close', () => envoy.destroy());
  asked.pipe(envoy);
}

/** In Envoy's own words. */
function forbid(asked: IncomingMessage, answer: ServerResponse): void {
  asked.resume();
  answer.writeHead(403, { 'content-type': 'text/plain; charset=UTF-8' });
  answer.end(`request to path ${asked.url} not allowed`);
}

function isAbstract(path: string): boolean {
  return path.startsWith('@');
}

async function listen(server: Server, address: BootstrapAddress): Promise<void> {
  const at =
    'path' in address
      ? { path: isAbstract(address.path) ? `\0${address.path.slice(1)}` : address.path }
      : address;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    // A cluster worker asks the daemon to listen, which may just have died.
    setTimeout(() => reject(new Error('pm2 does not answer')), LISTEN_LIMIT_MS).unref();
    server.listen(at, () => {
      server.removeListener('error', reject);
      resolve();
    });
  });
  if (!('path' in address)) return;
  if (!isAbstract(address.path)) {
    if (address.mode) chmodSync(address.path, address.mode);
  } else if (!isListenedOn(address.path)) {
    server.close();
    throw new Error(
      `Node ${process.versions.node} can't listen on an abstract socket under its exact name: use a port or a path`,
    );
  }
}

/** libuv before 1.48 fills the name up with zeros, under which no one looks for it. */
function isListenedOn(name: string): boolean {
  return readFileSync('/proc/net/unix', 'utf8')
    .split('\n')
    .some((row) => row.endsWith(` ${name}`));
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect({ path });
    probe.once('connect', () => resolve(true)).once('error', () => resolve(false));
    probe.once('close', () => probe.destroy());
    setTimeout(() => probe.destroy(), 1_000).unref();
    probe.once('connect', () => probe.destroy());
  });
}
