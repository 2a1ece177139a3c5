import { loadConfig } from '../config/load.js';
import type { DrainRun, DrainSteps } from '../drain/run.js';
import type { Log } from '../log.js';
import type { Invocation, PluginClass } from './api/types.js';
import { DrainPlugin } from './drain-plugin.js';
import { createPluginHost } from './host.js';

/** A plugin in a test of its own, without Envoy and pm2. */
export interface TestHost {
  /**
   * Takes `shutdown`, `resume`, `handover`, `start` or a command of the plugin's through its events, and waits for the
   * hooks. `drain` is what they see of the drain; what is left out is that of one that ends `drained`.
   *
   * @throws Error with the message of the first hook that has failed
   */
  run(
    command: string,
    call?: { invocation?: Partial<Invocation>; drain?: Partial<DrainRun> },
  ): Promise<void>;
  /** Messages that the plugin has logged, of every level. */
  readonly logged: readonly string[];
}

/**
 * Constructs a plugin as pm2-envoy does: its options are checked against its schema, and its hooks against the
 * lifecycle events that there are.
 *
 * @param env the environment variables that it sees
 * @throws Pm2EnvoyError `plugin-invalid`
 */
export function createTestHost(
  plugin: PluginClass,
  options: Readonly<Record<string, unknown>> = {},
  env: Readonly<Record<string, string>> = {},
): TestHost {
  const logged: string[] = [];
  const failed: string[] = [];
  const say = (...parts: unknown[]): void => void logged.push(String(parts.at(-1)));
  const fail = (fields: unknown, message?: unknown): void => {
    if (isHookFailure(fields)) failed.push(String(message));
    else say(fields, ...(message === undefined ? [] : [message]));
  };
  const log = { debug: say, info: say, warn: say, error: fail, fatal: fail } as unknown as Log;
  const host = createPluginHost({
    config: loadConfig({ env: {} }).config,
    log,
    env,
    plugins: [
      { name: 'drain', create: DrainPlugin, options: {}, builtIn: true },
      { name: plugin.name, create: plugin, options },
    ],
  });
  return {
    logged,
    run: async (command, { invocation, drain = {} } = {}) => {
      failed.length = 0;
      const call = { invocation: { args: [], options: {}, ...invocation } };
      if (OF_DRAIN.includes(command)) await host.run(command, { ...call, ...drainOf(drain) });
      else await host.run(command, command === 'start' ? { ...call, goesOn: true } : call);
      await host.settled();
      const [first] = failed;
      if (first !== undefined) throw new Error(first);
    },
  };
}

const OF_DRAIN: readonly string[] = ['shutdown', 'resume', 'handover'];

/** What the host itself says of a hook that has failed. */
function isHookFailure(fields: unknown): boolean {
  return typeof fields === 'object' && fields !== null && 'hook' in fields && 'plugin' in fields;
}

function drainOf(seen: Partial<DrainRun>): { drain: DrainSteps; onEvent(event: string): void } {
  const nothing = async (): Promise<void> => undefined;
  const drain: { -readonly [Key in keyof DrainSteps]: DrainSteps[Key] } = {
    command: 'shutdown',
    phase: 'fail-health',
    startedAt: new Date().toISOString(),
    timeLeftMs: () => 60_000,
    connectionsAtStart: 1,
    connectionsLeft: 1,
    outcome: undefined,
    isOvertaken: false,
    lastError: () => undefined,
    failHealth: nothing,
    delay: nothing,
    close: nothing,
    wait: nothing,
    passHealth: nothing,
    ...seen,
  };
  const onEvent = (event: string): void => {
    if (event === 'finish') {
      drain.outcome = seen.outcome ?? 'drained';
      drain.connectionsLeft = seen.connectionsLeft ?? 0;
    }
    if (isPhase(event)) drain.phase = event;
  };
  return { drain, onEvent };
}

function isPhase(event: string): event is DrainRun['phase'] {
  return ['fail-health', 'delay', 'close', 'wait', 'finish'].includes(event);
}
