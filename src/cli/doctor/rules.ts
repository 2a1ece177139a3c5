import { basename } from 'node:path';
import type { Config } from '../../config/config.js';
import { formatDuration } from '../../config/duration.js';
import type { LoadedConfig } from '../../config/load.js';
import { variableOf } from '../../config/schema.js';
import { describeTimeline, timelineOf } from '../../config/timeline.js';
import { isPm2EnvoyError } from '../../errors.js';
import { runsScript, type StoppedContainer } from './container.js';
import { checkFiles } from './file-rules.js';
import { type Finding, problem, warning } from './finding.js';
import { hookOf } from './hook.js';
import { checkPreStop, checkProbes, type Described } from './probe-rules.js';
import { checkDrainTime, checkGracePeriod } from './timers.js';

/** Loads the configuration that an environment leads to. */
type Load = (env: Readonly<Record<string, string>>) => LoadedConfig;

const CONFIG_FILE = 'PM2_ENVOY_CONFIG';
const PROFILE = 'PM2_ENVOY_PROFILE';
/** A problem with a flag or with the file of --config: how the doctor was called, not the manifest. */
const OF_CALL = /\(from (--|file )|^configuration file /m;
/** Variables that the times may come from. */
const OF_TIMES = [
  PROFILE,
  ...['grace-period', 'check-delay', 'drain-timeout'].map((key) => variableOf(key)),
];
/** Programs that certainly do not start it. */
const NO_RUNTIME = ['envoy', 'pm2', 'sleep', 'node'];
const TOKENS = [variableOf('shutdown-token'), variableOf('shutdown-token-file')];
/** Signals that pm2-runtime takes for a stop. */
const SIGNALS = ['SIGTERM', 'SIGINT'];

/**
 * Whether the containers of a manifest begin a drain when they are stopped, and have the time to end it.
 *
 * @param mostMs no container gets more, whatever its manifest says: a limit of the platform that is not in it
 */
export function checkContainers(
  containers: readonly StoppedContainer[],
  load: Load,
  mostMs?: number,
): Finding[] {
  if (containers.length > 0) {
    return containers.flatMap((one) => checkContainer(limited(one, mostMs), load));
  }
  return [
    problem(
      'manifest',
      'no container with pm2-envoy is in it: none has a variable PM2_ENVOY_…, or such an image, or runs or calls pm2-envoy',
      'pass what is applied, such as the output of `kubectl kustomize` or `helm template`',
    ),
  ];
}

function limited(container: StoppedContainer, mostMs: number | undefined): StoppedContainer {
  const { limit, gracePeriodMs, ...rest } = container;
  if (mostMs !== undefined) {
    return { ...rest, gracePeriodMs: Math.min(mostMs, gracePeriodMs ?? mostMs) };
  }
  if (!limit || gracePeriodMs === undefined || gracePeriodMs <= limit.ms) return container;
  const remedy = `${limit.remedy}; --grace-period tells the doctor how long the platform waits`;
  const finding = warning('timers', limit.message, remedy);
  return { ...container, findings: [...container.findings, finding] };
}

function checkContainer(container: StoppedContainer, load: Load): Finding[] {
  return [
    ...container.findings,
    ...checkCommand(container),
    ...checkSignal(container),
    ...checkSettings(container, load),
  ].map((finding) => ({ ...finding, message: `${container.where}: ${finding.message}` }));
}

function checkSettings(container: StoppedContainer, load: Load): Finding[] {
  let loaded: LoadedConfig;
  try {
    loaded = load(environmentOf(container));
  } catch (error) {
    if (!isPm2EnvoyError(error, 'config-invalid') || OF_CALL.test(error.message)) throw error;
    return error.message.split('\n').map((line) => problem('settings', line, remedyOf(line)));
  }
  const described = describe(container, loaded);
  return [
    ...checkUnseen(container, loaded),
    ...checkTimersOf(described),
    ...checkPreStop(described),
    ...checkProbes(described),
    ...checkAddress(described),
    ...checkFiles(container),
  ];
}

/** The profile may be a file of the image's. */
function remedyOf(line: string): string {
  return line.startsWith(`${PROFILE}: `)
    ? 'run the doctor in the directory of the project, which has that file in config/'
    : 'fix it: the container exits at its start';
}

/** The container's own variables, without what is a file in the container, or a secret. */
function environmentOf({ variables }: StoppedContainer): Record<string, string> {
  const env: Record<string, string> = {};
  for (const [name, value] of variables) {
    if (value !== undefined && name !== CONFIG_FILE && !TOKENS.includes(name)) env[name] = value;
  }
  return env;
}

function describe(container: StoppedContainer, { config, settings }: LoadedConfig): Described {
  const { variables, unseen } = container;
  const isOpen = unseen.length > 0 || variables.has(CONFIG_FILE);
  const isDefault = settings['serve-address'].source === 'default';
  const isUnseen = [PROFILE, variableOf('serve-address')].some(
    (name) => variables.has(name) && variables.get(name) === undefined,
  );
  return {
    container,
    config,
    mayHaveToken: isOpen || TOKENS.some((name) => variables.has(name)),
    mayServeElsewhere: isUnseen || (isDefault && (isOpen || !variables.has(PROFILE))),
  };
}

/** Where the times may come from without the manifest saying so. */
function checkUnseen(container: StoppedContainer, { config, settings }: LoadedConfig): Finding[] {
  const { variables, unseen } = container;
  const from = [...variables]
    .filter(([name, value]) => value === undefined && OF_TIMES.includes(name))
    .map(([name]) => name);
  const isFileGiven = Object.values(settings).some(({ source }) => source.startsWith('file '));
  if (variables.has(CONFIG_FILE) && !isFileGiven) from.push('the file of PM2_ENVOY_CONFIG');
  from.push(...unseen);
  const isAssumed = [settings['check-delay'], settings['drain-timeout']].some(
    ({ source }) => source === 'default',
  );
  if (!isAssumed || from.length === 0) return [];
  return [
    warning(
      'settings',
      `what ${from.join(', ')} holds is not in the manifest: check-delay ${formatDuration(config.checkDelayMs)} and drain-timeout ${formatDuration(config.drainTimeoutMs)} are assumed`,
      'pass both as flags (--check-delay, --drain-timeout), or a copy of the file with --config',
    ),
  ];
}

/** A manifest contains all times, so a grace period that is too short is an error here. */
function checkTimersOf({ container, config }: Described): Finding[] {
  const drainTime = config.adminAddress ? [] : checkDrainTime(config);
  return [...checkGrace(container, config), ...drainTime.filter(({ level }) => level !== 'ok')];
}

function checkGrace(container: StoppedContainer, config: Config): Finding[] {
  const { gracePeriodMs, preStop } = container;
  if (gracePeriodMs === undefined) return [];
  const sleepMs = preStop ? hookOf(preStop).sleepMs : 0;
  if (sleepMs === undefined) {
    return [
      warning(
        'timers',
        'the hook sleeps for a time that can’t be read, which is a part of the grace period',
        'write the time as a number; check-delay is the wait for load balancers',
      ),
    ];
  }
  if (sleepMs === 0) {
    return checkGracePeriod({ config, gracePeriodMs }).map(asProblem).map(withTimeline(config));
  }
  const leftMs = gracePeriodMs - sleepMs;
  const sum = `the hook sleeps ${formatDuration(sleepMs)} of the grace period of ${formatDuration(gracePeriodMs)}`;
  if (leftMs <= 0) {
    return [
      problem(
        'timers',
        `${sum}: nothing is left for the drain, and SIGKILL comes 2 s after the signal at the latest`,
        'leave the sleep out: check-delay is the wait for load balancers',
      ),
    ];
  }
  return checkGracePeriod({ config, gracePeriodMs: leftMs, sleepMs })
    .map(asProblem)
    .map((finding) => ({ ...finding, message: `${sum}; of the rest: ${finding.message}` }));
}

function asProblem(finding: Finding): Finding {
  return finding.level === 'warning' ? { ...finding, level: 'problem' } : finding;
}

/** A container that says its grace period has one line that says all. */
function withTimeline(config: Config): (finding: Finding) => Finding {
  return (finding) =>
    finding.level !== 'ok' || config.gracePeriodMs === undefined
      ? finding
      : { ...finding, message: `${finding.message}: ${describeTimeline(timelineOf(config))}` };
}

function checkAddress({ container, config: { serveAddress } }: Described): Finding[] {
  if (!container.isHostNetwork || !['0.0.0.0', '::'].includes(serveAddress)) return [];
  return [
    warning(
      'network',
      `with hostNetwork and serve-address ${serveAddress} everyone who can reach the node can reach the manager, and NetworkPolicies have no effect`,
      'set serve-address to 127.0.0.1, and host: 127.0.0.1 in the probes',
    ),
  ];
}

function checkSignal({ stopSignal, platform }: StoppedContainer): Finding[] {
  if (stopSignal === undefined) return [];
  const name = stopSignal.toUpperCase().replace(/^(SIG)?/, 'SIG');
  const byNumber: Readonly<Record<string, string>> = { SIG15: 'SIGTERM', SIG2: 'SIGINT' };
  if (SIGNALS.includes(byNumber[name] ?? name)) return [];
  return [
    problem(
      'signal',
      `${platform} stops it with ${stopSignal}, which pm2-runtime does not treat as a stop: everything is cut`,
      'leave the signal out, or set SIGTERM',
    ),
  ];
}

function checkCommand({ command }: StoppedContainer): Finding[] {
  const program = programOf(command);
  if (program === 'npx' || program === 'npm') {
    return [
      problem(
        'command',
        `${program} exits on SIGTERM and takes pm2 down with it: everything is cut`,
        'run pm2-runtime directly, with node_modules/.bin on PATH',
      ),
    ];
  }
  if (runsScript(command)) {
    return [
      problem(
        'command',
        `pm2-runtime runs another program, not the apps of pm2-envoy: ${command.join(' ')}`,
        'leave the command out, or give it an ecosystem file that also has envoyApps()',
      ),
    ];
  }
  if (command.length === 0 || command.some((word) => word.includes('pm2-runtime'))) return [];
  const make = program && NO_RUNTIME.includes(program) ? problem : warning;
  return [
    make(
      'command',
      `it replaces the image’s command, and does not call pm2-runtime: ${command.join(' ')}`,
      'leave command and args out, or make them start pm2-runtime',
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
