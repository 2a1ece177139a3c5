import { existsSync, readFileSync } from 'node:fs';
import type { Config } from '../../config/config.js';
import type { LoadedConfig } from '../../config/load.js';
import { isKey, variableOf } from '../../config/schema.js';
import { drainTimeSeconds } from '../../envoy/arguments.js';
import { notAnEnvoy, versionOf } from '../../envoy/bootstrap.js';
import { checkLaunch, launchOf } from '../../envoy/launch.js';
import { Pm2EnvoyError } from '../../errors.js';
import {
  bootstrapCopyOf,
  type Generation,
  type GenerationLaunch,
  isAttended,
  openGenerations,
} from '../../host/generations.js';
import { findRunDir, prepareRunDir } from '../../host/run-dir.js';
import { silentLog } from '../../log.js';
import { createDrainHost } from '../../plugins/drain-host.js';
import { appConfig } from '../../pm2/app-config.js';
import { type FoundApp, findApp } from '../../pm2/find-app.js';

/** What a redeploy is going to do, once everything in it has been checked. */
export interface RedeployPlan {
  app: FoundApp;
  /** The app's configuration with the changes. */
  config: Config;
  /** The generation in service; undefined: none, so the reload is a start. */
  from: Generation | undefined;
  /** Version of the Envoy that is to run. */
  version: string;
  changes: Changes;
  /** Variables that the app is given anew. */
  env: Readonly<Record<string, string>>;
}

/** What the new generation has that the old one has not; undefined: nothing, or it can't be told. */
export interface Changes {
  /** `1.39.3 (/opt/envoy)` and what comes in its place. */
  envoy?: { from: string; to: string };
  /** A unified diff of the bootstrap. */
  bootstrap?: string;
  /** `envoy-args` and `envoy-drain-time`. */
  arguments?: { from: string; to: string };
}

/**
 * The app that a redeploy is about.
 *
 * @throws Pm2EnvoyError `pm2-unreachable` when there is no such pm2 or app, `config-invalid` where
 *   Envoy is none of pm2-envoy's, `redeploy-failed` during another reload
 */
export async function findIdleApp(loaded: LoadedConfig): Promise<FoundApp> {
  const { config, settings } = loaded;
  if (config.adminAddress) {
    throw new Pm2EnvoyError(
      'config-invalid',
      `admin-address ${settings['admin-address'].value} is of an Envoy that pm2-envoy did not start: there is nothing to redeploy`,
    );
  }
  const app = await findApp(loaded);
  refuseSecondReload(app);
  return app;
}

/**
 * During a reload pm2 lists the new instance only, while the old one still answers for its
 * generation. pm2 refuses a second reload by itself, but only once everything has been checked.
 */
function refuseSecondReload({ runDir, home, process: { name, pid } }: FoundApp): void {
  const isReplaced = openGenerations(runDir)
    .live()
    .some(
      (one) =>
        one.supervisor?.home === home &&
        one.supervisor.app === name &&
        isAttended(one) &&
        one.runner.pid !== pid,
    );
  if (isReplaced) throw new Pm2EnvoyError('redeploy-failed', reloadUnderWay(name));
}

/** Why a second reload is refused. */
export function reloadUnderWay(app: string): string {
  return `a reload of ${app} is under way already: wait until it has ended (\`pm2-envoy status\` shows it)`;
}

/**
 * Checks what the new runner will check, with the app's own environment, folder and arguments.
 *
 * @param env variables that the app is to be given anew
 * @throws Pm2EnvoyError as the runner itself would end with: `config-invalid`, `envoy-not-found`,
 *   `bootstrap-invalid`, `plugin-invalid`, `run-dir-unusable`
 */
export async function planRedeploy(
  app: FoundApp,
  env: Readonly<Record<string, string>>,
): Promise<RedeployPlan> {
  const { cwd } = app.process;
  const appEnv = { ...app.process.env, ...env };
  const { config, settings } = appConfig(app.process, env);
  refuseOutranked(settings, env);
  await createDrainHost(config, silentLog, appEnv);
  const runDir = findRunDir(config.runDir);
  if (!existsSync(runDir)) prepareRunDir(config.runDir);
  const binary = await checkLaunch(config, runDir, { env: appEnv, cwd });
  const version = await versionOf(binary);
  // Something that takes every bootstrap, such as /bin/true.
  if (version === undefined) throw notAnEnvoy(binary);
  const newest = openGenerations(runDir).newest();
  const from = newest?.ready ? newest : undefined;
  const changes = from ? await changesFrom(from, launchOf(binary, config), version) : {};
  return { app: { ...app, runDir }, config, from, version, changes, env };
}

/** An argument in the ecosystem file comes before a variable, so a change would be none. */
function refuseOutranked(
  settings: LoadedConfig['settings'],
  env: Readonly<Record<string, string>>,
): void {
  for (const [key, { source }] of Object.entries(settings)) {
    if (!isKey(key) || source !== `--${key}` || env[variableOf(key)] === undefined) continue;
    throw new Pm2EnvoyError(
      'config-invalid',
      `--${key} would change nothing: the app has an argument --${key} of its own, which comes first; change it in the ecosystem file`,
    );
  }
}

async function changesFrom(
  from: Generation,
  to: GenerationLaunch,
  version: string,
): Promise<Changes> {
  const { launch } = from;
  if (!launch) return {};
  const changes: Changes = {};
  const shown = (one: GenerationLaunch, its: string | undefined): string =>
    `${its ?? 'unknown version'} (${one.binary})`;
  if (launch.binary !== to.binary || from.version !== version) {
    changes.envoy = { from: shown(launch, from.version), to: shown(to, version) };
  }
  const argumentsOf = ({ args, drainTimeMs }: GenerationLaunch): string =>
    [...args, '--drain-time-s', drainTimeSeconds(drainTimeMs)].join(' ');
  if (argumentsOf(launch) !== argumentsOf(to)) {
    changes.arguments = { from: argumentsOf(launch), to: argumentsOf(to) };
  }
  const bootstrap = await bootstrapDiff(from, launch.bootstrap, to.bootstrap);
  return bootstrap === undefined ? changes : { ...changes, bootstrap };
}

async function bootstrapDiff(
  from: Generation,
  oldName: string,
  newName: string,
): Promise<string | undefined> {
  const read = (path: string): string | undefined => {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      return undefined;
    }
  };
  const [before, after] = [read(bootstrapCopyOf(from)), read(newName)];
  if (before === undefined || after === undefined || before === after) return undefined;
  const { createTwoFilesPatch } = await import('diff');
  const label = (name: string, which: string): string => `${name} (${which})`;
  return createTwoFilesPatch(
    label(oldName, `generation ${from.number}`),
    label(newName, 'now'),
    before,
    after,
    undefined,
    undefined,
    { context: 2 },
  ).replace(/^=+\n/, '');
}
