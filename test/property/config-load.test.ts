import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseDuration } from '../../src/config/duration.js';
import {
  type ConfigSources,
  type LoadedConfig,
  loadConfig,
  maskSettings,
  peekRunDir,
} from '../../src/config/load.js';
import { isKey, KEYS, type Key, SCHEMA, specOf, variableOf } from '../../src/config/schema.js';
import { isPm2EnvoyError } from '../../src/errors.js';
import { makeTempFolder } from '../unit/fakes.js';
import { holds } from './check.js';

const folder = makeTempFolder();
mkdirSync(join(folder, 'config'));

/** The sources above the defaults, weakest first. */
const LAYERS = ['profile', 'file', 'env', 'flags'] as const;
type Layer = (typeof LAYERS)[number];

/** What one source says: JSON in the two files, text in variables and flags. */
interface Entry {
  key: string;
  json: unknown;
  text: string;
  isWrong?: boolean;
}
type Layers = Readonly<Record<Layer, readonly Entry[]>>;

const SOURCE: Readonly<Record<Layer, (key: string) => string>> = {
  profile: () => 'profile edge',
  file: () => 'file my.json',
  env: variableOf,
  flags: (key) => `--${key}`,
};

const sameAsText = (...texts: string[]) =>
  fc.constantFrom(...texts).map((text) => ({ json: text, text }));
const wholeNumber = (max: number) => fc.nat(max).map((n) => ({ json: n, text: ` ${n}` }));
const list = fc
  .array(fc.stringMatching(/^[a-z0-9._*-]{1,4}$/), { maxLength: 3 })
  .chain((json) =>
    fc
      .constantFrom(
        JSON.stringify(json),
        ...(json.length > 0 ? [json.join(' , '), `,${json.join(',')},`] : []),
      )
      .map((text) => ({ json, text })),
  );
const args = fc
  .constantFrom<string[]>([], ['--cpuset-threads'], ['-l', 'off', '--concurrency', '2'])
  .chain((json) =>
    fc
      .constantFrom(
        JSON.stringify(json),
        ...(json.length > 1 ? [json.join(' '), ` ${json.join(', ')} `, json.join(',')] : []),
      )
      .map((text) => ({ json, text })),
  );
const plugins = fc
  .array(
    fc.oneof(
      fc.constantFrom('./a.js', 'b'),
      fc.tuple(fc.constant('./c.js'), fc.dictionary(fc.string(), fc.jsonValue(), { maxKeys: 2 })),
    ),
    { maxLength: 2 },
  )
  .map((value) => JSON.stringify(value))
  .map((text) => ({ json: JSON.parse(text) as unknown, text }));

/** Without the other way to give the token, and without what others follow from. */
type ValidKey = Exclude<Key, 'shutdown-token-file' | 'grace-period'>;

/** Values that are fine together whichever source each comes from, the defaults included. */
const VALID: Readonly<Record<ValidKey, fc.Arbitrary<{ json: unknown; text: string }>>> = {
  'check-interval': sameAsText('1s', '5s', '1m'),
  'check-interval-min': sameAsText('1ms', '999ms', '0.5s'),
  'check-delay': sameAsText('0s', '7s', '60s', '1m0.5s'),
  'quiet-period': sameAsText('0s', '100ms', ' 2s '),
  'min-open-connections': wholeNumber(1_000_000),
  'serve-port': wholeNumber(65_535),
  'serve-address': sameAsText('127.0.0.1', '0.0.0.0', '::1', '::'),
  'drain-timeout': sameAsText('61s', '5m', '2h'),
  'drain-until': sameAsText('connections', 'requests'),
  'drain-listeners': sameAsText('all', 'inbound'),
  'ignore-listeners': list,
  'shutdown-token': sameAsText('horse', 'battery').map(({ json }) => ({
    json,
    text: ` ${json}\n`,
  })),
  'envoy-bin': sameAsText('/bin/envoy', 'envoy', '~/e n v o y'),
  'envoy-config': sameAsText('envoy.yaml', '/etc/envoy.json'),
  'envoy-args': args,
  'envoy-drain-time': sameAsText('1s', '10m'),
  'envoy-lost-after': sameAsText('0s', '1h'),
  'envoy-stuck-after': sameAsText('0s', '1h'),
  'orphaned-drain': sameAsText('report', 'resume', 'shutdown'),
  'admin-address': sameAsText('http://127.0.0.1:9901', 'unix:/run/admin.sock'),
  'run-dir': sameAsText('run', '/run/x'),
  plugins,
  'log-level': sameAsText('info', 'debug', 'error'),
  'log-format': sameAsText('auto', 'json'),
};

/** Refused by every format but those that take text. */
const WRONG = fc.constantFrom<unknown>(true, -1, 1.5, 'no\nway', {}, [[]], { a: 1 }, [1], '{', '');

/** Formats that take any text that is not empty. */
const TAKES_TEXT: readonly string[] = ['token', 'path', 'list', 'arguments', 'plugins'];

const validEntry: fc.Arbitrary<Entry> = fc
  .constantFrom(...(Object.keys(VALID) as ValidKey[]))
  .chain((key) => VALID[key].map((value) => ({ key, ...value })));
/** In a variable it counts as not set; in a flag only a list may be empty. */
const emptyVariable: fc.Arbitrary<Entry> = fc
  .constantFrom(...KEYS)
  .map((key) => ({ key, json: null, text: '' }));
const nullEntry: fc.Arbitrary<Entry> = fc
  .constantFrom(...KEYS.filter((key) => specOf(key).default === null))
  .map((key) => ({ key, json: null, text: '' }));
const wrongEntry: fc.Arbitrary<Entry> = fc
  .tuple(fc.constantFrom(...KEYS.filter((key) => !TAKES_TEXT.includes(specOf(key).format))), WRONG)
  .map(([key, json]) => ({ key, json, text: 'no\nway', isWrong: true }));
const unknownEntry: fc.Arbitrary<Entry> = fc
  .oneof(
    fc.stringMatching(/^[a-z][a-z-]{0,14}$/),
    fc.constantFrom(...KEYS).map((key) => key.slice(1)),
    fc.constantFrom('constructor', 'to-string', 'has-own-property', 'config-file', 'host'),
  )
  .filter((key) => !isKey(key) && key !== 'config' && key !== 'profile')
  .map((key) => ({ key, json: 'x', text: 'x' }));

const entriesOf = (...kinds: fc.Arbitrary<Entry>[]) =>
  fc.uniqueArray(fc.oneof(...kinds), { selector: ({ key }) => key, maxLength: 6 });
const layersOf = (files: fc.Arbitrary<Entry[]>, texts: fc.Arbitrary<Entry[]>) =>
  fc.record({
    profile: files,
    file: files,
    env: fc
      .tuple(texts, entriesOf(emptyVariable))
      .map(([set, empty]) => [...empty, ...set].filter(isLastOfItsKey)),
    flags: texts,
  });

describe('loadConfig', () => {
  it('takes each value from the strongest source that sets it, and says which', () => {
    const layers = layersOf(entriesOf(validEntry, validEntry, nullEntry), entriesOf(validEntry));
    holds(
      fc.property(layers, (layers) => {
        const { settings, config } = load(layers);
        for (const key of KEYS) {
          assert.deepEqual(settings[key], expectedOf(layers, key), key);
        }
        assert.equal(config.checkDelayMs, parseDuration(settings['check-delay'].value));
        assert.equal(config.servePort, settings['serve-port'].value);
        assert.equal(config.shutdownToken, settings['shutdown-token'].value ?? undefined);
        assert.equal(peekRunDir(sourcesOf(layers)), config.runDir);
      }),
    );
  });

  it('refuses every unknown key and every wrong value in force, each in one line', () => {
    const files = entriesOf(validEntry, wrongEntry, unknownEntry);
    holds(
      fc.property(layersOf(files, files), (layers) => {
        const expected = [
          ...LAYERS.flatMap((layer) => unknownLines(layers[layer], layer)),
          ...KEYS.flatMap((key) => wrongLines(layers, key)),
        ];
        const found = problemsOf(sourcesOf(layers));
        assert.equal(found.length, expected.length, found.join('\n'));
        for (const start of expected) {
          assert.equal(found.filter((line) => line.startsWith(start)).length, 1, start);
        }
      }),
    );
  });

  it('names a combination that can’t work in one line, however the values are written', () => {
    const space = fc.constantFrom('', ' ', '\n', '\t\r\n');
    const pair = fc.constantFrom<[Key, string]>(
      ['check-delay', '5m'],
      ['drain-timeout', '60s'],
      ['check-interval-min', '6s'],
      ['check-interval', '99ms'],
    );
    holds(
      fc.property(pair, space, space, fc.constantFrom(...LAYERS), ([key, value], ...more) => {
        const [before, after, layer] = more;
        const text = `${before}${value}${after}`;
        const found = problemsOf(sourcesOf(only(layer, { key, json: text, text })));
        assert.equal(found.length, 1, JSON.stringify(found));
        assert.ok(found[0]?.includes(`${key} ${value} (from ${SOURCE[layer](key)})`), found[0]);
      }),
      100,
    );
  });

  it('answers any value for any key with a configuration or with problems', () => {
    const anything = fc.oneof(
      fc.jsonValue({ maxDepth: 3 }),
      fc.string({ unit: 'binary-ascii' }),
      fc.constantFrom('', [], {}, null),
    );
    const entry = fc
      .tuple(fc.constantFrom(...KEYS), anything, fc.string({ unit: 'binary-ascii' }))
      .map(([key, json, text]) => ({ key, json, text }));
    holds(
      fc.property(layersOf(entriesOf(entry), entriesOf(entry)), (layers) => {
        const found = problemsOf(sourcesOf(layers));
        for (const line of found)
          assert.match(line, /^[a-z-]+(: .* \(from .*\) | .* must be | and )/);
        peekRunDir(sourcesOf(layers));
      }),
    );
  });

  it('changes nothing of what it reads, and shares nothing with what it returned', () => {
    const layers = layersOf(entriesOf(validEntry), entriesOf(validEntry));
    const schema = structuredClone(SCHEMA);
    holds(
      fc.property(layers, (layers) => {
        const sources = sourcesOf(layers);
        const before = structuredClone(sources);
        const first = loadConfig(freeze(sources));
        const copy = structuredClone(first);
        for (const { value } of Object.values(first.settings)) {
          if (Array.isArray(value)) value.push('meddled with');
        }
        const { ignoreListeners, envoyArgs, plugins } = first.config;
        for (const list of [ignoreListeners, envoyArgs, plugins] as unknown[][]) list.push('x');
        assert.deepEqual(sources, before);
        assert.deepEqual(SCHEMA, schema);
        assert.deepEqual(loadConfig(sources), copy);
      }),
      150,
    );
  });
});

describe('the shutdown token', () => {
  const SECRET = 'Tr0ub4dor&3';
  const asValue = fc.constantFrom<unknown>(
    ...[SECRET, [SECRET], { [SECRET]: SECRET }, ` ${SECRET}`, [[{ token: SECRET }]]],
  );
  const tokenEntry = asValue.map((json) => {
    const text = typeof json === 'string' ? json : JSON.stringify(json);
    return { key: 'shutdown-token', json, text };
  });
  const misspelt = fc
    .constantFrom('shutdown-tokn', 'shutdown_token', 'token', 'shutdownToken')
    .map((key) => ({ key, json: SECRET, text: SECRET }));
  const entries = entriesOf(tokenEntry, misspelt, validEntry, wrongEntry);

  it('is in no problem, and not in what people are shown', () => {
    holds(
      fc.property(layersOf(entries, entries), (layers) => {
        const sources = sourcesOf(layers);
        assert.ok(!problemsOf(sources).join('\n').includes(SECRET));
        if (problemsOf(sources).length > 0) return;
        const { settings } = loadConfig(sources);
        const shown = maskSettings(settings);
        assert.ok(!JSON.stringify(shown).includes(SECRET));
        assert.deepEqual(
          { ...shown, 'shutdown-token': null },
          { ...settings, 'shutdown-token': null },
        );
      }),
    );
  });

  it('is in no problem of a file that is broken anywhere', () => {
    const text = JSON.stringify({ 'check-delay': '5s', 'shutdown-token': SECRET, plugins: [] });
    const broken = fc
      .tuple(fc.nat(text.length), fc.nat(12), fc.string({ maxLength: 3 }))
      .map(([at, cut, more]) => text.slice(0, at) + more + text.slice(at + cut));
    holds(
      fc.property(broken, (content) => {
        const configFile = fileWith('broken.json', content);
        for (const sources of [{ configFile }, { env: { PM2_ENVOY_CONFIG: configFile } }]) {
          const found = problemsOf({ cwd: folder, env: {}, ...sources }).join('\n');
          assert.ok(!found.includes(SECRET), found);
          assert.ok(!found.includes('ub4dor'), found);
        }
      }),
    );
  });
});

function load(layers: Layers): LoadedConfig {
  return loadConfig(sourcesOf(layers));
}

/** Writes the two files, and gives the sources that read them. */
function sourcesOf({ profile, file, env, flags }: Layers): ConfigSources {
  fileWith('config/edge.json', jsonOf(profile));
  fileWith('my.json', jsonOf(file));
  const variables = env.map(({ key, text }) => [variableOf(key), text]);
  return {
    cwd: folder,
    configFile: 'my.json',
    // The flag comes before the variable: this file is not read.
    env: {
      PM2_ENVOY_PROFILE: 'edge',
      PM2_ENVOY_CONFIG: 'nowhere.json',
      ...Object.fromEntries(variables),
    },
    flags: Object.fromEntries(flags.map(({ key, text }) => [key, text])),
  };
}

/** Not by way of an object: `__proto__` is a key like any other in JSON. */
function jsonOf(entries: readonly Entry[]): string {
  const members = entries.map(({ key, json }) => `${JSON.stringify(key)}:${JSON.stringify(json)}`);
  return `{${members.join(',')}}`;
}

function fileWith(name: string, content: string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

function only(layer: Layer, entry: Entry): Layers {
  return { profile: [], file: [], env: [], flags: [], [layer]: [entry] };
}

function isLastOfItsKey(entry: Entry, index: number, entries: readonly Entry[]): boolean {
  return entries.findLastIndex(({ key }) => key === entry.key) === index;
}

/** The strongest source that sets a key; an empty variable counts as not set. */
function winnerOf(layers: Layers, key: Key): { layer: Layer; entry: Entry } | undefined {
  for (const layer of LAYERS.toReversed()) {
    const entry = layers[layer].find((entry) => entry.key === key);
    if (entry && !(layer === 'env' && entry.text === '')) return { layer, entry };
  }
  return undefined;
}

function expectedOf(layers: Layers, key: Key): { value: unknown; source: string } {
  const winner = winnerOf(layers, key);
  if (!winner) return { value: specOf(key).default, source: 'default' };
  return { value: winner.entry.json, source: SOURCE[winner.layer](key) };
}

function unknownLines(entries: readonly Entry[], layer: Layer): string[] {
  const isFile = layer === 'profile' || layer === 'file';
  return entries
    .filter(({ key }) => !isKey(key))
    .map(({ key }) => {
      const source = SOURCE[layer](key);
      return isFile
        ? `${JSON.stringify(key)} (from ${source}) is not a known key`
        : `${source} is not a known key`;
    });
}

function wrongLines(layers: Layers, key: Key): string[] {
  const winner = winnerOf(layers, key);
  if (!winner?.entry.isWrong) return [];
  const { json, text } = winner.entry;
  const isFile = winner.layer === 'profile' || winner.layer === 'file';
  return [`${key}: ${JSON.stringify(isFile ? json : text)} (from ${SOURCE[winner.layer](key)})`];
}

/** The problems that a configuration is refused with, one a line; none when it is taken. */
function problemsOf(sources: ConfigSources): string[] {
  try {
    loadConfig(sources);
    return [];
  } catch (error) {
    if (!isPm2EnvoyError(error, 'config-invalid')) throw error;
    return error.message.split('\n');
  }
}

function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const inner of Object.values(value)) freeze(inner);
  }
  return Object.freeze(value);
}
