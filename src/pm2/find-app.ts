import { existsSync } from 'node:fs';
import type { ConfigSources, LoadedConfig } from '../config/load.js';
import { Pm2EnvoyError } from '../errors.js';
import { readEndpoint } from '../host/endpoint.js';
import { type Generation, openGenerations } from '../host/generations.js';
import { findRunDir } from '../host/run-dir.js';
import { appConfig, appSources } from './app-config.js';
import { openPm2Daemon, type Pm2Daemon, type Pm2Process } from './daemon.js';
import { pm2Home, quickStartHome } from './supervisor.js';

/** The pm2 app that runs Envoy on this host. */
export interface FoundApp {
  /** PM2_HOME of its pm2. */
  home: string;
  daemon: Pm2Daemon;
  process: Pm2Process;
  /** The manager of the same run directory; undefined: pm2 has none. */
  manager: Pm2Process | undefined;
  /** Everything that this pm2 runs. */
  all: readonly Pm2Process[];
  /** The run directory that was looked in. */
  runDir: string;
}

/** A command asks once: a pm2 that is busy gets longer than from an app, which asks again. */
const ANSWER_LIMIT_MS = 6_000;

/**
 * Finds the pm2 app that runs Envoy: the one that the generation in service belongs to, else the one of the
 * shell's PM2_HOME with this run directory. There may be two of one name.
 *
 * @throws Pm2EnvoyError `pm2-unreachable` when there is no such pm2 or app, or its folder is gone
 */
export async function findApp({ config }: LoadedConfig): Promise<FoundApp> {
  const runDir = findRunDir(config.runDir);
  const newest = openGenerations(runDir).newest();
  const supervisor = newest?.supervisor?.home === 'none' ? undefined : newest?.supervisor;
  const home = supervisor?.home ?? pm2Home();
  const daemon = openPm2Daemon(home, ANSWER_LIMIT_MS);
  const all = await daemon.processes();
  const found = findRunner(all, newest, runDir);
  if (!found) {
    throw new Pm2EnvoyError(
      'pm2-unreachable',
      `pm2 in ${home} has no app ${supervisor?.app ?? 'envoy'}: start it with \`pm2 start ecosystem.config.js\`, or set PM2_HOME and run-dir to the values that this pm2 uses`,
    );
  }
  if (!existsSync(found.cwd)) {
    throw new Pm2EnvoyError(
      'pm2-unreachable',
      `the folder ${found.cwd} of the pm2 app ${found.name} is gone, and pm2 keeps the folder that an app was first started in: make ${found.cwd} a link to the present release, and from the next start on give envoyApps a cwd that lasts`,
    );
  }
  const manager =
    all.find((app) => isOf(app, 'manager') && runDirOf(app) === runDir) ??
    all.find(({ name }) => name === `${found.name}-manager`) ??
    // Of what it has been set to, something may be wrong.
    all.find(isModule);
  return { home, daemon, process: found, manager, all, runDir };
}

/**
 * What an app of the shell's pm2 reads its configuration from; in a checkout of pm2-envoy also one of `npm start`'s.
 *
 * @param name its name or number; that of the app that runs Envoy, or of its manager
 * @throws Pm2EnvoyError `pm2-unreachable` when that pm2 has no such app of ours
 */
export async function sourcesOfApp(name: string): Promise<ConfigSources> {
  const home = pm2Home();
  const apps = await ownApps(home).catch((error: unknown) => error as Error);
  const others = await ownApps(quickStartHome()).catch(() => []);
  const app =
    (apps instanceof Error ? undefined : findNamed(apps, name)) ?? findNamed(others, name);
  if (app) return appSources(app);
  if (apps instanceof Error) throw apps;
  const names = apps.map((one) => one.name).join(', ') || 'none';
  throw new Pm2EnvoyError(
    'pm2-unreachable',
    `pm2 in ${home} runs no Envoy as the app ${name}; the apps of pm2-envoy there: ${names}`,
  );
}

/**
 * What the app has that a command of a plain shell means: one that names no run directory, and no other manager, where
 * the default run directory has neither an Envoy nor a manager. At the default port another project's manager may serve.
 *
 * @returns undefined: the settings of the shell count; also where its pm2 has no such app
 * @throws Pm2EnvoyError `config-invalid`: its pm2 has several, and the shell does not say which
 */
export async function sourcesOfOwnApp(shell: LoadedConfig): Promise<ConfigSources | undefined> {
  const { config, settings } = shell;
  if (config.adminAddress || settings['run-dir'].source !== 'default') return undefined;
  const runDir = findRunDir(undefined);
  if (readEndpoint(runDir) || openGenerations(runDir).live().length > 0) return undefined;
  const apps = await ownApps(pm2Home()).catch(() => []);
  const app = chooseRunner(
    apps.filter((one) => isOf(one, 'runner')),
    settings,
  );
  return app && appSources(app);
}

/**
 * The runner that a shell without a run directory means: the only one, or the one whose manager it would ask. One that
 * serves elsewhere than the shell says is not meant.
 *
 * @throws Pm2EnvoyError `config-invalid` where there are several
 */
export function chooseRunner(
  runners: readonly Pm2Process[],
  shell: LoadedConfig['settings'],
): Pm2Process | undefined {
  const serves = (app: Pm2Process, isMeant: (key: 'serve-port' | 'serve-address') => boolean) => {
    try {
      const its = appConfig(app).settings;
      return (['serve-port', 'serve-address'] as const).every(
        (key) => !isMeant(key) || shell[key].value === its[key].value,
      );
    } catch {
      return false;
    }
  };
  const possible = runners.filter((app) => serves(app, (key) => shell[key].source !== 'default'));
  if (new Set(possible.map(runDirOf)).size < 2) return possible[0];
  const asked = possible.filter((app) => serves(app, () => true));
  if (new Set(asked.map(runDirOf)).size === 1) return asked[0];
  const names = possible.map(({ name }) => `--app ${name}`).join(', ');
  throw new Pm2EnvoyError(
    'config-invalid',
    `this pm2 runs several Envoys, and none is named: say which one (${names}), or set run-dir`,
  );
}

async function ownApps(home: string): Promise<Pm2Process[]> {
  const all = await openPm2Daemon(home, ANSWER_LIMIT_MS).processes();
  return all.filter((app) => isOf(app, 'runner') || isOf(app, 'manager'));
}

function findNamed(apps: readonly Pm2Process[], name: string): Pm2Process | undefined {
  return (
    apps.find((one) => one.name === name || String(one.pmId) === name) ??
    apps.find((one) => one.name === `${name}-manager`)
  );
}

/** By what is surest: the process, the number that pm2 gave the app, its name with the run directory. Pure but for that. */
function findRunner(
  all: readonly Pm2Process[],
  newest: Generation | undefined,
  runDir: string,
): Pm2Process | undefined {
  const { app = 'envoy', pmId } = newest?.supervisor ?? {};
  const named = all.filter(({ name }) => name === app);
  const runners = all.filter((one) => isOf(one, 'runner'));
  return (
    runners.find(({ pid }) => pid !== 0 && pid === newest?.runner.pid) ??
    named.find((one) => pmId !== undefined && String(one.pmId) === pmId) ??
    [...named, ...runners].find((one) => runDirOf(one) === runDir) ??
    named[0]
  );
}

/** The instances of an app: more than one after `pm2 scale`. One that a reload replaces has no number any more. */
export function instancesOf(app: Pm2Process, all: readonly Pm2Process[]): Pm2Process[] {
  const isInstance = (one: Pm2Process): boolean =>
    one.name === app.name && typeof one.pmId === 'number' && runDirOf(one) === runDirOf(app);
  return all.filter(isInstance);
}

/** Whether an app runs one of our two programs, whatever it is called; the module is a manager, too. */
export function isOf(app: Pm2Process, program: 'runner' | 'manager'): boolean {
  if (program === 'manager' && isModule(app)) return true;
  return app.script.endsWith(`/dist/apps/${program}.js`);
}

/** Whether an app is the pm2 module, `pm2 install pm2-envoy`. */
export function isModule({ script }: Pm2Process): boolean {
  return script.endsWith('/dist/apps/module.js');
}

/** The run directory that an app has by its own configuration; undefined where that is wrong. */
export function runDirOf(app: Pm2Process): string | undefined {
  try {
    return findRunDir(appConfig(app).config.runDir);
  } catch {
    return undefined;
  }
}
