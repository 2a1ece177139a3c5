import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, systemClock, until } from '../../clock.js';
import type { Config } from '../../config/config.js';
import { killTimeoutMs } from '../../config/grace-period.js';
import { messageOf } from '../../errors.js';
import { writeJson } from '../../host/files.js';
import { openGenerations } from '../../host/generations.js';
import { findRunDir } from '../../host/run-dir.js';
import type { Log } from '../../log.js';
import { appConfig } from '../app-config.js';
import { envoyApps, LISTEN_TIMEOUT_MS } from '../apps.js';
import type { Pm2Daemon, Pm2Process } from '../daemon.js';
import type { Pm2Command } from './command.js';
import { pruneReleases, type Release, RUNNER_SCRIPT } from './release.js';
import type { ModuleState } from './state.js';

/** Name of the app that the module runs. */
export const ENVOY_APP = 'envoy';
/** Tells what an app was started with: release, settings and binary. */
export const RUNS_VARIABLE = 'PM2_ENVOY_RUNS';

/** What `envoy` is to be started with. */
export interface Wanted {
  config: Config;
  env: Readonly<Record<string, string>>;
  release: Release;
  /** {@link RUNS_VARIABLE} */
  runs: string;
}

/** What is done about the app `envoy`. */
export type Step =
  | { kind: 'start' | 'reload' | 'none' }
  | { kind: 'leave'; reason: string; isFault: boolean };

/** `pm2 resurrect` starts the daemon, which starts the modules, and then what was saved. */
const RESURRECT_LIMIT_MS = 5_000;
const LOCK_LIMIT_MS = 60_000;
const LOOK_MS = 250;

/** Brings the app `envoy` to what is wanted: starts it, reloads it, or leaves it as it is. Never rejects. */
export async function keepEnvoy(
  wanted: Wanted,
  at: { state: ModuleState; home: string; daemon: Pm2Daemon; command: Pm2Command; log: Log },
  clock: Clock = systemClock,
): Promise<void> {
  const { daemon, log, state, command } = at;
  try {
    const app = await findOwn(at, clock);
    const step = stepFor(app, wanted, state.folder);
    if (step.kind === 'leave') log[step.isFault ? 'error' : 'info'](step.reason);
    if (step.kind === 'none' || step.kind === 'leave') return;
    wanted.release.use();
    writeEcosystem(wanted, state);
    log.info(app ? `${ENVOY_APP}: other settings or another release` : `${ENVOY_APP} is started`);
    if (step.kind === 'reload' && app) {
      await untilFree(app, wanted.config, clock);
      await whenUnlocked(() => command('reload', state.ecosystem), clock);
    } else await command('start', state.ecosystem);
    sayHowItWent(await daemon.processes(), wanted, log);
    if (liveIn(wanted.config) <= 1) pruneReleases(state);
  } catch (error) {
    log.error(`${ENVOY_APP}: ${messageOf(error)}; the Envoy in service keeps serving`);
  }
}

/** What is to be done about an app as pm2 has it. Pure. */
export function stepFor(
  app: Pick<Pm2Process, 'cwd' | 'script' | 'status' | 'env'> | undefined,
  wanted: Pick<Wanted, 'config' | 'runs'>,
  folder: string,
): Step {
  const { adminAddress } = wanted.config;
  if (!app) return { kind: adminAddress ? 'none' : 'start' };
  const leave = (reason: string, isFault: boolean): Step => ({ kind: 'leave', reason, isFault });
  if (app.cwd !== folder) {
    return leave(
      `this pm2 has an app ${ENVOY_APP} of its own (${app.script}), which the module leaves alone: \`pm2 delete ${ENVOY_APP}\` drains it, and \`pm2 restart pm2-envoy\` then starts the module's`,
      true,
    );
  }
  if (adminAddress) {
    return leave(
      `with admin-address Envoy is not the module's: \`pm2 delete ${ENVOY_APP}\` drains the one that it has started`,
      true,
    );
  }
  if (app.status === 'stopped') {
    return leave(
      `${ENVOY_APP} was stopped and stays so: \`pm2 start ${ENVOY_APP} && pm2 restart pm2-envoy\` brings it back`,
      false,
    );
  }
  const isUp = app.status === 'online' || app.status === 'launching';
  if (!isUp) return { kind: 'start' };
  return { kind: app.env[RUNS_VARIABLE] === wanted.runs ? 'none' : 'reload' };
}

async function findOwn(
  { daemon, home }: { daemon: Pm2Daemon; home: string },
  clock: Clock,
): Promise<Pm2Process | undefined> {
  const find = async (): Promise<Pm2Process | undefined> =>
    (await daemon.processes()).find(({ name }) => name === ENVOY_APP);
  const found = await find();
  if (found || !isSaved(home)) return found;
  return until(find, { everyMs: LOOK_MS, limitMs: RESURRECT_LIMIT_MS }, clock);
}

/** Whether `pm2 resurrect` brings the app back. */
function isSaved(home: string): boolean {
  try {
    const saved: { name?: unknown }[] = JSON.parse(readFileSync(join(home, 'dump.pm2'), 'utf8'));
    return saved.some(({ name }) => name === ENVOY_APP);
  } catch {
    return false;
  }
}

function writeEcosystem({ env, runs }: Wanted, state: ModuleState): void {
  const [app] = envoyApps({ cwd: state.folder, env });
  const own = {
    ...app,
    script: RUNNER_SCRIPT,
    env: { ...env, ...app?.env, [RUNS_VARIABLE]: runs },
  };
  writeJson(state.ecosystem, { apps: [own] });
}

/** pm2 takes a second reload in the middle of a first one, and loses count of the instances. */
async function untilFree(
  app: Pm2Process,
  { drainTimeoutMs, gracePeriodMs }: Config,
  clock: Clock,
): Promise<void> {
  const runDir = findRunDir(appConfig(app).config.runDir);
  const limitMs = LISTEN_TIMEOUT_MS + killTimeoutMs({ drainTimeoutMs, gracePeriodMs });
  const isFree = (): true | undefined =>
    openGenerations(runDir).live().length <= 1 ? true : undefined;
  await until(isFree, { everyMs: LOOK_MS, limitMs }, clock);
}

async function whenUnlocked(reload: () => Promise<void>, clock: Clock): Promise<void> {
  const endMs = clock.nowMs() + LOCK_LIMIT_MS;
  for (;;) {
    try {
      return await reload();
    } catch (error) {
      const isLocked = /already in progress|already (exists|started|online)/.test(messageOf(error));
      if (!isLocked || clock.nowMs() > endMs) throw error;
      await clock.sleep(LOOK_MS * 4);
    }
  }
}

function sayHowItWent(apps: readonly Pm2Process[], { config }: Wanted, log: Log): void {
  const serving = openGenerations(findRunDir(config.runDir)).newest();
  const app = apps.find(({ name }) => name === ENVOY_APP);
  if (serving?.failedReload) {
    log.error(`${ENVOY_APP} goes on as it was: ${serving.failedReload.reason}`);
  } else if (serving?.ready) {
    log.info(`${ENVOY_APP} runs (generation ${serving.number})`);
  } else
    log.error(`${ENVOY_APP} is ${app?.status ?? 'not there'}: \`pm2 logs ${ENVOY_APP}\` says why`);
}

function liveIn({ runDir }: Config): number {
  return openGenerations(findRunDir(runDir)).live().length;
}
