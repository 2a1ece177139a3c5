import type { Config } from '../config/config.js';
import { readFlags } from '../config/flags.js';
import { loadConfig, peekRunDir } from '../config/load.js';
import { messageOf } from '../errors.js';
import { EXIT, exitCodeOf } from '../exit-codes.js';
import { createLog, type Log } from '../log.js';
import { appArguments } from './arguments.js';
import { openPm2Channel, type Pm2Channel } from './channel.js';

/** What both apps begin with. */
export interface App {
  name: string;
  config: Config;
  log: Log;
  channel: Pm2Channel;
  /** Why the configuration is not the user's but the default one; only where the app asked for it. */
  configError: unknown;
  /** Whether ending at a fault would cost more than going on: in a drain. The app sets it. */
  survivesFaults(): boolean;
  /** Ends the process once what was logged has left it. */
  exit(code: number): Promise<never>;
}

/**
 * Runs one of the two apps: loads its configuration (flags included), and turns whatever it throws
 * into lines of the log and its exit code.
 *
 * @param options `evenMisconfigured`: run with the default configuration where the user's is wrong
 */
export async function boot(
  name: string,
  run: (app: App) => Promise<void>,
  options: { evenMisconfigured?: boolean } = {},
): Promise<void> {
  const channel = openPm2Channel();
  let log = await createLog({ name, level: 'info', format: 'auto', stream: process.stdout });
  const exit = async (code: number): Promise<never> => {
    await channel.flush();
    process.exit(code);
  };
  let failed = false;
  let app: App | undefined;
  const fail = async (error: unknown): Promise<void> => {
    if (failed) return;
    failed = true;
    for (const line of messageOf(error).split('\n')) log.fatal(line);
    const code = exitCodeOf(error);
    if (code === EXIT.unexpected && error instanceof Error) log.debug(error.stack ?? '');
    await exit(code);
  };
  process.on('uncaughtException', (error) => {
    // A plugin's timer, say: a drain under way is worth more than a clean slate.
    if (app?.survivesFaults()) log.error(`continuing despite an error: ${messageOf(error)}`);
    else void fail(error);
  });
  try {
    const { config, configError } = loadOrDefault(options.evenMisconfigured === true);
    log = await createLog({
      name,
      level: config.logLevel,
      format: config.logFormat,
      stream: process.stdout,
    });
    app = { name, config, configError, log, channel, exit, survivesFaults: () => false };
    await run(app);
  } catch (error) {
    await fail(error);
  }
}

function loadOrDefault(evenMisconfigured: boolean): { config: Config; configError: unknown } {
  try {
    return { config: loadConfig(readFlags(appArguments())).config, configError: undefined };
  } catch (configError) {
    if (!evenMisconfigured) throw configError;
    const { config } = loadConfig({ env: {} });
    return { config: { ...config, runDir: peekRunDir() }, configError };
  }
}
