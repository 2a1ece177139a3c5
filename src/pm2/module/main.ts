import { join } from 'node:path';
import type { Config } from '../../config/config.js';
import { type LoadedConfig, loadConfig } from '../../config/load.js';
import { MODULE, moduleSourceOf } from '../../config/module-settings.js';
import { findEnvoy } from '../../envoy/binary.js';
import { checkLaunch } from '../../envoy/launch.js';
import { messageOf, Pm2EnvoyError } from '../../errors.js';
import { EXIT } from '../../exit-codes.js';
import { createLog, silentLog } from '../../log.js';
import { createDrainHost } from '../../plugins/drain-host.js';
import { openPm2Channel } from '../channel.js';
import { openPm2Daemon, type Pm2Process } from '../daemon.js';
import { pm2Home } from '../supervisor.js';
import { createPm2Command } from './command.js';
import { ENVOY_APP, keepEnvoy, RUNS_VARIABLE, type Wanted } from './keep-envoy.js';
import { prepareRelease, type Release } from './release.js';
import { fingerprintOf, makeStateFolder, openModuleState } from './state.js';

/** What pm2 adds to the environment of a shell in which `pm2 set` or `pm2 install` is typed. */
const PM2S_OWN =
  /^(PM2_(HOME|PROGRAMMATIC|USAGE|JSON_PROCESSING|INTERACTOR_PROCESSING|DISCRETE_MODE)|NODE_APP_INSTANCE|unique_id|_)$/;

/**
 * What the pm2 module is beside the manager: takes over what `pm2 set` has set, where it is right, and brings the app
 * `envoy` to it. Where it is wrong, Envoy and the endpoints go on with the settings before.
 *
 * Resolves once the manager may be loaded, in this process and with this process's environment.
 */
export async function prepareModule(): Promise<void> {
  const home = pm2Home();
  const state = openModuleState(home);
  makeStateFolder(state);
  // pm2's own choice is deleted by an upgrade.
  process.chdir(state.folder);
  process.env['pm_cwd'] = state.folder;
  // It is a fixed one, and none that a drain has to fit into: the runner goes on with what pm2 cuts off here.
  delete process.env['kill_timeout'];
  const channel = openPm2Channel();
  const log = await createLog({
    name: MODULE,
    level: 'info',
    format: 'auto',
    stream: process.stdout,
  });
  const daemon = openPm2Daemon(home);
  const apps = await daemon.processes();
  const running = apps.find(({ name, cwd }) => name === ENVOY_APP && cwd === state.folder);
  const release = prepareRelease(state, join(home, 'modules'));
  const given = givenEnv(apps);
  let wanted: Wanted;
  try {
    wanted = await check(given, { release, running, folder: state.folder });
    state.accept({ env: { ...wanted.env } });
    channel.showMetrics({ settings: 'accepted' });
  } catch (error) {
    for (const line of messageOf(error).split('\n')) log.error(line);
    const before = state.accepted();
    channel.showMetrics({ settings: 'refused' });
    if (!before) {
      log.fatal('Envoy is not started');
      await channel.flush();
      process.exit(EXIT.configuration);
    }
    log.error(`refused: Envoy and ${MODULE} go on with the settings before`);
    wanted = wantedOf(before.env, { release, folder: state.folder });
  }
  takeOn(wanted.env, given);
  const command = createPm2Command(state.folder, home);
  void keepEnvoy(wanted, { state, home, daemon, command, log });
}

/** The environment that pm2 was given for this module: what it has by now beside that is pm2's. */
function givenEnv(apps: readonly Pm2Process[]): Record<string, string> {
  const own = apps.find(({ pmId }) => String(pmId) === process.env['pm_id']);
  const entries = Object.entries(own?.givenEnv ?? {});
  const settings = Object.keys(settingsIn(own?.givenEnv[MODULE]));
  return Object.fromEntries(
    entries.filter(
      ([name, value]) =>
        typeof value === 'string' && !PM2S_OWN.test(name) && !settings.includes(name),
    ),
  );
}

/** pm2 hands each of them on as a variable of its own, too. */
function settingsIn(text: string | undefined): Record<string, unknown> {
  try {
    return JSON.parse(text ?? '{}') as Record<string, unknown>;
  } catch {
    return {};
  }
}

interface Place {
  release: Release;
  folder: string;
}

/** @throws Pm2EnvoyError when Envoy would not start with it */
async function check(
  env: Record<string, string>,
  place: Place & { running: Pm2Process | undefined },
): Promise<Wanted> {
  const loaded = loadConfig({ env, cwd: place.folder });
  refuseWithoutBootstrap(loaded);
  const wanted = wantedOf(env, place);
  const { config } = wanted;
  await createDrainHost(config, silentLog, env);
  if (!config.adminAddress && place.running?.env[RUNS_VARIABLE] !== wanted.runs) {
    await checkLaunch(config, place.folder, { env, cwd: place.folder });
  }
  return wanted;
}

/** The bootstrap that there is by default is one of a project's folder, and a module has none. */
function refuseWithoutBootstrap({ config, settings }: LoadedConfig): void {
  if (config.adminAddress || settings['envoy-config'].source !== 'default') return;
  throw new Pm2EnvoyError(
    'config-invalid',
    `there is nothing to run yet: \`${moduleSourceOf('envoy-config')} /path/to/envoy.yaml\` names Envoy's bootstrap, and starts it`,
  );
}

function wantedOf(env: Record<string, string>, { release, folder }: Place): Wanted {
  const { config, settings } = loadConfig({ env, cwd: folder });
  const values = Object.entries(settings).map(([key, { value }]) => [key, value]);
  return { config, env, release, runs: fingerprintOf([release.id, values, binaryOf(config, env)]) };
}

function binaryOf({ adminAddress, envoyBin }: Config, env: Record<string, string>): string {
  return adminAddress ? '' : findEnvoy(envoyBin, env).path;
}

/** The manager of this process reads its settings from the environment. */
function takeOn(
  env: Readonly<Record<string, string>>,
  given: Readonly<Record<string, string>>,
): void {
  for (const name of Object.keys(process.env)) {
    const isSetting = name.startsWith('PM2_ENVOY_') || name === MODULE;
    if (isSetting || name in settingsIn(given[MODULE])) delete process.env[name];
  }
  Object.assign(process.env, env);
}
