import { accessSync, constants, existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import type { Config } from '../../config/config.js';
import type { LoadedConfig } from '../../config/load.js';
import { findEnvoy } from '../../envoy/binary.js';
import { notAnEnvoy, versionOf } from '../../envoy/bootstrap.js';
import { checkLaunch, checkReadable } from '../../envoy/launch.js';
import { isPm2EnvoyError, messageOf, systemCodeOf } from '../../errors.js';
import { migratesAcceptQueues } from '../../host/accept-queue.js';
import { readEndpoint } from '../../host/endpoint.js';
import { openGenerations } from '../../host/generations.js';
import { conditionOf } from '../../host/process-identity.js';
import { faultOfRoom, findRunDir, pathFault } from '../../host/run-dir.js';
import { silentLog } from '../../log.js';
import { createDrainHost } from '../../plugins/drain-host.js';
import { appConfig } from '../../pm2/app-config.js';
import { type FoundApp, findApp } from '../../pm2/find-app.js';
import { findForeign } from '../../pm2/foreign.js';
import { PM2_KILL_TIMEOUT_MS } from '../../pm2/hold-stop.js';
import { pm2Home } from '../../pm2/supervisor.js';
import { createManagerClient, isAnotherHosts } from '../../status/manager-client.js';
import { outlookOf } from '../../steering/prepare.js';
import { unsteeredWarning } from '../../steering/steering.js';
import { checkAbsent } from './absent.js';
import { checkEnvoys } from './envoys.js';
import { type Finding, ok, problem, warning } from './finding.js';
import { checkNeighbours } from './neighbours.js';
import { checkPm2, daemonPidOf } from './pm2.js';
import { checkTimers } from './timers.js';
import { checkUnit, findUnit } from './unit.js';

/**
 * Looks at everything that a drain and a redeploy depend on. Nothing is changed, and nothing is
 * thrown: what can't be inspected is a finding too.
 *
 * @param options `gracePeriodMs`: what Kubernetes, Docker or systemd allow, if the caller knows; `validate`: have
 *   Envoy itself check the bootstrap
 */
export async function examine(
  loaded: LoadedConfig,
  options: { gracePeriodMs?: number | undefined; validate?: boolean } = {},
): Promise<Finding[]> {
  const { gracePeriodMs } = options;
  const app = await findApp(loaded).catch((error: unknown) => error);
  const isFound = (value: unknown): value is FoundApp => !(value instanceof Error);
  const found = isFound(app) ? app : undefined;
  const absent = found ? undefined : await checkAbsent(app, loaded);
  const foreign = await findForeign(loaded.config);
  const { config, findings } = absent?.isBootstrapUnknown
    ? { config: loaded.config, findings: [] }
    : await configOf(found, loaded, options.validate === true);
  const killTimeoutMs = found && (found.process.settings.killTimeoutMs || PM2_KILL_TIMEOUT_MS);
  const unit = found && (await findUnit(daemonPidOf(found.home)));
  return [
    ...(foreign ? [problem('pm2', foreign.message, foreign.remedy)] : []),
    ...(found ? [...checkPm2(found), ...checkNeighbours(found, config)] : []),
    ...(absent?.findings ?? []),
    ...findings,
    ...checkRunDir(findRunDir(config.runDir)),
    ...checkTimers({
      config,
      killTimeoutMs,
      gracePeriodMs: gracePeriodMs ?? config.gracePeriodMs,
    }),
    ...(unit && killTimeoutMs ? checkUnit(unit, killTimeoutMs) : []),
    ...(await checkEnvoys(findRunDir(config.runDir), {
      config,
      app: found?.process,
      home: found?.home ?? pm2Home(),
    })),
    ...(await checkManager(config, absent?.isNew === true)),
    checkAcceptQueue(),
  ];
}

/** The app's own configuration where there is an app: the shell's may be another one. */
async function configOf(
  app: FoundApp | undefined,
  loaded: LoadedConfig,
  isAsked: boolean,
): Promise<{ config: Config; findings: Finding[] }> {
  if (loaded.config.adminAddress) return { config: loaded.config, findings: [] };
  let { config } = loaded;
  try {
    if (app) config = appConfig(app.process).config;
    const from = app && { env: { ...app.process.env }, cwd: app.process.cwd };
    await createDrainHost(config, silentLog, from?.env);
    const runDir = findRunDir(config.runDir);
    const { path } = findEnvoy(config.envoyBin, from?.env);
    const findings = [
      await checkBootstrap(config, runDir, { ...from, isAsked }),
      ...(await checkUdp(config.envoyConfig, path)),
    ];
    return { config, findings };
  } catch (error) {
    const remedy = 'correct it before the next start, reload or restart';
    return { config, findings: [problem('configuration', messageOf(error), remedy)] };
  }
}

/** Envoy's own check takes as much memory as an Envoy, next to the one that serves: only on request. */
async function checkBootstrap(
  config: Config,
  runDir: string,
  { isAsked, ...from }: { env?: NodeJS.ProcessEnv; cwd?: string; isAsked: boolean },
): Promise<Finding> {
  if (!isAsked) {
    const { path } = findEnvoy(config.envoyBin, from.env);
    const version = await versionOf(path);
    if (version === undefined) throw notAnEnvoy(path);
    checkReadable(config.envoyConfig, from.cwd);
    const message = `valid; Envoy ${version} (${path}) was not asked to check ${config.envoyConfig}: --validate asks it`;
    return ok('configuration', message);
  }
  const servingPid = openGenerations(runDir).newest()?.envoy.pid;
  const scratch = existsSync(runDir) ? runDir : tmpdir();
  const { binary, check } = await checkLaunch(config, scratch, { ...from, servingPid });
  if (check.kind === 'unchecked') {
    return warning(
      'configuration',
      check.reason,
      'raise the limit, or check it elsewhere with the same Envoy',
    );
  }
  const version = await versionOf(binary);
  return ok('configuration', `valid, and Envoy ${version} (${binary}) takes ${config.envoyConfig}`);
}

function checkRunDir(runDir: string): Finding[] {
  const fault = pathFault(runDir);
  if (fault) {
    return [
      problem('run-dir', `${runDir}: ${fault}`, 'set run-dir to a folder with a shorter path'),
    ];
  }
  const roomFault = existsSync(runDir) ? faultOfRoom(runDir) : undefined;
  // What another user may write is not asked here.
  if (!roomFault || !/^(ENOSPC|EDQUOT|EROFS)/.test(roomFault)) return [];
  const remedy = 'make room there, or make it writable: no reload or restart works without';
  return [problem('run-dir', `${runDir} can't take a new generation (${roomFault})`, remedy)];
}

/** Nothing is said of a bootstrap without UDP. */
async function checkUdp(bootstrap: string, binary: string): Promise<Finding[]> {
  const outlook = await outlookOf(bootstrap, binary);
  switch (outlook.kind) {
    case 'no-udp':
      return [];
    case 'steered':
      return [ok('udp', 'HTTP/3 and UDP are handed over with nothing lost: packets are steered')];
    case 'unsteered':
      return [warning('udp', unsteeredWarning(outlook.listeners, outlook.reason), outlook.remedy)];
  }
}

/** @param isNew nothing has been started yet, so there is none */
async function checkManager(config: Config, isNew: boolean): Promise<Finding[]> {
  const runDir = findRunDir(config.runDir);
  const manager = createManagerClient(config, runDir);
  try {
    await manager.status();
    return [ok('manager', `answers at ${manager.url}`)];
  } catch (error) {
    if (isNew && isPm2EnvoyError(error, 'manager-unreachable')) return [];
    return [problem('manager', messageOf(error), remedyForManager(error, runDir))];
  }
}

function remedyForManager(error: unknown, runDir: string): string {
  if (isPm2EnvoyError(error, 'manager-refused')) {
    return 'set the same shutdown token here as in the manager';
  }
  const running = readEndpoint(runDir)?.process;
  if (running && conditionOf(running) === 'stopped') {
    return `\`kill -CONT ${running.pid}\` lets it go on`;
  }
  return isAnotherHosts(error)
    ? 'set another serve-port in this project’s settings, then `pm2 restart` its manager'
    : 'start it, or set the same serve-address and serve-port as in the manager';
}

function checkAcceptQueue(): Finding {
  const migrates = migratesAcceptQueues();
  if (migrates === true) return ok('kernel', 'net.ipv4.tcp_migrate_req is 1');
  return warning(
    'kernel',
    migrates === false
      ? 'net.ipv4.tcp_migrate_req is 0: a reload may reset about one new connection in ten thousand'
      : 'this kernel has no net.ipv4.tcp_migrate_req: a reload may reset about one new connection in ten thousand',
    migrates === false ? remedyForAcceptQueue() : 'use Linux 5.14 or later',
  );
}

/** In a container not even root may write it. */
function remedyForAcceptQueue(): string {
  if (process.env['KUBERNETES_SERVICE_HOST'] !== undefined) {
    return 'set it in the pod’s securityContext.sysctls, and let the kubelet allow it, because it is not a safe sysctl (--allowed-unsafe-sysctls=net.ipv4.tcp_migrate_req)';
  }
  try {
    accessSync('/proc/sys/net/ipv4/tcp_migrate_req', constants.W_OK);
  } catch (error) {
    if (systemCodeOf(error) === 'EROFS') {
      return 'give it to the container: docker run --sysctl net.ipv4.tcp_migrate_req=1';
    }
  }
  return 'as root: sysctl -w net.ipv4.tcp_migrate_req=1, and a file in /etc/sysctl.d to keep it';
}
