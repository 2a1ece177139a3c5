import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../../config/config.js';
import type { LoadedConfig } from '../../config/load.js';
import { MODULE, moduleSourceOf } from '../../config/module-settings.js';
import { messageOf } from '../../errors.js';
import { readFailedStart } from '../../host/failed-start.js';
import { generationFolders } from '../../host/generations.js';
import { findRunDir } from '../../host/run-dir.js';
import { appConfig } from '../../pm2/app-config.js';
import { openPm2Daemon, type Pm2Process } from '../../pm2/daemon.js';
import { isModule } from '../../pm2/find-app.js';
import { pm2Home } from '../../pm2/supervisor.js';
import { type Finding, ok, problem, warning } from './finding.js';
import { refusalOf } from './pm2.js';

/** What is said where pm2 has no app that runs Envoy. */
export interface Absent {
  findings: Finding[];
  /** Nothing has been started yet: what is not there is no fault. */
  isNew: boolean;
  /** Which bootstrap it will be, this shell does not know. */
  isBootstrapUnknown: boolean;
}

/**
 * Why pm2 has no app that runs Envoy, and what starts one.
 *
 * @param error what the search for the app ended with
 */
export async function checkAbsent(error: unknown, loaded: LoadedConfig): Promise<Absent> {
  const { config } = loaded;
  if (config.adminAddress) {
    const message = 'pm2-envoy did not start this Envoy (admin-address): pm2 runs only the manager';
    return { findings: [ok('pm2', message)], isNew: false, isBootstrapUnknown: false };
  }
  const home = pm2Home();
  const apps = await openPm2Daemon(home)
    .processes()
    .catch(() => undefined);
  const module = apps?.find(isModule);
  const isNew = isUnused(config) && (apps !== undefined || !existsSync(join(home, 'rpc.sock')));
  if (module) return { findings: [checkModule(module, home)], isNew, isBootstrapUnknown: isNew };
  if (!isNew) {
    const remedy =
      '`pm2 start ecosystem.config.js`, or run the doctor with its PM2_HOME and run-dir';
    const findings = [problem('pm2', messageOf(error), remedy)];
    return { findings, isNew, isBootstrapUnknown: false };
  }
  const pm2 = apps ? `pm2 in ${home} runs no Envoy` : `no pm2 runs in ${home}`;
  const started = problem(
    'pm2',
    `nothing has been started yet: ${pm2}, and no Envoy has run in ${findRunDir(config.runDir)}`,
    '`pm2 start ecosystem.config.js` starts it (`pm2-envoy init` prints such a file); if it runs elsewhere, run the doctor with its PM2_HOME and run-dir',
  );
  const unset = checkUnset(loaded);
  return { findings: [started, ...unset], isNew, isBootstrapUnknown: unset.length > 0 };
}

function isUnused({ runDir: configured }: Config): boolean {
  const runDir = findRunDir(configured);
  return generationFolders(runDir).length === 0 && readFailedStart(runDir) === undefined;
}

function checkModule(module: Pm2Process, home: string): Finding {
  const { status } = module;
  if (status === 'online') {
    const message = `the module ${MODULE} runs in ${home}, and this pm2 has no app that runs Envoy`;
    return problem('pm2', message, `\`pm2 restart ${MODULE}\` starts it`);
  }
  const none = `the module ${MODULE} in ${home} has started no Envoy yet`;
  const set = `\`${moduleSourceOf('envoy-config')} /path/to/envoy.yaml\``;
  return isUnsetIn(module)
    ? problem(
        'pm2',
        `${none}: it does not know Envoy's bootstrap`,
        `${set} names it, and starts it`,
      )
    : problem(
        'pm2',
        `${none}: ${refusalOf(module)}`,
        `\`pm2 set ${MODULE}:KEY VALUE\` corrects a setting, and starts it`,
      );
}

function isUnsetIn(module: Pm2Process): boolean {
  try {
    return appConfig(module).settings['envoy-config'].source === 'default';
  } catch {
    return false;
  }
}

/** The settings of an ecosystem file are known only once it has been started. */
function checkUnset({ config, settings }: LoadedConfig): Finding[] {
  if (settings['envoy-config'].source !== 'default' || existsSync(config.envoyConfig)) return [];
  return [
    warning(
      'configuration',
      `this shell sets no envoy-config, and there is no ${config.envoyConfig}, which is the default`,
      'create that file, or set envoy-config in the ecosystem file, before the first start',
    ),
  ];
}
