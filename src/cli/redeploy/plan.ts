import { isUtf8 } from 'node:buffer';
import { existsSync, readFileSync, statSync } from 'node:fs';
import type { Config } from '../../config/config.js';
import type { LoadedConfig } from '../../config/load.js';
import { isKey, variableOf } from '../../config/schema.js';
import { describeHeld } from '../../drain/host-now.js';
import { drainThatHolds } from '../../drain/locate.js';
import { hasGenerationClosed } from '../../drain/witness.js';
import { drainTimeSeconds } from '../../envoy/arguments.js';
import { notAnEnvoy, versionOf } from '../../envoy/bootstrap.js';
import { type HandoverPlan, notRedeployable, planHandover } from '../../envoy/handover.js';
import { checkLaunch, launchOf } from '../../envoy/launch.js';
import { readBootstrap } from '../../envoy/read-bootstrap.js';
import { Pm2EnvoyError } from '../../errors.js';
import {
  bootstrapCopyOf,
  type Generation,
  type GenerationLaunch,
  isAttended,
  openGenerations,
} from '../../host/generations.js';
import { faultOfRoom, findRunDir, prepareRunDir } from '../../host/run-dir.js';
import { silentLog } from '../../log.js';
import { createDrainHost } from '../../plugins/drain-host.js';
import { appConfig } from '../../pm2/app-config.js';
import type { Pm2Process } from '../../pm2/daemon.js';
import { type FoundApp, findApp, instancesOf } from '../../pm2/find-app.js';
import { scriptFault } from '../../pm2/script-fault.js';
import { outlookOf } from '../../steering/prepare.js';
import { unsteeredWarning } from '../../steering/steering.js';

/** How long an Envoy may take to say whether its listeners are closed. */
const ANSWER_LIMIT_MS = 1_000;

/** What a redeploy is going to do, once everything in it has been checked. */
export interface RedeployPlan {
  app: FoundApp;
  /** The app's configuration with the changes. */
  config: Config;
  /** The generation in service; undefined: none, so the reload is a start. */
  from: Generation | undefined;
  /** Why `from` serves nothing new, as in `the host is …`. */
  outOfService: string | undefined;
  /** Version of the Envoy that is to run. */
  version: string;
  changes: Changes;
  /** What clients will see of it; undefined: it is a start. */
  handover: HandoverPlan | undefined;
  /** What clients will see of the hand-over, where it is not lossless. */
  warnings: readonly string[];
  /** Variables that are set in the app. */
  env: Readonly<Record<string, string>>;
}

/** What the new generation has that the old one has not; undefined: nothing, or it can't be told. */
export interface Changes {
  /** `1.39.3 (/opt/envoy)` and what comes in its place. */
  envoy?: { from: string; to: string };
  /** A unified diff of the bootstrap; of a binary one that it is another. */
  bootstrap?: string;
  /** Addresses that nothing listens on any more. */
  removed?: readonly string[];
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
      `admin-address ${settings['admin-address'].value} belongs to an Envoy that pm2-envoy did not start: there is nothing to redeploy`,
    );
  }
  const app = await findApp(loaded);
  refuseInstances(app);
  refuseSecondReload(app);
  return app;
}

/** Each has an Envoy of its own, and one of them goes on beside the other's next one. */
function refuseInstances({ process: app, all }: FoundApp): void {
  const running = instancesOf(app, all).filter(({ pid }) => pid !== 0);
  if (running.length < 2) return;
  throw new Pm2EnvoyError(
    'redeploy-failed',
    `pm2 runs ${running.length} instances of ${app.name}, and Envoy can have one: \`pm2 scale ${app.name} 1\`, then redeploy`,
  );
}

/**
 * During a reload pm2 lists the new instance only, while the old one is still responsible for its
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
 * @param env variables to set in the app
 * @param isForced go on where Envoy could not check the bootstrap, or the app is of another version
 * @throws Pm2EnvoyError `redeploy-failed` for an app whose files are gone or another version's; as the
 *   runner itself would end with: `config-invalid`, `envoy-not-found`, `bootstrap-invalid`, `plugin-invalid`,
 *   `run-dir-unusable`, `listener-not-redeployable`
 */
export async function planRedeploy(
  app: FoundApp,
  env: Readonly<Record<string, string>>,
  isForced = false,
): Promise<RedeployPlan> {
  refuseOtherScript(app.process, isForced);
  const { cwd } = app.process;
  const appEnv = { ...app.process.env, ...env };
  const { config, settings } = appConfig(app.process, env);
  refuseOutranked(settings, env);
  await createDrainHost(config, silentLog, appEnv);
  const runDir = findRunDir(config.runDir);
  if (!existsSync(runDir)) prepareRunDir(config.runDir);
  const roomFault = faultOfRoom(
    runDir,
    statSync(config.envoyConfig, { throwIfNoEntry: false })?.size,
  );
  if (roomFault) throw noRoom(runDir, roomFault);
  const newest = openGenerations(runDir).newest();
  const servingPid = newest?.envoy.pid;
  const { binary, check } = await checkLaunch(config, runDir, { env: appEnv, cwd, servingPid });
  if (check.kind === 'unchecked' && !isForced) throw uncheckedBootstrap(check.reason);
  const version = await versionOf(binary);
  // Something that takes every bootstrap, such as /bin/true.
  if (version === undefined) throw notAnEnvoy(binary);
  const from = newest?.ready ? newest : undefined;
  const facts = await readBootstrap(binary, {
    bootstrap: config.envoyConfig,
    args: config.envoyArgs,
    cwd,
  }).catch(() => undefined);
  const handover = from && (await planHandover(from, facts?.listeners));
  if (handover?.obstacles[0]) throw notRedeployable(handover.obstacles);
  const changes = from ? await changesFrom(from, launchOf(binary, config), version) : {};
  if (handover?.removed[0]) changes.removed = handover.removed;
  const warnings = from ? await warningsOf(config.envoyConfig, binary) : [];
  const outOfService = from && (await whyOutOfService(from, runDir));
  return {
    app: { ...app, runDir },
    config,
    from,
    outOfService,
    version,
    changes,
    handover,
    warnings,
    env,
  };
}

/** Its drain says more than Envoy, which shows that also where there is no record. */
async function whyOutOfService(
  generation: Generation,
  runDir: string,
): Promise<string | undefined> {
  const drain = drainThatHolds(runDir);
  if (drain) return describeHeld(drain);
  const signal = AbortSignal.timeout(ANSWER_LIMIT_MS);
  const isClosed = await hasGenerationClosed(generation, { signal });
  return isClosed ? 'out of service: its listeners are closed' : undefined;
}

function noRoom(runDir: string, fault: string): Pm2EnvoyError {
  return new Pm2EnvoyError(
    'redeploy-failed',
    `the run directory ${runDir} can't take a new generation (${fault}): make room there, or make it writable`,
  );
}

function uncheckedBootstrap(reason: string): Pm2EnvoyError {
  return new Pm2EnvoyError(
    'redeploy-failed',
    `${reason}. A reload needs that much for the time of the hand-over; with --force it continues, and if memory runs out, the kernel kills the new Envoy first`,
  );
}

/** The new runner could not be loaded, or would be one that this command knows nothing of. */
function refuseOtherScript({ name, script }: Pm2Process, isForced: boolean): void {
  const fault = scriptFault(name, script);
  if (!fault || (isForced && !fault.isGone)) return;
  throw new Pm2EnvoyError('redeploy-failed', `${fault.message}: ${fault.remedy}`);
}

async function warningsOf(bootstrap: string, binary: string): Promise<string[]> {
  const outlook = await outlookOf(bootstrap, binary);
  if (outlook.kind !== 'unsteered') return [];
  const { listeners, reason, remedy } = outlook;
  return [`${unsteeredWarning(listeners, reason)}: ${remedy}`];
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
      `--${key} would change nothing: the app has its own argument --${key}, which takes precedence; change it in the ecosystem file`,
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
  const read = (path: string): Buffer | undefined => {
    try {
      return readFileSync(path);
    } catch {
      return undefined;
    }
  };
  const [before, after] = [read(bootstrapCopyOf(from)), read(newName)];
  if (before === undefined || after === undefined || before.equals(after)) return undefined;
  if (!isText(before) || !isText(after)) {
    return `${newName}: binary, ${before.length} bytes before, ${after.length} bytes now`;
  }
  const { createTwoFilesPatch } = await import('diff');
  const label = (name: string, which: string): string => `${name} (${which})`;
  return createTwoFilesPatch(
    label(oldName, `generation ${from.number}`),
    label(newName, 'now'),
    before.toString(),
    after.toString(),
    undefined,
    undefined,
    { context: 2 },
  ).replace(/^=+\n/, '');
}

/** Protobuf's wire format may be UTF-8, but is full of characters that a terminal obeys. */
function isText(content: Buffer): boolean {
  return isUtf8(content) && !content.some((byte) => byte < 0x09 || (byte > 0x0d && byte < 0x20));
}
