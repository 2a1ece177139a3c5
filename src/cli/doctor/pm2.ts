import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MODULE } from '../../config/module-settings.js';
import { messageOf } from '../../errors.js';
import { appConfig } from '../../pm2/app-config.js';
import { LISTEN_TIMEOUT_MS } from '../../pm2/apps.js';
import type { Pm2Process } from '../../pm2/daemon.js';
import { type FoundApp, instancesOf, isModule, runDirOf } from '../../pm2/find-app.js';
import { openModuleState } from '../../pm2/module/state.js';
import { scriptFault } from '../../pm2/script-fault.js';
import { type Finding, ok, problem } from './finding.js';

const AS_THEY_ARE =
  'use the apps of envoyApps() as they are, `pm2 delete` these, and start the ecosystem file again';

/** Looks at the two apps and at pm2's daemon: whether pm2 does with them what a drain and a reload need. */
export function checkPm2(found: FoundApp): Finding[] {
  const { home, process: app, manager, all } = found;
  const findings = [
    ...checkStatus(app),
    ...checkInstances(app, instancesOf(app, all)),
    ...checkSettings(app),
    ...checkManagerApp(found),
    ...[app, manager].flatMap(checkScript),
    ...checkModule(found),
    ...checkKillSignal(home),
  ];
  return findings.length > 0 ? findings : [ok('pm2', describeApps(home, app, manager))];
}

/** Process id of pm2's daemon; 0 where it is not known. */
export function daemonPidOf(home: string): number {
  try {
    return Number(readFileSync(join(home, 'pm2.pid'), 'utf8'));
  } catch {
    return 0;
  }
}

/** An Envoy that does not start is another finding, with the reason. */
function checkStatus({ name, status, pid }: Pm2Process): Finding[] {
  if (status === 'online' && pid === 0) {
    const message = `pm2 shows the app ${name} as online, and it has no process`;
    return [
      problem(
        'pm2',
        message,
        `\`pm2 logs ${name}\` says why it has ended; correct it, and \`pm2 restart ${name}\``,
      ),
    ];
  }
  if (status === 'online' || status === 'launching' || status === 'waiting restart') return [];
  const remedy =
    status === 'errored'
      ? `\`pm2 logs ${name}\` says why; correct it, and \`pm2-envoy redeploy\``
      : '`pm2-envoy redeploy` starts it';
  return [problem('pm2', `the app ${name} is ${status}`, remedy)];
}

/** Each would have an Envoy of its own, and take the other's for one to hand over from. */
function checkInstances({ name }: Pm2Process, instances: readonly Pm2Process[]): Finding[] {
  if (instances.length < 2) return [];
  return [
    problem(
      'pm2',
      `pm2 runs ${instances.length} instances of ${name}: they take over from each other, and a stop of one drains the host`,
      `\`pm2 scale ${name} 1\`, and instances: 1 in the ecosystem file; more threads are Envoy's own \`--concurrency\` (envoy-args)`,
    ),
  ];
}

function checkSettings({ name, settings }: Pm2Process): Finding[] {
  const demands: readonly (readonly [isFine: boolean, message: string])[] = [
    [
      settings.execMode === 'cluster_mode' && settings.waitReady,
      `the app ${name} is not in cluster mode with wait_ready: a reload stops the old Envoy first`,
    ],
    [
      !settings.treekill,
      `treekill is on for ${name}: pm2 signals Envoy itself, which exits immediately`,
    ],
    [!settings.pmx, `pmx is on for ${name}: the runner exits when pm2's daemon does`],
    [
      settings.autorestart,
      `autorestart is off for ${name}: after a crash of Envoy, nothing starts it again`,
    ],
    [
      !settings.stopExitCodes.includes(0),
      `stop_exit_codes of ${name} has 0: pm2 does not restart a runner that was killed`,
    ],
    [
      (settings.listenTimeoutMs ?? 0) >= LISTEN_TIMEOUT_MS,
      `listen_timeout of ${name} is ${settings.listenTimeoutMs ?? 'not set'}: pm2 ends the old Envoy before a slow new one is LIVE`,
    ],
  ];
  return demands
    .filter(([isFine]) => !isFine)
    .map(([, message]) => problem('pm2', message, AS_THEY_ARE));
}

function checkScript(app: Pm2Process | undefined): Finding[] {
  const fault = app && scriptFault(app.name, app.script);
  return fault ? [problem('pm2', fault.message, fault.remedy)] : [];
}

function checkManagerApp({ process: app, manager }: FoundApp): Finding[] {
  const name = manager?.name ?? `${app.name}-manager`;
  if (manager?.status !== 'online') {
    return [
      problem(
        'pm2',
        `the app ${name} is ${manager?.status ?? 'not there'}`,
        manager?.status === 'stopped' ? `\`pm2 restart ${name}\`` : `\`pm2 logs ${name}\` says why`,
      ),
    ];
  }
  const [own, managers] = [runDirOf(app), runDirOf(manager)];
  if (own === undefined || managers === undefined || own === managers) return [];
  return [
    problem(
      'pm2',
      `${app.name} has the run directory ${own}, ${name} ${managers}: the manager does not see this Envoy`,
      `set one run-dir where both apps read it, and \`pm2 restart ${name}\``,
    ),
  ];
}

/** What `pm2 set` has set, and the module has not taken over. */
function checkModule({ home, manager }: FoundApp): Finding[] {
  if (!manager || !isModule(manager)) return [];
  const accepted = openModuleState(home).accepted()?.env[MODULE];
  if (manager.givenEnv[MODULE] === accepted) return [];
  return [
    problem(
      'pm2',
      `what was set last is refused, and Envoy goes on with the settings before: ${refusalOf(manager)}`,
      `\`pm2 set ${MODULE}:KEY VALUE\` with a right one, or \`pm2 unset ${MODULE}:KEY && pm2 restart ${MODULE}\``,
    ),
  ];
}

/** Why the module refuses what it has been set to. */
export function refusalOf(manager: Pm2Process): string {
  try {
    appConfig(manager);
    return `\`pm2 logs ${MODULE}\` says why`;
  } catch (error) {
    return messageOf(error).replaceAll('\n', '; ');
  }
}

function describeApps(home: string, app: Pm2Process, manager: Pm2Process | undefined): string {
  const apps = [app, ...(manager ? [manager] : [])];
  const named = apps.map(({ name, pid, status }) => `${name} (${pid > 0 ? `pid ${pid}` : status})`);
  const verb = apps.every(({ pid }) => pid > 0) ? 'run' : 'are';
  return `${named.join(' and ')} ${verb} in ${home}, with the settings that a drain needs`;
}

function checkKillSignal(home: string): Finding[] {
  const signal = killSignalOf(home);
  if (!signal || signal === 'SIGINT' || signal === 'SIGTERM') return [];
  return [
    problem(
      'pm2',
      `pm2's daemon was started with PM2_KILL_SIGNAL=${signal}, which no app can catch or expects`,
      'unset it, and `pm2 update`',
    ),
  ];
}

/** The signal is the daemon's, for all apps (docs/facts/pm2.md, signals); readable on Linux only. */
function killSignalOf(home: string): string | undefined {
  try {
    const variables = readFileSync(`/proc/${daemonPidOf(home)}/environ`, 'utf8').split('\0');
    return variables.find((one) => one.startsWith('PM2_KILL_SIGNAL='))?.split('=')[1];
  } catch {
    return undefined;
  }
}
