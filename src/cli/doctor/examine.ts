import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Config } from '../../config/config.js';
import type { LoadedConfig } from '../../config/load.js';
import { versionOf } from '../../envoy/bootstrap.js';
import { checkLaunch } from '../../envoy/launch.js';
import { isPm2EnvoyError, messageOf, systemCodeOf } from '../../errors.js';
import { migratesAcceptQueues } from '../../host/accept-queue.js';
import { findRunDir } from '../../host/run-dir.js';
import { silentLog } from '../../log.js';
import { createDrainHost } from '../../plugins/drain-host.js';
import { appConfig } from '../../pm2/app-config.js';
import { LISTEN_TIMEOUT_MS } from '../../pm2/apps.js';
import type { Pm2Process } from '../../pm2/daemon.js';
import { type FoundApp, findApp } from '../../pm2/find-app.js';
import { createManagerClient } from '../../status/manager-client.js';
import { checkEnvoys } from './envoys.js';
import { type Finding, ok, problem, warning } from './finding.js';
import { checkTimers } from './timers.js';
import { checkUnit, findUnit } from './unit.js';

/** pm2's own default, which also stands for 0. */
const PM2_KILL_TIMEOUT_MS = 1_600;

/**
 * Looks at everything that a drain and a redeploy depend on. Nothing is changed, and nothing is
 * thrown: what can't be looked at is a finding too.
 *
 * @param gracePeriodMs what Kubernetes, Docker or systemd allow, if the caller knows
 */
export async function examine(
  loaded: LoadedConfig,
  gracePeriodMs: number | undefined,
): Promise<Finding[]> {
  const app = await findApp(loaded).catch((error: unknown) => error);
  const isFound = (value: unknown): value is FoundApp => !(value instanceof Error);
  const found = isFound(app) ? app : undefined;
  const { config, findings } = await configOf(found, loaded);
  const killTimeoutMs = found && (found.process.settings.killTimeoutMs || PM2_KILL_TIMEOUT_MS);
  const unit = found && (await findUnit(daemonPidOf(found.home)));
  return [
    ...(found ? checkPm2(found) : [notUnderPm2(app, loaded.config)]),
    ...findings,
    ...checkTimers({ config, killTimeoutMs, gracePeriodMs }),
    ...(unit && killTimeoutMs ? checkUnit(unit, killTimeoutMs) : []),
    ...(await checkEnvoys(findRunDir(config.runDir), config)),
    ...(await checkManager(config)),
    checkAcceptQueue(),
  ];
}

/** The app's own configuration where there is an app: the shell's may be another one. */
async function configOf(
  app: FoundApp | undefined,
  loaded: LoadedConfig,
): Promise<{ config: Config; findings: Finding[] }> {
  if (loaded.config.adminAddress) return { config: loaded.config, findings: [] };
  let { config } = loaded;
  try {
    if (app) config = appConfig(app.process).config;
    const from = app && { env: { ...app.process.env }, cwd: app.process.cwd };
    await createDrainHost(config, silentLog, from?.env);
    const runDir = findRunDir(config.runDir);
    const binary = await checkLaunch(config, existsSync(runDir) ? runDir : tmpdir(), from);
    const version = await versionOf(binary);
    const message = `valid, and Envoy ${version} (${binary}) takes ${config.envoyConfig}`;
    return { config, findings: [ok('configuration', message)] };
  } catch (error) {
    const remedy = 'mend it before the next start, reload or restart';
    return { config, findings: [problem('configuration', messageOf(error), remedy)] };
  }
}

function notUnderPm2(error: unknown, { adminAddress }: Config): Finding {
  return adminAddress
    ? ok('pm2', 'Envoy is somebody else’s (admin-address): pm2 runs only the manager')
    : problem(
        'pm2',
        messageOf(error),
        'start it, or call the doctor with its PM2_HOME and run-dir',
      );
}

function checkPm2({ home, process: app, all }: FoundApp): Finding[] {
  const findings: Finding[] = [];
  const { settings } = app;
  const demand = (isFine: boolean, message: string, remedy: string): void => {
    if (!isFine) findings.push(problem('pm2', message, remedy));
  };
  const anew = 'use the apps of envoyApps() as they are, and start the ecosystem file anew';
  demand(
    app.status === 'online',
    `the app ${app.name} is ${app.status}`,
    `\`pm2 logs ${app.name}\` says why; mend it and \`pm2 restart ${app.name}\``,
  );
  demand(
    settings.execMode === 'cluster_mode' && settings.waitReady,
    `the app ${app.name} is not in cluster mode with wait_ready: a reload stops the old Envoy first`,
    anew,
  );
  demand(
    !settings.treekill,
    `treekill is on for ${app.name}: pm2 signals Envoy itself, which ends at once`,
    anew,
  );
  demand(!settings.pmx, `pmx is on for ${app.name}: the runner ends when pm2's daemon does`, anew);
  demand(
    !settings.stopExitCodes.includes(0),
    `stop_exit_codes of ${app.name} has 0: pm2 does not restart a runner that was killed`,
    anew,
  );
  demand(
    (settings.listenTimeoutMs ?? 0) >= LISTEN_TIMEOUT_MS,
    `listen_timeout of ${app.name} is ${settings.listenTimeoutMs ?? 'not set'}: pm2 ends the old Envoy before a slow new one is LIVE`,
    anew,
  );
  const manager = all.find(({ name }) => name === 'envoy-manager');
  demand(
    manager?.status === 'online',
    `the app envoy-manager is ${manager?.status ?? 'not there'}`,
    '`pm2 logs envoy-manager` says why',
  );
  const signal = killSignalOf(home);
  if (signal && signal !== 'SIGINT' && signal !== 'SIGTERM') {
    findings.push(
      problem(
        'pm2',
        `pm2's daemon was started with PM2_KILL_SIGNAL=${signal}, which no app can catch or expects`,
        'unset it, and `pm2 update`',
      ),
    );
  }
  return findings.length > 0 ? findings : [ok('pm2', describeApps(home, app, manager))];
}

function describeApps(home: string, app: Pm2Process, manager: Pm2Process | undefined): string {
  return `${app.name} (pid ${app.pid}) and ${manager?.name} (pid ${manager?.pid}) are online in ${home}, with the settings that a drain needs`;
}

/** The signal is the daemon's, for all apps (pm2-facts.md, signals); readable on Linux only. */
function killSignalOf(home: string): string | undefined {
  try {
    const variables = readFileSync(`/proc/${daemonPidOf(home)}/environ`, 'utf8').split('\0');
    return variables.find((one) => one.startsWith('PM2_KILL_SIGNAL='))?.split('=')[1];
  } catch {
    return undefined;
  }
}

function daemonPidOf(home: string): number {
  try {
    return Number(readFileSync(join(home, 'pm2.pid'), 'utf8'));
  } catch {
    return 0;
  }
}

async function checkManager(config: Config): Promise<Finding[]> {
  const manager = createManagerClient(config, findRunDir(config.runDir));
  try {
    await manager.status();
    return [ok('manager', `answers at ${manager.url}`)];
  } catch (error) {
    const remedy = isPm2EnvoyError(error, 'manager-refused')
      ? 'set the shutdown token here as the manager has it'
      : 'start it, or set serve-address and serve-port as the manager has them';
    return [problem('manager', messageOf(error), remedy)];
  }
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
  try {
    accessSync('/proc/sys/net/ipv4/tcp_migrate_req', constants.W_OK);
  } catch (error) {
    if (systemCodeOf(error) === 'EROFS') {
      return 'give it to the container: docker run --sysctl net.ipv4.tcp_migrate_req=1, or sysctls of the pod’s securityContext';
    }
  }
  return 'as root: sysctl -w net.ipv4.tcp_migrate_req=1, and a file in /etc/sysctl.d to keep it';
}
