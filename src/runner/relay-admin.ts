import { readBootstrapAdmin } from '../envoy/bootstrap.js';
import { type AdminRelay, startAdminRelay } from '../envoy/relay.js';
import { messageOf } from '../errors.js';
import type { App } from '../pm2/boot.js';

/**
 * Relays the bootstrap's own admin address to the newest generation. One that can't be listened on
 * costs a warning: Envoy serves without it.
 */
export async function relayAdmin(
  { config, log }: Pick<App, 'config' | 'log'>,
  newestSocket: () => string | undefined,
): Promise<AdminRelay | undefined> {
  let shown = config.envoyConfig;
  try {
    const admin = readBootstrapAdmin(config.envoyConfig);
    if (!admin || ('port' in admin && admin.port === 0)) return undefined;
    shown = 'path' in admin ? admin.path : `${admin.host}:${admin.port}`;
    const relay = await startAdminRelay(admin, newestSocket);
    log.debug(`relaying the bootstrap's admin address ${shown}`);
    return relay;
  } catch (error) {
    log.warn(`the bootstrap's admin address ${shown} can't be relayed: ${messageOf(error)}`);
    return undefined;
  }
}
