import { basename } from 'node:path';
import { formatDuration } from '../../config/duration.js';
import type { LoadedConfig } from '../../config/load.js';
import { variableOf } from '../../config/schema.js';
import { isPm2EnvoyError } from '../../errors.js';
import { type Finding, problem, warning } from './finding.js';
import { checkPreStop, checkProbes, type Described } from './kubelet.js';
import type { EnvoyPod } from './manifest.js';
import { checkDrainTime, checkGracePeriod } from './timers.js';

/** Loads the configuration that an environment leads to. */
type Load = (env: Readonly<Record<string, string>>) => LoadedConfig;

const CONFIG_FILE = 'PM2_ENVOY_CONFIG';
const PROFILE = 'PM2_ENVOY_PROFILE';
/** A problem with a flag or with the file of --config: how the doctor was called, not the manifest. */
const OF_CALL = /\(from (--|file )|^configuration file /m;
/** Variables that the two times may come from. */
const OF_TIMES = [PROFILE, variableOf('check-delay'), variableOf('drain-timeout')];
/** Programs that certainly do not start it. */
const NO_RUNTIME = ['envoy', 'pm2', 'sleep', 'node'];
const TOKENS = [variableOf('shutdown-token'), variableOf('shutdown-token-file')];

/** Whether the pods of a manifest begin a drain when they are deleted, and have the time to end it. */
export function checkPods(pods: readonly EnvoyPod[], load: Load): Finding[] {
  if (pods.length > 0) return pods.flatMap((pod) => checkPod(pod, load));
  return [
    problem(
      'manifest',
      'no container with pm2-envoy is in it: none has a variable PM2_ENVOY_…, or such an image, or runs or calls pm2-envoy',
      'hand over what is applied, such as the output of `kubectl kustomize` or `helm template`',
    ),
  ];
}

function checkPod(pod: EnvoyPod, load: Load): Finding[] {
  return [...checkCommand(pod), ...checkSettings(pod, load)].map((finding) => ({
    ...finding,
    message: `${pod.where}: ${finding.message}`,
  }));
}

function checkSettings(pod: EnvoyPod, load: Load): Finding[] {
  let loaded: LoadedConfig;
  try {
    loaded = load(environmentOf(pod));
  } catch (error) {
    if (!isPm2EnvoyError(error, 'config-invalid') || OF_CALL.test(error.message)) throw error;
    return error.message.split('\n').map((line) => problem('settings', line, remedyOf(line)));
  }
  const described = describe(pod, loaded);
  return [
    ...checkUnseen(pod, loaded),
    ...checkTimersOf(described),
    ...checkPreStop(described),
    ...checkProbes(described),
    ...checkAddress(described),
  ];
}

/** The profile may be a file of the image's. */
function remedyOf(line: string): string {
  return line.startsWith(`${PROFILE}: `)
    ? 'call the doctor in the folder of the project, which has that file in config/'
    : 'mend it: the container ends at its start';
}

/** The container's own variables, without what is a file in the container, or a secret. */
function environmentOf({ variables }: EnvoyPod): Record<string, string> {
  const env: Record<string, string> = {};
  for (const [name, value] of variables) {
    if (value !== undefined && name !== CONFIG_FILE && !TOKENS.includes(name)) env[name] = value;
  }
  return env;
}

function describe(pod: EnvoyPod, { config, settings }: LoadedConfig): Described {
  const { variables, hasEnvFrom } = pod;
  const isOpen = hasEnvFrom || variables.has(CONFIG_FILE);
  const isDefault = settings['serve-address'].source === 'default';
  const isUnseen = [PROFILE, variableOf('serve-address')].some(
    (name) => variables.has(name) && variables.get(name) === undefined,
  );
  return {
    pod,
    config,
    mayHaveToken: isOpen || TOKENS.some((name) => variables.has(name)),
    mayServeElsewhere: isUnseen || (isDefault && (isOpen || !variables.has(PROFILE))),
  };
}

/** Where the two times may come from without the manifest saying so. */
function checkUnseen(pod: EnvoyPod, { config, settings }: LoadedConfig): Finding[] {
  const { variables, hasEnvFrom } = pod;
  const from = [...variables]
    .filter(([name, value]) => value === undefined && OF_TIMES.includes(name))
    .map(([name]) => name);
  const isFileGiven = Object.values(settings).some(({ source }) => source.startsWith('file '));
  if (variables.has(CONFIG_FILE) && !isFileGiven) from.push('the file of PM2_ENVOY_CONFIG');
  if (hasEnvFrom) from.push('envFrom');
  const isAssumed = [settings['check-delay'], settings['drain-timeout']].some(
    ({ source }) => source === 'default',
  );
  if (!isAssumed || from.length === 0) return [];
  return [
    warning(
      'settings',
      `what ${from.join(', ')} holds is not in the manifest: check-delay ${formatDuration(config.checkDelayMs)} and drain-timeout ${formatDuration(config.drainTimeoutMs)} are assumed`,
      'say both as flags (--check-delay, --drain-timeout), or give a copy of the file by --config',
    ),
  ];
}

/** Both times are written down in a manifest, so a grace period that is too short is a mistake here. */
function checkTimersOf({ pod: { gracePeriodMs }, config }: Described): Finding[] {
  const grace = checkGracePeriod({ config, gracePeriodMs }).map(
    (finding): Finding =>
      finding.level === 'warning' ? { ...finding, level: 'problem' } : finding,
  );
  const drainTime = config.adminAddress ? [] : checkDrainTime(config);
  return [...grace, ...drainTime.filter(({ level }) => level !== 'ok')];
}

function checkAddress({ pod, config: { serveAddress } }: Described): Finding[] {
  if (!pod.isHostNetwork || !['0.0.0.0', '::'].includes(serveAddress)) return [];
  return [
    warning(
      'network',
      `with hostNetwork and serve-address ${serveAddress} whoever reaches the node reaches the manager, and no NetworkPolicy holds`,
      'set serve-address to 127.0.0.1, and host: 127.0.0.1 in the probes',
    ),
  ];
}

function checkCommand({ command }: EnvoyPod): Finding[] {
  const program = programOf(command);
  if (program === 'npx' || program === 'npm') {
    return [
      problem(
        'command',
        `${program} ends at SIGTERM and takes pm2 along: everything is cut`,
        'call pm2-runtime itself, with node_modules/.bin on PATH',
      ),
    ];
  }
  if (command.length === 0 || command.some((word) => word.includes('pm2-runtime'))) return [];
  const make = program && NO_RUNTIME.includes(program) ? problem : warning;
  return [
    make(
      'command',
      `it takes the place of the image’s own, and does not name pm2-runtime: ${command.join(' ')}`,
      'leave command and args out, or have them start pm2-runtime',
    ),
  ];
}

/** What runs in the end, behind a shell and an init. */
function programOf(command: readonly string[]): string | undefined {
  const last = command.join(' ').split(/&&|;/).at(-1) ?? '';
  const isWrapper = (word: string): boolean =>
    /^(-.*|.*=.*|exec|(.*\/)?((ba|da)?sh|tini|dumb-init))$/.test(word);
  const program = last.split(/\s+/).find((word) => word !== '' && !isWrapper(word));
  return program && basename(program);
}
