import { until } from '../clock.js';
import type { HostDrain } from '../drain/host-drain.js';
import type { EnvoyLocator } from '../drain/locate.js';
import { EXIT } from '../exit-codes.js';
import type { PluginHost } from '../plugins/api/types.js';
import type { App } from '../pm2/boot.js';
import type { OwnApp } from '../pm2/own-app.js';
import { onStop } from '../pm2/stop-signals.js';
import type { ManagerActions } from './actions.js';

/**
 * How long a manager that pm2 stops looks for a drain that begins at the same moment; as long again, while a runner
 * that pm2 stops too has not begun it.
 */
const DRAIN_APPEARS_MS = 500;

/** Drains on SIGTERM, and ends the manager once no caller waits for a drain any more. */
export function leaveOnStop(
  app: App,
  parts: {
    hostDrain: HostDrain;
    locator: EnvoyLocator;
    host: PluginHost;
    actions: ManagerActions;
    ownApp: OwnApp;
    endWhatRestartLeft: () => Promise<void>;
    stopServing: () => Promise<void>;
  },
): void {
  const { log, channel, exit } = app;
  const { hostDrain, locator, host, actions, ownApp } = parts;
  let isLeaving = false;
  let drained: Promise<unknown> | undefined;
  app.survivesFaults = () => isLeaving || hostDrain.isUnderWay(undefined);

  /** pm2 stops the manager: that must not take Envoy out of service, but callers get their answer. */
  const stayForDrain = async (): Promise<void> => {
    const isUnderWay = async (): Promise<true | undefined> =>
      drained || hostDrain.isUnderWay(await locator.locate()) ? true : undefined;
    const isRunnerStopping = async (): Promise<boolean> => {
      const runner = (await locator.locate())?.generation?.runner;
      return runner !== undefined && (await ownApp.isStopping(runner.pid));
    };
    do {
      const found = await until(isUnderWay, { everyMs: 50, limitMs: DRAIN_APPEARS_MS });
      if (found) drained ??= hostDrain.drain();
    } while (!drained && (await isRunnerStopping()));
  };
  const leave = async (reason: string): Promise<void> => {
    if (isLeaving) return;
    isLeaving = true;
    log.info(`${reason}: leaving`);
    if (!drained) await stayForDrain();
    await drained;
    await parts.endWhatRestartLeft();
    await host.settled();
    await parts.stopServing();
    // A SIGTERM that came after a SIGINT.
    await drained;
    await channel.answered();
    await exit(EXIT.done);
  };
  onStop(async (reason) => {
    // With PM2_KILL_SIGNAL=SIGTERM it is how pm2 stops any app.
    if (reason === 'SIGTERM' && !(await ownApp.isEnding())) {
      drained ??= hostDrain.drain({ kind: 'signal', detail: reason });
    }
    if (await actions.isTrigger(reason)) return;
    await leave(reason);
  });
  channel.onDisconnect(() => void leave('pm2 is gone'));
}
