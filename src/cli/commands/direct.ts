import { resolve } from 'node:path';
import type { Config } from '../../config/config.js';
import { loadConfig } from '../../config/load.js';
import { createHostDrain, type HostDrain } from '../../drain/host-drain.js';
import { createEnvoyLocator } from '../../drain/locate.js';
import { isPm2EnvoyError, messageOf, Pm2EnvoyError } from '../../errors.js';
import type { ProcessIdentity } from '../../host/process-identity.js';
import { findRunDir, prepareRunDir } from '../../host/run-dir.js';
import { createLog, type Log } from '../../log.js';
import type { PluginHost } from '../../plugins/api/types.js';
import { createDrainHost } from '../../plugins/drain-host.js';
import { appSources, withCall } from '../../pm2/app-config.js';
import { findApp } from '../../pm2/find-app.js';
import type { CliContext } from '../terminal/context.js';

/** The drain as the command line runs it by itself. */
export interface DirectDrain {
  hostDrain: HostDrain;
  host: PluginHost;
  runDir: string;
  log: Log;
  /** Whether another process would find the drain, and go on with it. */
  isRecorded(): boolean;
}

/**
 * Opens the host's drain in this process, for when the manager is down.
 *
 * @param of `hung`: a process that runs, but does nothing: a drain that it leads is taken over; `env`: what plugins
 *   read, this process's environment if left out
 * @throws Pm2EnvoyError `manager-unreachable` when there is no Envoy either, `config-invalid` or
 *   `admin-gone` when nothing that is an Envoy answers at admin-address
 */
export async function openDirectDrain(
  cli: CliContext,
  config: Config,
  of: { hung?: ProcessIdentity | undefined; env?: NodeJS.ProcessEnv | undefined } = {},
): Promise<DirectDrain> {
  const runDir = chooseRunDir(cli, config);
  const log = await createLog({
    name: 'pm2-envoy',
    level: 'warn',
    format: 'text',
    stream: {
      isTTY: cli.io.terminal('stderr').color,
      write: (text) => cli.io.note(text.trimEnd()),
    },
  });
  const locator = createEnvoyLocator({ config, runDir, log, hung: of.hung });
  const located = await locator.locate();
  if (!located) {
    throw new Pm2EnvoyError(
      'manager-unreachable',
      `no Envoy of pm2-envoy runs here either (looked in ${runDir}): is it running, as this user and with this run-dir?`,
    );
  }
  // A wrong address would otherwise be asked again and again until drain-timeout.
  await located.newest.admin.state().catch((error: unknown) => {
    if (isPm2EnvoyError(error, 'admin-payload')) {
      throw new Pm2EnvoyError('config-invalid', `admin-address: ${error.message}`, {
        cause: error,
      });
    }
    if (!located.generation && isPm2EnvoyError(error, 'admin-gone')) throw error;
  });
  const host = await createDrainHost(config, log, of.env).catch((error: unknown) => {
    if (!isPm2EnvoyError(error) || !error.code.startsWith('plugin-')) throw error;
    cli.io.note(`${error.message}: draining without plugins`);
    return createDrainHost({ ...config, plugins: [] }, log, of.env);
  });
  return {
    hostDrain: createHostDrain({ locator, config, host, log }),
    host,
    runDir,
    log,
    isRecorded: () => located.ledger.read() !== undefined,
  };
}

/** What a drain without the manager goes by. */
export interface DirectSettings {
  config: Config;
  env: NodeJS.ProcessEnv | undefined;
  /** In words. */
  whose: string;
}

/**
 * The settings of the app that runs Envoy, as the manager has them, with the options of this call; this shell's where
 * pm2 has no such app, or it can't be used.
 */
export async function directSettings(cli: CliContext): Promise<DirectSettings> {
  const loaded = cli.load();
  const own = { config: loaded.config, env: undefined, whose: 'this shell' };
  if (loaded.config.adminAddress) return own;
  try {
    const { process: app, runDir } = await findApp(loaded);
    const { flags, configFile: file } = cli.given;
    const configFile = file === undefined ? undefined : resolve(file);
    const { config } = loadConfig(withCall(appSources(app), { flags, configFile }));
    return { config: { ...config, runDir }, env: app.env, whose: `the app ${app.name}` };
  } catch {
    return own;
  }
}

/** A foreign Envoy's drain is recorded where nothing else may have made the folder. */
function chooseRunDir(cli: CliContext, config: Config): string {
  if (!config.adminAddress) return findRunDir(config.runDir);
  try {
    return prepareRunDir(config.runDir);
  } catch (error) {
    cli.io.note(messageOf(error));
    return findRunDir(config.runDir);
  }
}
