import { Pm2EnvoyError } from '../../errors.js';
import { findForeign } from '../../pm2/foreign.js';
import type { CliContext } from '../terminal/context.js';

/**
 * A call that names the run directory means the Envoy in it; in the default one it may be another project's.
 *
 * @param notDone what is said of the command then
 * @throws Pm2EnvoyError `config-invalid`
 */
export async function refuseForeign(cli: CliContext, notDone: string): Promise<void> {
  const { config, settings } = cli.load();
  const foreign = await findForeign(config).catch(() => undefined);
  if (!foreign) return;
  const text = `${foreign.message}: ${foreign.remedy}`;
  if (settings['run-dir'].source === 'default') {
    throw new Pm2EnvoyError('config-invalid', `${notDone}: ${text}`);
  }
  cli.io.say(text);
}
