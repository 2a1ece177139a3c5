import { loadConfig } from '../../src/config/load.js';
import { createDrainer, type Drainer } from '../../src/drain/drainer.js';
import { openLedger } from '../../src/drain/record.js';
import type { DrainConfig, DrainSteps } from '../../src/drain/run.js';
import { identify } from '../../src/host/process-identity.js';
import { silentLog } from '../../src/log.js';
import { DrainPlugin } from '../../src/plugins/drain-plugin.js';
import { createPluginHost } from '../../src/plugins/host.js';
import type { TestEnvoy } from './envoy.js';

/** A drain of a test's Envoy in this process; `says` is told every line of the log. */
export function drainOf(
  envoy: TestEnvoy,
  options: { config?: Partial<DrainConfig>; isOurs?: boolean; says?: (line: string) => void } = {},
): Drainer {
  const { config: loaded } = loadConfig({ env: {} });
  const config = { ...loaded, checkDelayMs: 0, drainTimeoutMs: 20_000, ...options.config };
  const say = (...parts: unknown[]): void => options.says?.(String(parts.at(-1)));
  const log = { ...silentLog, debug: say, info: say, warn: say, error: say, fatal: say };
  const own = { name: 'drain', create: DrainPlugin, options: {}, builtIn: true };
  return createDrainer({
    command: 'shutdown',
    targets: [
      {
        name: 'Envoy',
        admin: envoy.admin,
        process: options.isOurs === false ? undefined : identify(envoy.pid),
      },
    ],
    ledger: openLedger({ base: `${envoy.folder}/drain`, log }),
    config,
    host: createPluginHost({ config: loaded, log, plugins: [own] }),
    log,
  });
}

/** A drain as hooks see it, one connection at its start, whose steps do nothing. */
export function stubDrain(): DrainSteps {
  const nothing = async (): Promise<void> => undefined;
  return {
    command: 'shutdown',
    phase: 'fail-health',
    startedAt: new Date(0).toISOString(),
    timeLeftMs: () => 60_000,
    connectionsAtStart: 1,
    connectionsLeft: 0,
    outcome: undefined,
    isOvertaken: false,
    lastError: () => undefined,
    failHealth: nothing,
    delay: nothing,
    close: nothing,
    wait: nothing,
    passHealth: nothing,
  };
}
