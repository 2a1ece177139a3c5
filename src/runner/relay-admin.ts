import { type AdminRelay, startAdminRelay } from '../envoy/relay.js';
import { messageOf } from '../errors.js';
import type { BootstrapAdmin } from '../host/bootstrap-admin.js';
import type { Log } from '../log.js';

/**
 * Relays the admin address of the bootstrap to the newest generation, with the paths that the bootstrap
 * allows. One that can't be listened on costs a warning: Envoy serves without it.
 *
 * @param admin what the bootstrap of the generation in service says; undefined: that is not known
 */
export async function relayAdmin(
  admin: BootstrapAdmin | undefined,
  newestSocket: () => string | undefined,
  log: Log,
): Promise<AdminRelay | undefined> {
  if (!admin) log.warn("the bootstrap's admin address is not known, so it is not relayed");
  const { address, allowPaths = [] } = admin ?? {};
  if (!address) return undefined;
  const shown = 'path' in address ? address.path : `${address.host}:${address.port}`;
  try {
    const relay = await startAdminRelay({ address, allowPaths }, newestSocket);
    log.debug(`relaying the bootstrap's admin address ${shown}`);
    return relay;
  } catch (error) {
    log.warn(`the bootstrap's admin address ${shown} can't be relayed: ${messageOf(error)}`);
    return undefined;
  }
}
