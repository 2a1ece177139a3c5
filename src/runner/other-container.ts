import { once } from 'node:events';
import { connect } from 'node:net';
import { Pm2EnvoyError } from '../errors.js';
import { generationsOfContainers } from '../host/generations.js';

const CONNECT_LIMIT_MS = 1_000;

/**
 * Two containers on one volume see each other's files and not each other's processes: each would take the
 * other's Envoy for dead, and remove its socket.
 *
 * @throws Pm2EnvoyError `run-dir-unusable` when an Envoy of another container lives in the run directory
 */
export async function refuseOtherContainer(runDir: string): Promise<void> {
  for (const { number, adminSocket, envoy } of generationsOfContainers(runDir)) {
    if (!(await isListening(adminSocket))) continue;
    throw new Pm2EnvoyError(
      'run-dir-unusable',
      `the run directory ${runDir} is in use by another container (generation ${number} answers, pid ${envoy.pid} there): give each container its own run-dir, such as an emptyDir or a tmpfs`,
    );
  }
}

/** The kernel takes the connection for an Envoy that is stopped, too. */
async function isListening(path: string): Promise<boolean> {
  const socket = connect({ path });
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(CONNECT_LIMIT_MS) });
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
