import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import { drawShutdown } from '../../scripts/shutdown-picture.js';
import { checkPm2 } from '../../src/cli/doctor/pm2.js';
import { checkTimers } from '../../src/cli/doctor/timers.js';
import { layOut } from '../../src/cli/terminal/layout.js';
import type { Terminal } from '../../src/cli/terminal/terminal.js';
import { statusRows } from '../../src/cli/view/status-view.js';
import { FORMATS } from '../../src/config/formats.js';
import { killTimeoutMs } from '../../src/config/grace-period.js';
import { loadConfig } from '../../src/config/load.js';
import { KEYS, SCHEMA, variableOf } from '../../src/config/schema.js';
import { SHUTDOWN_EVENTS } from '../../src/drain/state.js';
import { type ErrorCode, Pm2EnvoyError } from '../../src/errors.js';
import { EXIT, exitCodeOf } from '../../src/exit-codes.js';
import { silentLog } from '../../src/log.js';
import type { PluginHost } from '../../src/plugins/api/types.js';
import { DrainPlugin } from '../../src/plugins/drain-plugin.js';
import { createPluginHost } from '../../src/plugins/host.js';
import { loadPlugins } from '../../src/plugins/load.js';
import { stubDrain } from '../support/drain.js';
import { makeFolder } from '../support/folder.js';
import {
  block,
  blocksOf,
  callsIn,
  headings,
  linksIn,
  markdownFiles,
  section,
  slugOf,
  tableRows,
  unpadded,
} from '../support/pages.js';
import { shownLines, staleIn, vocabularyOf } from '../support/shown.js';
import { makePm2Process } from '../unit/fakes.js';
import { draining, ended, statusWith } from '../unit/statuses.js';

const ROOT = resolve(import.meta.dirname, '../..');
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const PAGES = ['README.md', 'SECURITY.md', ...markdownFiles(join(ROOT, 'docs')).map(toRelative)];
/** Texts of `--help` by command. */
const helps = new Map<string, string>();
/** The commands of the command line, each by its words. */
const ALL_COMMANDS: readonly (readonly string[])[] = helpOf([])
  .filter((name) => name !== 'help')
  .flatMap((name) => {
    const inside = helpOf([name]).filter((word) => word !== 'help');
    return inside.length > 0 ? inside.map((word) => [name, word]) : [[name]];
  });
/** Commands of the plugins that docs/plugins.md makes up. */
const OF_PLUGINS = ['hello', 'cache', 'consul'];

describe('docs/configuration.md', () => {
  it('is what scripts/configuration-page.js makes of the schema', async () => {
    const { renderPage, profileTable } = await pageScript();
    const page = read('docs/configuration.md');
    const fresh = renderPage(page, { schema: SCHEMA, formats: FORMATS, profiles: profileTable() });
    assert.equal(unpadded(page), unpadded(fresh), 'CONTRIBUTING.md says how to write it again');
  });

  it('has a row for each key', () => {
    const rows = tableRows(section(read('docs/configuration.md'), 'Keys')).map(([key]) => key);
    assert.deepEqual(
      rows,
      Object.keys(SCHEMA).map((key) => `\`${key}\``),
    );
  });
});

describe('docs/errors.md', () => {
  const rows = tableRows(read('docs/errors.md').split('\n## ')[0] ?? '');
  const codes = codesOf('src/errors.ts', 'ErrorCode');

  it('has a row for each error code, and no other', () => {
    assert.deepEqual(rows.map(([code]) => code).sort(), codes.map((code) => `\`${code}\``).sort());
  });

  it('has a row for each code of the HTTP endpoints, and no other', () => {
    const own = codesOf('src/manager/http/answers.ts', 'HttpErrorCode');
    const http = tableRows(section(read('docs/errors.md'), 'Codes of the HTTP endpoints'));
    assert.deepEqual(http.map(([code]) => code).sort(), own.map((code) => `\`${code}\``).sort());
  });

  it('names the exit code that each error ends with', () => {
    for (const code of codes) {
      const exit = rows.find(([cell]) => cell === `\`${code}\``)?.[3];
      assert.equal(exit, String(exitCodeOf(new Pm2EnvoyError(code as ErrorCode, ''))), code);
    }
  });
});

describe('README.md', () => {
  const readme = read('README.md');

  it('is short', () => {
    assert.ok(readme.split('\n').length <= 150);
  });

  it('names the phases that its picture shows', () => {
    const phases = tableRows(section(readme, 'What a drain does')).map(([cell]) => cell);
    const words = ['no', 'one', 'two', 'three', 'four', 'five'];
    assert.match(readme, new RegExp(`drain has ${words[phases.length]} phases:`));
    const picture = read('docs/images/shutdown.svg').replaceAll(/<[^>]*>/g, '');
    const shown = [...picture.matchAll(/^ {2}[✓▸·] ([a-z-]+)/gm)].map(([, name]) => `\`${name}\``);
    assert.deepEqual(phases, shown);
  });

  it('shows a drain as scripts/shutdown-picture.ts draws it', () => {
    const advice = 'CONTRIBUTING.md says how to draw it again';
    assert.equal(read('docs/images/shutdown.svg'), drawShutdown(), advice);
  });

  it('shows what `npm start` prints', () => {
    const script = read('src/apps/quick-start.ts');
    const shown =
      blocksOf(readme, '\\w*').find((text) => text.includes('In another terminal')) ?? '';
    const texts = shown.split('\n').map((line) => line.trim().split(/ {2,}/).at(-1) ?? '');
    const own = texts.filter((text) => text !== '').map((text) => text.replace(/http:.*/, ''));
    assert.equal(own.length, 5);
    for (const text of own) assert.ok(script.includes(text), text);
  });
});

describe('README.md and docs/commands.md', () => {
  // What they show of other programs.
  const foreign = ['--no'];

  for (const path of ['README.md', 'docs/commands.md']) {
    it(`name only flags of pm2-envoy: ${path}`, () => {
      const known = ALL_COMMANDS.map(helpTextOf).join('\n');
      const named = [...read(path).matchAll(/`(?:[^`\n]* )?(--[a-z-]+)[^`\n]*`/g)];
      for (const [, flag = ''] of named) {
        assert.ok(foreign.includes(flag) || known.includes(` ${flag} `), `there is no ${flag}`);
      }
    });
  }
});

describe('docs/commands.md', () => {
  const page = read('docs/commands.md');

  it('names in its table only what --help names', () => {
    const commands = tableRows(page.split('\n## ')[0] ?? '').map(
      ([cell]) => /^`pm2-envoy ([a-z ]+[a-z])/.exec(cell ?? '')?.[1]?.split(' ') ?? [],
    );
    assert.ok(commands.length > 0);
    for (const words of commands) {
      const name = words.at(-1) ?? '';
      const known = helpOf(words.slice(0, -1));
      assert.ok(known.includes(name), `${words.join(' ')} is not among ${known.join(', ')}`);
    }
  });

  it('has a row for each command', () => {
    const named = tableRows(page.split('\n## ')[0] ?? '').map(
      ([cell]) => /^`pm2-envoy ([a-z ]+[a-z])/.exec(cell ?? '')?.[1],
    );
    assert.deepEqual(named.toSorted(), ALL_COMMANDS.map((words) => words.join(' ')).toSorted());
  });

  it('has a row for each exit code of the command line', () => {
    const rows = tableRows(section(page, 'Exit codes')).map(([code]) => Number(code));
    const { stoppedBeforeLive: _, ...ofCommands } = EXIT;
    assert.deepEqual(rows, Object.values(ofCommands));
  });
});

describe('the ecosystem files that docs/ecosystem.md shows', () => {
  for (const [index, name] of ['ecosystem.config.cjs', 'ecosystem.config.mjs'].entries()) {
    it(`give pm2 its apps: ${name}`, () => {
      const folder = makeFolder();
      try {
        mkdirSync(join(folder.path, 'node_modules'));
        symlinkSync(ROOT, join(folder.path, 'node_modules', 'pm2-envoy'));
        const file = join(folder.path, name);
        writeFileSync(file, blocksOf(read('docs/ecosystem.md'), 'js')[index] ?? '');
        // As pm2 reads both kinds.
        const script = `console.log(JSON.stringify(require(${JSON.stringify(file)}).apps))`;
        const apps = JSON.parse(
          execFileSync(process.execPath, ['-e', script], { encoding: 'utf8' }),
        ) as { name: string; cwd?: string }[];
        assert.deepEqual(
          apps.map((app) => [app.name, app.cwd]),
          [
            ['envoy', folder.path],
            ['envoy-manager', folder.path],
            ['my-app', undefined],
          ],
        );
      } finally {
        folder.remove();
      }
    });
  }
});

describe('every page', () => {
  // A decision also names what was not chosen.
  const current = PAGES.filter((path) => /^(docs\/[^/]+|README\.md)$/.test(path));
  const callers = current.filter((path) => callsIn(read(path)).length > 0);

  it('that is about a task calls pm2-envoy', () => {
    for (const name of [
      'operations',
      'kubernetes',
      'container',
      'from-contour',
      'troubleshooting',
    ]) {
      assert.ok(callers.includes(`docs/${name}.md`), `no call found in docs/${name}.md`);
    }
  });

  for (const path of callers) {
    it(`calls only commands and flags that --help names: ${path}`, () => {
      for (const call of callsIn(read(path))) assertCall(call);
    });
  }

  it('names only npm scripts that exist', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    for (const path of [...PAGES, 'CONTRIBUTING.md']) {
      for (const [, name = ''] of read(path).matchAll(/\bnpm run ([\w:-]+)/g)) {
        assert.ok(name in scripts, `${path}: there is no npm run ${name}`);
      }
    }
  });

  it('names only variables that are read', () => {
    const known = [...KEYS.map(variableOf), 'PM2_ENVOY_PROFILE', 'PM2_ENVOY_CONFIG'];
    for (const path of PAGES) {
      for (const [name] of read(path).matchAll(/\bPM2_ENVOY_[A-Z_]*[A-Z]/g)) {
        assert.ok(known.includes(name), `${path}: there is no ${name}`);
      }
    }
  });
});

describe('comments', () => {
  const files = ['src', 'scripts', 'test'].flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.(?:ts|js|mjs)$/.test(name))
      .map((name) => join(folder, name)),
  );

  it('name only pages that a clone has', () => {
    for (const file of files) {
      for (const [page] of read(file).matchAll(/(?<![\w./'-])(?:docs\/)?[\w/-]+\.md\b/g)) {
        const isThere = existsSync(join(ROOT, page)) || existsSync(join(ROOT, dirname(file), page));
        assert.ok(isThere, `${file}: there is no ${page}`);
      }
    }
  });
});

describe('output that a page shows', () => {
  const vocabulary = vocabularyOf(join(ROOT, 'src'));
  const pages = PAGES.filter((path) => shownLines(read(path)).length > 0);

  it('is found', () => {
    for (const name of ['README', 'docs/operations', 'docs/troubleshooting', 'docs/plugins']) {
      assert.ok(pages.includes(`${name}.md`), name);
    }
  });

  for (const path of pages) {
    it(`is in words that the code has: ${path}`, () => {
      for (const { line, text } of shownLines(read(path))) {
        const stale = staleIn(text, vocabulary);
        assert.equal(stale, undefined, `${path}:${line}: the code does not print this: ${text}`);
      }
    });
  }

  it('has the phase and the deadline as `status` shows them', () => {
    const startedBy = { kind: 'cli', detail: 'envoy' } as const;
    const statuses = [
      statusWith(),
      statusWith({ orphanedDrain: true }),
      ...SHUTDOWN_EVENTS.map((phase) => draining(phase, 72_000, { startedBy })),
      ended('drained'),
      ended('timeout', { connectionsLeft: 4 }),
    ];
    const rows = statuses.flatMap((status) => layOut(statusRows(status), PIPE, 'wrap'));
    const known = new Set(rows.map(withoutValues));
    for (const path of pages) {
      for (const { line, text } of shownLines(read(path))) {
        if (!/^(?:phase|deadline|started by) {2,}/.test(text)) continue;
        const isOrigin = text.startsWith('started by');
        assert.ok(isOrigin || known.has(withoutValues(text)), `${path}:${line}: ${text}`);
      }
    }
  });
});

describe('what docs/operations.md shows of doctor', () => {
  const sample =
    blocksOf(read('docs/operations.md'), '\\w*').find((text) => text.includes('\nok  ')) ?? '';
  const rows = sample.replaceAll(/\n {22}/g, ' ').split('\n');
  const shown = (topic: string): string[] =>
    rows.filter((row) => row.slice(8).trim().startsWith(`${topic} `)).map((row) => row.slice(22));

  it('is what it says of the timers of that page', () => {
    const file = blocksOf(read('docs/operations.md'), 'js')[0] ?? '';
    const variables = [...file.matchAll(/(PM2_ENVOY_(?:CHECK_DELAY|DRAIN_TIMEOUT)): '(.*)'/g)];
    const env = Object.fromEntries(variables.map(([, name = '', value]) => [name, value]));
    const { config } = loadConfig({ env });
    const timers = { config, killTimeoutMs: killTimeoutMs(config), gracePeriodMs: undefined };
    assert.deepEqual(
      shown('timers'),
      checkTimers(timers).map(({ message }) => message),
    );
  });

  it('is what it says of the two apps', () => {
    const process = makePm2Process({ pid: 7164 });
    const manager = makePm2Process({ name: 'envoy-manager', pid: 7170 });
    const daemon = { processes: async () => [], reload: async () => {}, remove: async () => {} };
    const all = [process, manager];
    const found = { home: '/home/envoy/.pm2', runDir: '/run', daemon, process, manager, all };
    assert.deepEqual(
      shown('pm2'),
      checkPm2(found).map(({ message }) => message),
    );
  });
});

describe('relative links', () => {
  for (const file of markdownFiles(ROOT)) {
    const path = relative(ROOT, file);
    it(`in ${path} lead somewhere`, () => {
      for (const link of linksIn(readFileSync(file, 'utf8'))) {
        const [target = '', anchor] = link.split('#');
        const to = target === '' ? file : resolve(dirname(file), target);
        assert.ok(existsSync(to), `${path}: ${link} points nowhere`);
        if (anchor === undefined) continue;
        const anchors = headings(readFileSync(to, 'utf8')).map(slugOf);
        assert.ok(anchors.includes(anchor), `${path}: ${link} names no heading`);
      }
    });
  }
});

describe('docs/plugins.md', () => {
  const page = read('docs/plugins.md');

  it('shows the example as it is', () => {
    const shown = block(section(page, 'An example'), 'js');
    assert.equal(shown, read('docs/examples/announce-plugin.js'));
  });

  it('shows a configuration that loads the example, which announces each event once', async () => {
    const folder = makeFolder();
    try {
      const file = join(folder.path, 'announce.jsonl');
      const host = await hostOf(page, folder.path, { file });
      await host.run('shutdown', { drain: stubDrain() });
      await host.settled();
      const lines = readFileSync(file, 'utf8').trim().split('\n');
      const said = lines.map((line): unknown => JSON.parse(line).event);
      assert.deepEqual(said, SHUTDOWN_EVENTS);
      assert.equal(host.failures.size, 0);
    } finally {
      folder.remove();
    }
  });

  it('shows a configuration without code that is taken', async (t) => {
    process.env['LB_TOKEN'] = 'a token';
    t.after(() => delete process.env['LB_TOKEN']);
    const { plugins } = JSON.parse(block(section(page, 'Without code'), 'json'));
    for (const [path, options] of plugins) await construct(path, options);
    assert.deepEqual(
      plugins.map(([path]: [string]) => path),
      ['pm2-envoy/webhook', 'pm2-envoy/command'],
    );
  });

  for (const path of ['pm2-envoy/command', 'pm2-envoy/webhook']) {
    it(`has a row for each option of ${path}`, async () => {
      const tables = section(page, 'Options').split('\n\n');
      const keys = [`key of \`${path}\``, 'key  '].flatMap((header) =>
        tableRows(tables.find((table) => table.startsWith(`| ${header}`)) ?? ''),
      );
      const known = await construct(path, { hooks: { 'shutdown:finish': { nonsense: 1 } } }).catch(
        (error: unknown) => / known are (.*)/.exec(String(error))?.[1]?.split(', '),
      );
      assert.deepEqual(
        keys.map(([key]) => key),
        known?.map((key) => `\`${key}\``),
      );
    });
  }

  it('has an example that announces the drain before Envoy is told', async () => {
    const folder = makeFolder();
    try {
      const file = join(folder.path, 'announce.jsonl');
      const host = await hostOf(page, folder.path, { file });
      let before = '';
      const failHealth = async (): Promise<void> => {
        before = readFileSync(file, 'utf8');
      };
      await host.run('shutdown', { drain: { ...stubDrain(), failHealth } });
      await host.settled();
      assert.equal(JSON.parse(before).event, 'fail-health');
    } finally {
      folder.remove();
    }
  });

  it('has an example that refuses to start without a file', async () => {
    const folder = makeFolder();
    try {
      await assert.rejects(hostOf(page, folder.path, {}), /its option "file" must be a path/);
    } finally {
      folder.remove();
    }
  });
});

/** Constructs a plugin as the apps do. */
async function construct(
  path: string,
  options: Readonly<Record<string, unknown>>,
): Promise<undefined> {
  const { config } = loadConfig({ env: {}, cwd: ROOT });
  const own = { name: 'drain', create: DrainPlugin, options: {}, builtIn: true };
  const plugins = [own, ...(await loadPlugins([{ path, options }]))];
  createPluginHost({ config, log: silentLog, plugins });
}

/** A pipe, in which nothing is cut. */
const PIPE: Terminal = {
  tty: false,
  width: Number.POSITIVE_INFINITY,
  height: 24,
  color: false,
  unicode: true,
  live: false,
};

/** A line of which only the words are left. */
function withoutValues(line: string): string {
  return line.replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'T').replace(/(?:\d+(?:ms|[hms]))+/g, 'D');
}

function toRelative(file: string): string {
  return relative(ROOT, file);
}

/** The plugin host that the configuration in docs/plugins.md leads to, with other options. */
async function hostOf(
  page: string,
  folder: string,
  options: Readonly<Record<string, unknown>>,
): Promise<PluginHost> {
  const configFile = join(folder, 'config.json');
  writeFileSync(configFile, block(section(page, 'An example'), 'json'));
  const { config } = loadConfig({ configFile, env: {}, cwd: ROOT });
  const loaded = await loadPlugins(config.plugins);
  const own = { name: 'drain', create: DrainPlugin, options: {}, builtIn: true };
  const plugins = [own, ...loaded.map((plugin) => ({ ...plugin, options }))];
  return createPluginHost({ config, log: silentLog, plugins });
}

/** The members of a union of texts. */
function codesOf(file: string, type: string): string[] {
  const union = new RegExp(`export type ${type} =([^;]*);`).exec(read(file))?.[1] ?? '';
  const codes = [...union.matchAll(/'([\w-]+)'/g)].map(([, code]) => String(code));
  assert.ok(codes.length > 0, `no ${type} found in ${file}`);
  return codes;
}

interface PageScript {
  renderPage(page: string, from: { schema: object; formats: object; profiles: string }): string;
  profileTable(): string;
}

async function pageScript(): Promise<PageScript> {
  return await import(pathToFileURL(join(ROOT, 'scripts/configuration-page.js')).href);
}

/** Fails unless the command and its flags exist. */
function assertCall(call: string): void {
  const [, words = '', rest = ''] = /^([a-z ]*[a-z])(.*)$/.exec(call) ?? [];
  const [name = '', sub] = words.split(' ');
  if (OF_PLUGINS.includes(name)) return;
  assert.ok(helpOf([]).includes(name), call);
  const isGroup = sub !== undefined && helpOf([name]).includes(sub);
  const help = helpTextOf(isGroup ? [name, sub] : [name]);
  // What every command takes stands in one place.
  const all = help + helpTextOf(['config']);
  for (const [flag] of rest.matchAll(/--[a-z-]+/g)) assert.ok(all.includes(` ${flag} `), call);
}

/** Commands that the help names, of the program or of a group of commands. */
function helpOf(group: readonly string[]): string[] {
  const list = helpTextOf(group).split('Commands:\n')[1] ?? '';
  return [...list.matchAll(/^ {2}([a-z-]+)/gm)].map(([, name]) => String(name));
}

function helpTextOf(command: readonly string[]): string {
  const key = command.join(' ');
  const args = [join(ROOT, 'bin/pm2-envoy.js'), ...command, '--help'];
  const help = helps.get(key) ?? execFileSync(process.execPath, args, { encoding: 'utf8' });
  helps.set(key, help);
  return help;
}
