import { chmodSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { type Clock, systemClock } from '../clock.js';
import { systemCodeOf } from '../errors.js';
import type { BootstrapAdmin } from './bootstrap.js';

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
 * scrape, a stats listener) need not know of generations.
 *
 * Under pm2's cluster mode the listening socket belongs to the daemon and is shared by old and new
 * runner, so nothing is refused while one replaces the other (pm2-facts.md).
 *
 * @param newestSocket path of the newest generation's admin socket; undefined: there is none
 * @throws the system error when the address can't be listened on
 */
export async function startAdminRelay(
  admin: BootstrapAdmin,
  newestSocket: () => string | undefined,
  clock: Clock = systemClock,
): Promise<AdminRelay> {
  const server = createServer({ allowHalfOpen: true }, (client) => relay(client, newestSocket()));
  await listen(server, admin).catch(async (error: unknown) => {
    if (systemCodeOf(error) !== 'EADDRINUSE' || !('path' in admin)) throw error;
    if (await answers(admin.path)) throw error;
    // A socket file that nobody listens on is what the last Envoy or runner left.
    rmSync(admin.path, { force: true });
    await listen(server, admin);
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

function listen(server: Server, admin: BootstrapAdmin): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    // A cluster worker asks the daemon to listen, which may just have died.
    setTimeout(() => reject(new Error('pm2 does not answer')), LISTEN_LIMIT_MS).unref();
    const at = 'path' in admin ? { path: admin.path } : admin;
    server.listen(at, () => {
      if ('path' in admin && admin.mode) chmodSync(admin.path, admin.mode);
      server.removeListener('error', reject);
      resolve();
    });
  });
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
