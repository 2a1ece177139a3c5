import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { killTimeoutMs } from '../config/grace-period.js';
import { Pm2EnvoyError } from '../errors.js';
import { PACKAGE_ROOT } from '../package-root.js';
import { type EnvoyAppsOptions, loadForApps } from './apps.js';
import { HOLD_VARIABLE, type Hold, PM2_KILL_TIMEOUT_MS } from './hold-stop.js';

/** An entry of a pm2 ecosystem file, as far as it is used here. */
export interface BackendApp {
  name?: string;
  script?: string;
  interpreter?: string;
  exec_interpreter?: string;
  kill_timeout?: number;
  node_args?: string | readonly string[];
  env?: Readonly<Record<string, unknown>>;
}

/** What {@link behindEnvoy} sets in an app. */
export interface HeldApp {
  kill_timeout: number;
  node_args: string[];
  env: Record<string, unknown>;
}

/**
 * An app that Envoy sends requests to, for the same ecosystem file as {@link envoyApps}. pm2 stops all apps at the
 * same instant (`docker stop`, `pm2 kill`, `systemctl stop`), but Envoy needs this one until its own drain has
 * ended. So the app gets a stop (SIGINT, SIGTERM, the message `shutdown`) only once Envoy has exited; its own
 * `kill_timeout` starts then. A stop, restart or reload of only this app is not delayed.
 *
 * List it after the apps of `envoyApps`: `pm2 stop all` uses that order.
 *
 * @param options the same as for `envoyApps`: `kill_timeout` is derived from the same configuration
 * @throws Pm2EnvoyError `config-invalid`, also for an app that Node does not run
 */
export function behindEnvoy<App extends BackendApp>(
  app: App,
  options: EnvoyAppsOptions = {},
): App & HeldApp {
  const interpreter = app.interpreter ?? app.exec_interpreter ?? 'node';
  if (!/^(.*\/)?node$/.test(interpreter) || /(^|\/)(npm|yarn|pnpm)$/.test(app.script ?? '')) {
    throw new Pm2EnvoyError(
      'config-invalid',
      `behindEnvoy can only delay the stop of a Node script, and ${app.name ?? app.script} is run by ${interpreter === 'node' ? app.script : interpreter}: name the script itself, or make the app itself wait on SIGINT`,
    );
  }
  const { config } = loadForApps(options);
  const preload = pathToFileURL(resolve(PACKAGE_ROOT, 'dist/apps/behind-envoy.js')).href;
  const { node_args: own = [] } = app;
  const hold: Hold = { runDir: config.runDir, limitMs: killTimeoutMs(config) };
  return {
    ...app,
    kill_timeout: hold.limitMs + (app.kill_timeout || PM2_KILL_TIMEOUT_MS),
    node_args: [...(typeof own === 'string' ? own.split(/\s+/) : own), `--import=${preload}`],
    env: { ...app.env, [HOLD_VARIABLE]: JSON.stringify(hold) },
  };
}
