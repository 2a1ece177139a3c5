import type { Config } from '../../config/config.js';
import { createHostDrain } from '../../drain/host-drain.js';
import { createEnvoyLocator } from '../../drain/locate.js';
import { isPm2EnvoyError, Pm2EnvoyError } from '../../errors.js';
import { describeFailedStart, readFailedStart } from '../../host/failed-start.js';
import { findRunDir } from '../../host/run-dir.js';
import { silentLog } from '../../log.js';
import type { PluginHost } from '../../plugins/api/types.js';
import { createManagerClient } from '../../status/manager-client.js';
import { createStatusReader, type Status, type StatusReader } from '../../status/status.js';

/** A status, and where it is from. */
export interface Found {
  status: Status;
  /** Why it is not the manager's, if it is not. */
  note: string | undefined;
}

/** Reads the status of this host, again and again. */
export interface StatusSource {
  /**
   * What the manager says, or Envoy itself when the manager is down. Bounded.
   *
   * @throws Pm2EnvoyError `manager-unreachable` when neither answers; else as the manager's client
   */
  read(signal?: AbortSignal): Promise<Found>;
}

/** Creates the source; it remembers what rates and paces of an Envoy that is asked directly are made of. */
export function createStatusSource(config: Config, host: PluginHost): StatusSource {
  const runDir = findRunDir(config.runDir);
  let reader: StatusReader | undefined;
  const openReader = (): StatusReader => {
    const locator = createEnvoyLocator({ config, runDir, log: silentLog });
    const hostDrain = createHostDrain({ locator, config, host, log: silentLog });
    return createStatusReader({
      config,
      locator,
      hostDrain,
      readFailedStart: () => readFailedStart(runDir),
    });
  };
  return {
    read: async (signal) => {
      try {
        // A manager that has come back may serve on another port.
        const status = await createManagerClient(config, runDir).status(signal);
        return { status, note: undefined };
      } catch (error) {
        if (!isPm2EnvoyError(error, 'manager-unreachable')) throw error;
        reader ??= openReader();
        const status = await reader.read();
        if (status.envoy && status.envoy.state !== null) {
          return { status, note: `${error.message}: asked Envoy directly` };
        }
        const { failedStart } = status;
        const why = failedStart ? `: ${describeFailedStart(failedStart)}` : '';
        const found = status.envoy ? status.lastError : `there is no Envoy in ${runDir}${why}`;
        throw new Pm2EnvoyError('manager-unreachable', `${error.message}, and ${found}`, {
          cause: error,
        });
      }
    },
  };
}
