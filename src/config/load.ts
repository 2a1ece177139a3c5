import { existsSync, readFileSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';
import convict from 'convict';
import { parseAdminAddress } from '../admin/address.js';
import { argumentFaults } from '../envoy/user-arguments.js';
import { fileReasonOf, messageOf, Pm2EnvoyError } from '../errors.js';
import { PACKAGE_ROOT } from '../package-root.js';
import { closest } from '../text.js';
import type { Config, PluginEntry } from './config.js';
import { formatDuration, parseDuration } from './duration.js';
import { FORMATS } from './formats.js';
import { checkDelayWithin, longestDrainMs, misfitOf } from './grace-period.js';
import { moduleSourceOf, readModuleSettings } from './module-settings.js';
import { isKey, KEYS, type Key, specOf, variableOf } from './schema.js';
import { readTokenFile } from './token.js';

/** One effective value and where it came from: `default`, a file, a variable or a flag. */
export interface Setting {
  value: unknown;
  source: string;
}

/** A configuration that passed. */
export interface LoadedConfig {
  config: Config;
  /** The effective value of each key, as a JSON file would have it, and its source. */
  settings: Readonly<Record<Key, Setting>>;
}

/** What a configuration is read from. */
export interface ConfigSources {
  /** Flags by key, as typed: `{'check-delay': '5s'}`. */
  flags?: Readonly<Record<string, string>>;
  /** Path of `--config`; comes before `PM2_ENVOY_CONFIG`. */
  configFile?: string | undefined;
  env?: Readonly<Record<string, string | undefined>>;
  /** Relative paths start here. */
  cwd?: string;
}

/** Variables with our prefix that are no keys. */
const OTHER_VARIABLES = /^PM2_ENVOY_(CONFIG|PROFILE|RUNS)$/;
/** What Kubernetes adds to every container for a Service named pm2-envoy, or pm2-envoy-SOMETHING. */
const SERVICE_LINK = /_SERVICE_HOST$|_SERVICE_PORT(_\w+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_\w+)?$/;

function isServiceLink(name: string, text: string): boolean {
  return SERVICE_LINK.test(name) || (name.endsWith('_PORT') && /^(tcp|udp|sctp):/.test(text));
}

/**
 * Reads the configuration: defaults < profile < file < `pm2 set` (of the module) < environment < flags (docs/configuration.md).
 *
 * Synchronous, because pm2 `require()`s the ecosystem file that is built on it.
 *
 * @throws Pm2EnvoyError `config-invalid` with one line per problem: key, value, source, what is allowed
 */
export function loadConfig(sources: ConfigSources = {}): LoadedConfig {
  const { flags = {}, env = process.env, cwd = process.cwd() } = sources;
  const problems: string[] = [];
  const settings = new Map<string, Setting>(
    KEYS.map((key) => [key, { value: specOf(key).default, source: 'default' }]),
  );
  const layers = readLayers({ ...sources, flags, env, cwd }, problems);
  for (const layer of layers) merge(settings, layer, problems);
  const invalid = new Set<string>();
  for (const key of KEYS) validate(key, settings.get(key), { problems, invalid });
  deriveFromGracePeriod(settings, invalid, problems);
  checkCombinations(settings, invalid, problems);
  const token = readToken(settings, cwd, problems);
  if (problems.length > 0) {
    throw new Pm2EnvoyError('config-invalid', problems.map(onOneLine).join('\n'));
  }

  const values = effective(settings);
  return { config: toConfig(values, token, cwd), settings: values };
}

/** Paths, and what the system says of them, may hold line breaks. */
function onOneLine(problem: string): string {
  return problem.replaceAll(/\s*[\r\n]\s*/g, ' ');
}

/** All sources that there are, lowest first. */
function readLayers(
  sources: ConfigSources & Required<Pick<ConfigSources, 'flags' | 'env' | 'cwd'>>,
  problems: string[],
): Layer[] {
  const { flags, env, cwd, configFile } = sources;
  const module = readModuleSettings(env, problems);
  return [
    ...profileLayer(env['PM2_ENVOY_PROFILE'] || module.profile, cwd, problems),
    ...fileLayer(configFile, env['PM2_ENVOY_CONFIG'] || module.config, cwd, problems),
    { values: module.values, sourceOf: moduleSourceOf, nameOf: moduleSourceOf },
    environmentLayer(env),
    flagLayer(flags),
  ];
}

/** The run directory of a configuration that may be wrong in everything else. */
export function peekRunDir(sources: ConfigSources = {}): string | undefined {
  const { flags = {}, env = process.env, cwd = process.cwd() } = sources;
  const values = readLayers({ ...sources, flags, env, cwd }, []).map(
    (layer) => layer.values['run-dir'],
  );
  // null unsets what an earlier source has set.
  const found = values.findLast(
    (value) => value === null || (typeof value === 'string' && value !== ''),
  );
  return typeof found === 'string' ? resolve(cwd, found) : undefined;
}

/** Values of one source, by key. */
interface Layer {
  values: Readonly<Record<string, unknown>>;
  /** Where a key's value came from. */
  sourceOf(key: string): string;
  /** How the key is written in this source. */
  nameOf(key: string): string;
}

function profileLayer(name: string | undefined, cwd: string, problems: string[]): Layer[] {
  if (name === undefined || name === '') return [];
  const candidates = [join(cwd, 'config'), join(PACKAGE_ROOT, 'config')].map((folder) =>
    join(folder, `${name}.json`),
  );
  const file = /^[\w.-]+$/.test(name) ? candidates.find((path) => existsSync(path)) : undefined;
  if (file === undefined) {
    problems.push(
      `PM2_ENVOY_PROFILE: ${JSON.stringify(name)} is not a profile: there is no ${candidates.join(' and no ')}`,
    );
    return [];
  }
  return jsonLayer(file, `profile ${name}`, problems);
}

function fileLayer(
  flag: string | undefined,
  variable: string | undefined,
  cwd: string,
  problems: string[],
): Layer[] {
  const path = flag || variable;
  if (path === undefined || path === '') return [];
  return jsonLayer(resolve(cwd, path), `file ${path}`, problems);
}

function jsonLayer(file: string, source: string, problems: string[]): Layer[] {
  try {
    const values: unknown = JSON.parse(readFileSync(file, 'utf8'));
    if (typeof values !== 'object' || values === null || Array.isArray(values)) {
      throw new Error('it must hold one JSON object');
    }
    return [
      {
        values: values as Record<string, unknown>,
        sourceOf: () => source,
        nameOf: (key) => JSON.stringify(key),
      },
    ];
  } catch (error) {
    const shown = source.endsWith(file) ? source : `${source} (${file})`;
    problems.push(`configuration ${shown} can't be read: ${reasonOf(error, file)}`);
    return [];
  }
}

/** Node's own message for broken JSON quotes the text around the fault, which may be a secret. */
function reasonOf(error: unknown, file: string): string {
  if (!(error instanceof SyntaxError)) return fileReasonOf(error, file);
  const place = /line \d+ column \d+|position \d+/.exec(error.message)?.[0];
  return place ? `it is not valid JSON (at ${place})` : 'it is not valid JSON';
}

function environmentLayer(env: Readonly<Record<string, string | undefined>>): Layer {
  const values: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith('PM2_ENVOY_') || value === undefined) continue;
    // pm2 keeps a number of an ecosystem file as it is, until it starts the app.
    const text = String(value);
    // An empty variable is an unset one, as a manifest with an empty value means it.
    if (text === '') continue;
    if (OTHER_VARIABLES.test(name) || isServiceLink(name, text)) continue;
    const key = name.slice('PM2_ENVOY_'.length).toLowerCase().replaceAll('_', '-');
    values[key] = fromText(key, text);
  }
  return { values, sourceOf: variableOf, nameOf: variableOf };
}

function flagLayer(flags: Readonly<Record<string, string>>): Layer {
  const values = Object.fromEntries(
    Object.entries(flags).map(([key, text]) => [key, fromText(key, text)]),
  );
  return { values, sourceOf: (key) => `--${key}`, nameOf: (key) => `--${key}` };
}

function fromText(key: string, text: string): unknown {
  if (!isKey(key)) return text;
  return FORMATS[specOf(key).format].fromText?.(text) ?? text;
}

function merge(settings: Map<string, Setting>, layer: Layer, problems: string[]): void {
  for (const [key, value] of Object.entries(layer.values)) {
    if (isKey(key)) {
      settings.set(key, { value, source: layer.sourceOf(key) });
      continue;
    }
    const near = closest(key, KEYS);
    const hint = near ? `; did you mean ${layer.nameOf(near)}?` : '; see `pm2-envoy config --help`';
    const [name, source] = [layer.nameOf(key), layer.sourceOf(key)];
    problems.push(`${name}${name === source ? '' : ` (from ${source})`} is not a known key${hint}`);
  }
}

function validate(
  key: Key,
  setting: Setting | undefined,
  found: { problems: string[]; invalid: Set<string> },
): void {
  const spec = specOf(key);
  const value = setting?.value;
  const reason = refusalOf(key, value);
  if (reason === undefined) return;
  found.invalid.add(key);
  const shown = spec.secret ? 'its value' : JSON.stringify(value);
  found.problems.push(`${key}: ${shown} (from ${setting?.source}) ${reason}`);
}

/**
 * Why a value is refused. Asked of each format by itself, because convict stops at one message for
 * all, and puts values into it, secrets too.
 */
function refusalOf(key: Key, value: unknown): string | undefined {
  const spec = specOf(key);
  if (value === null && spec.default !== null) {
    return `must not be null; allowed: ${FORMATS[spec.format].allowed}`;
  }
  try {
    FORMATS[spec.format].validate(value);
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

/** The effective values, as convict hands them out. */
function effective(settings: ReadonlyMap<string, Setting>): Record<Key, Setting> {
  const schema = Object.fromEntries(
    KEYS.map((key) => {
      const { format, default: fallback, doc } = specOf(key);
      return [key, { format, default: fallback, doc, nullable: fallback === null }];
    }),
  );
  const config = convict<Record<string, unknown>>(schema);
  config.load(Object.fromEntries([...settings].map(([key, { value }]) => [key, value])));
  config.validate({ allowed: 'strict' });
  const entries = KEYS.map((key) => {
    return [key, { value: config.get(key), source: settings.get(key)?.source ?? 'default' }];
  });
  return Object.fromEntries(entries) as Record<Key, Setting>;
}

/** What no one has set of the times of a drain follows from the grace period, and what is set has to fit into it. */
function deriveFromGracePeriod(
  settings: Map<string, Setting>,
  invalid: ReadonlySet<string>,
  problems: string[],
): void {
  const grace = settings.get('grace-period');
  if (!grace || grace.value === null || invalid.has('grace-period')) return;
  const gracePeriodMs = parseDuration(grace.value);
  const derive = (key: Key, ms: number): void => {
    if (settings.get(key)?.source !== 'default') return;
    settings.set(key, { value: formatDuration(ms), source: 'grace-period' });
  };
  derive('drain-timeout', longestDrainMs(gracePeriodMs));
  if (invalid.has('drain-timeout')) return;
  const drainTimeoutMs = parseDuration(settings.get('drain-timeout')?.value);
  derive('check-delay', checkDelayWithin(drainTimeoutMs));
  const misfit = misfitOf(gracePeriodMs, drainTimeoutMs);
  if (!misfit) return;
  const describe = (key: Key): string => {
    const setting = settings.get(key);
    return `${key} ${String(setting?.value).trim()} (from ${setting?.source})`;
  };
  problems.push(
    `${describe('drain-timeout')} does not fit into ${describe('grace-period')}: ${misfit}`,
  );
}

function checkCombinations(
  settings: ReadonlyMap<string, Setting>,
  invalid: ReadonlySet<string>,
  problems: string[],
): void {
  const durationOf = (key: Key): number | undefined =>
    invalid.has(key) ? undefined : parseDuration(settings.get(key)?.value);
  const describe = (key: Key): string => {
    const setting = settings.get(key);
    return `${key} ${String(setting?.value).trim()} (from ${setting?.source})`;
  };
  const mustBeBelow = (low: Key, high: Key, orEqual: boolean, why: string): void => {
    const [lowMs, highMs] = [durationOf(low), durationOf(high)];
    if (lowMs === undefined || highMs === undefined) return;
    if (lowMs < highMs || (orEqual && lowMs === highMs)) return;
    problems.push(
      `${describe(low)} must be ${orEqual ? 'at most' : 'below'} ${describe(high)}: ${why}`,
    );
  };
  const whence =
    settings.get('drain-timeout')?.source === 'grace-period'
      ? `, which is what ${describe('grace-period')} leaves`
      : '';
  mustBeBelow(
    'check-delay',
    'drain-timeout',
    false,
    `the drain would be over before it waits${whence}`,
  );
  mustBeBelow(
    'check-interval-min',
    'check-interval',
    true,
    'it is the shortest time between polls',
  );
  if (
    settings.get('shutdown-token')?.value !== null &&
    settings.get('shutdown-token-file')?.value !== null
  ) {
    problems.push('shutdown-token and shutdown-token-file are both set: leave one out');
  }
  const args = settings.get('envoy-args');
  const faults = invalid.has('envoy-args') ? [] : argumentFaults(listOf(args?.value));
  for (const { argument, fault } of faults) {
    problems.push(`envoy-args: ${JSON.stringify(argument)} (from ${args?.source}) ${fault}`);
  }
}

function readToken(
  settings: ReadonlyMap<string, Setting>,
  cwd: string,
  problems: string[],
): string | undefined {
  const token = settings.get('shutdown-token')?.value;
  if (typeof token === 'string') return token;
  const file = settings.get('shutdown-token-file')?.value;
  if (typeof file !== 'string') return undefined;
  try {
    return readTokenFile(resolve(cwd, file));
  } catch (error) {
    problems.push(
      `shutdown-token-file: ${JSON.stringify(file)} (from ${settings.get('shutdown-token-file')?.source}) ${messageOf(error)}`,
    );
    return undefined;
  }
}

function toConfig(
  settings: Readonly<Record<Key, Setting>>,
  shutdownToken: string | undefined,
  cwd: string,
): Config {
  const ms = (key: Key): number => parseDuration(settings[key].value);
  const number = (key: Key): number => Number(settings[key].value);
  const text = (key: Key): string => String(settings[key].value);
  const path = (key: Key): string | undefined =>
    settings[key].value === null ? undefined : resolve(cwd, text(key));
  const address = settings['admin-address'].value;
  return {
    checkIntervalMs: ms('check-interval'),
    checkIntervalMinMs: ms('check-interval-min'),
    checkDelayMs: ms('check-delay'),
    quietPeriodMs: ms('quiet-period'),
    minOpenConnections: number('min-open-connections'),
    servePort: number('serve-port'),
    serveAddress: text('serve-address'),
    drainTimeoutMs: ms('drain-timeout'),
    gracePeriodMs: settings['grace-period'].value === null ? undefined : ms('grace-period'),
    drainUntil: settings['drain-until'].value === 'requests' ? 'requests' : 'connections',
    drainListeners: settings['drain-listeners'].value === 'inbound' ? 'inbound' : 'all',
    ignoreListeners: listOf(settings['ignore-listeners'].value),
    shutdownToken,
    shutdownTokenFile: path('shutdown-token-file'),
    envoyBin: path('envoy-bin'),
    envoyConfig: resolve(cwd, text('envoy-config')),
    envoyArgs: listOf(settings['envoy-args'].value),
    envoyDrainTimeMs: ms('envoy-drain-time'),
    envoyLostAfterMs: ms('envoy-lost-after'),
    envoyStuckAfterMs: ms('envoy-stuck-after'),
    orphanedDrain: orphanedDrainOf(settings['orphaned-drain'].value),
    adminAddress: typeof address === 'string' ? parseAdminAddress(address) : undefined,
    runDir: path('run-dir'),
    plugins: pluginsOf(settings.plugins.value, cwd),
    logLevel: text('log-level'),
    logFormat: text('log-format'),
  };
}

function orphanedDrainOf(value: unknown): Config['orphanedDrain'] {
  return value === 'resume' || value === 'shutdown' ? value : 'report';
}

function listOf(value: unknown): string[] {
  return Array.isArray(value) ? value.map(String) : [];
}

/** A path that starts with `.` or `/` is a file; anything else is a package's name. */
function pluginsOf(value: unknown, cwd: string): PluginEntry[] {
  if (!Array.isArray(value)) return [];
  return value.map((entry: unknown) => {
    const [path, options] = Array.isArray(entry) ? entry : [entry, {}];
    const isFile = isAbsolute(String(path)) || String(path).startsWith('.');
    return { path: isFile ? resolve(cwd, String(path)) : String(path), options };
  });
}

/** The settings as people see them: secrets are `***`. */
export function maskSettings(settings: Readonly<Record<Key, Setting>>): Record<Key, Setting> {
  const masked = KEYS.map((key) => {
    const setting = settings[key];
    const hide = specOf(key).secret && setting.value !== null;
    return [key, hide ? { ...setting, value: '***' } : setting];
  });
  return Object.fromEntries(masked) as Record<Key, Setting>;
}

/** The variables that hand a loaded configuration file on to a child with another working directory. */
export function configVariables(sources: ConfigSources): Record<string, string> {
  const { env = process.env, cwd = process.cwd() } = sources;
  const file = sources.configFile || env['PM2_ENVOY_CONFIG'];
  return file ? { PM2_ENVOY_CONFIG: resolve(cwd, file) } : {};
}
