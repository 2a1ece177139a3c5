import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { section, tableRows } from './pages.js';
import type { AppOptions, CommandHost } from './pm2-host.js';
import { patiently } from './wait.js';

const PAGE = readFileSync(resolve(import.meta.dirname, '../../docs/pm2.md'), 'utf8');

/** A row of the tables in docs/pm2.md, section Commands. */
export interface CommandRow {
  /** The first cell, without marks. */
  what: string;
  /** What is typed, one after the other. */
  commands: readonly string[];
  lost: '0' | 'not served';
  /** What serves afterwards. */
  envoy: 'the same' | 'another' | 'none';
}

/** The tables, by their headings. */
export const TABLES: readonly { heading: string; rows: readonly CommandRow[] }[] = [
  ...section(PAGE, 'Commands').matchAll(/^### (.+)$/gm),
].map(([, heading = '']) => ({
  heading,
  rows: tableRows(section(PAGE, heading)).map(rowOf),
}));

/** What a row needs besides its commands. */
export interface CommandCase {
  /** Options of pm2 that the apps are started with before. */
  options?: AppOptions;
  /** How many Envoys serve then; 1 by default. */
  instances?: number;
  /** What is there before, and takes no request. */
  prepare?(host: CommandHost): Promise<unknown> | undefined;
  /** Runs a command of the row, in place of pm2's command line alone. */
  run?(host: CommandHost, command: string): Promise<unknown>;
}

/** Rows that need more than their commands; the others are run as they are written. */
export const CASES: Readonly<Record<string, CommandCase>> = {
  'pm2 start FILE with a file of pm2-envoy init, as CommonJS, ESM, JSON and YAML': {
    run: async (host, command) => {
      for (const [format, end] of Object.entries(FORMATS)) {
        const { stdout } = await host.pm2.cli('init', '--format', format);
        const file = join(host.project, `ecosystem.config.${end}`);
        writeFileSync(file, stdout);
        await host.run(command.replace('FILE', file));
        await host.untilInstances(1);
      }
    },
  },
  'pm2 reload envoy with settings that are refused': {
    run: (host, command) =>
      withBadSettings(host, async () => {
        await assert.rejects(host.run(command), { code: 1 });
        await saysWhy(host);
      }),
  },
  'pm2 restart envoy with settings that are refused': {
    run: (host, command) =>
      withBadSettings(host, async () => {
        await host.run(command);
        await saysWhy(host);
      }),
  },
  'pm2 restart envoy with a bootstrap that Envoy refuses': {
    run: async (host, command) => {
      const file = String(host.pm2.settings['envoy-config']);
      const good = readFileSync(file, 'utf8');
      writeFileSync(file, 'no_such_field: 1\n');
      try {
        await host.run(command);
        await patiently('status to say it', async () =>
          /^last reload +failed at .*no_such_field/m.test((await host.pm2.cli('status')).stdout),
        );
      } finally {
        writeFileSync(file, good);
      }
    },
  },
  'pm2 reload FILE, where it is JSON or YAML, with settings that are refused': {
    run: async (host, command) => {
      for (const format of ['json', 'yaml'] as const) {
        const { stdout } = await host.pm2.cli('init', '--format', format);
        const file = join(host.project, `ecosystem.config.${format}`);
        writeFileSync(file, stdout);
        await withBadSettings(host, async () => {
          const said = await host.run(command.replace('FILE', file));
          assert.match(said, /Applying action reloadProcessId on app \[envoy\]/);
          assert.doesNotMatch(said, /\[envoy\]\(\d+\) ✓/);
          await saysWhy(host);
        });
        await host.run('pm2 restart envoy-manager');
        await host.pm2.untilReady();
      }
    },
  },
  'pm2 reload FILE with settings that are refused': {
    run: (host, command) =>
      withBadSettings(host, () => assert.rejects(host.run(command), /check-delay/)),
  },
  'pm2 reload 0': {
    // 90 s of its own otherwise.
    options: { envoy: { listen_timeout: 10_000 } },
  },
  'pm2 delete envoy-manager': {
    run: async (host, command) => {
      await host.run(command);
      await host.run('pm2 start FILE --only envoy-manager');
    },
  },
  'pm2 stop envoy-manager': {
    run: async (host, command) => {
      await host.run(command);
      await host.run('pm2 start envoy-manager');
    },
  },
  'pm2 scale envoy 2, then 1': {
    run: async (host, command) => {
      await host.run(command);
      await host.untilInstances(2);
      await host.run('pm2 scale envoy 1');
    },
  },
  'kill -9 of the daemon, then pm2 resurrect': {
    prepare: (host) => host.run('pm2 save'),
    run: async (host, command) => {
      process.kill(host.pm2.daemonPid(), 'SIGKILL');
      await host.run(command);
    },
  },
  'kill -9 of the daemon, then pm2 start FILE': {
    run: async (host, command) => {
      process.kill(host.pm2.daemonPid(), 'SIGKILL');
      await host.run(command);
    },
  },
  'watch: true': {
    options: { envoy: { watch: true, ignore_watch: ['ignored'] } },
    run: (host) =>
      anotherOne(host, () => writeFileSync(join(host.project, 'a-file'), String(Date.now()))),
  },
  cron_restart: {
    options: { envoy: { cron_restart: '*/15 * * * * *' } },
    run: async (host) => {
      await anotherOne(host);
      // Deleted before, it would be started once more.
      await patiently('it to be online', async () => {
        const { status } = await appOf(host, 'envoy');
        return status === 'online';
      });
    },
  },
  max_memory_restart: {
    options: { envoy: { max_memory_restart: '1M' }, manager: { max_memory_restart: '1M' } },
    run: async (host) => {
      await patiently(
        'the manager to be restarted',
        async () => Number((await appOf(host, 'envoy-manager')).restart_time) > 0,
      );
      assert.equal((await appOf(host, 'envoy')).restart_time, 0);
    },
  },
  'autorestart: false': {
    options: { envoy: { autorestart: false } },
    run: async (host) => {
      const runner = host.pm2.generations().at(-1)?.runner.pid ?? assert.fail('no runner');
      process.kill(runner, 'SIGKILL');
      await patiently('pm2 to see it', async () => (await host.pm2.pidOf('envoy')) === 0);
    },
  },
  'instances: 2': {
    options: { envoy: { instances: 2 } },
    instances: 2,
    run: (host) => host.run('pm2 reload envoy'),
  },
  'namespace: edge': {
    options: { envoy: { namespace: 'edge' }, manager: { namespace: 'edge' } },
    run: (host) => host.run('pm2 reload edge'),
  },
};

const FORMATS = { commonjs: 'js', esm: 'mjs', json: 'json', yaml: 'yaml' };

/** What pm2 has for an app. */
export async function appOf(host: CommandHost, name: string) {
  const app = (await host.apps()).find((one) => one['name'] === name);
  return (app?.['pm2_env'] ?? assert.fail(`no app ${name}`)) as Record<string, unknown>;
}

function rowOf([cell = '', lost = '', envoy = '']: string[]): CommandRow {
  assert.match(lost, /^(0|not served)$/, cell);
  assert.match(envoy, /^(the same|another|none)$/, cell);
  return {
    what: cell.replaceAll('`', ''),
    commands: [...cell.matchAll(/`(pm2 [^`]+)`/g)].map(([, command = '']) => command),
    lost: lost as CommandRow['lost'],
    envoy: envoy as CommandRow['envoy'],
  };
}

async function anotherOne(host: CommandHost, act: () => void = () => undefined): Promise<void> {
  const before = host.pm2.generations().at(-1)?.number ?? assert.fail('no generation');
  await patiently('another generation', () => {
    act();
    return host.pm2.generations().some(({ number, ready }) => ready && number > before);
  });
}

async function withBadSettings(host: CommandHost, act: () => Promise<unknown>): Promise<void> {
  const { env, settings } = host.pm2;
  const write = (all: unknown): void =>
    writeFileSync(String(env['PM2_ENVOY_CONFIG']), JSON.stringify(all));
  write({ ...settings, 'check-delay': '5' });
  try {
    await act();
  } finally {
    write(settings);
  }
}

/** Where the page has the reader look. */
async function saysWhy({ pm2 }: CommandHost): Promise<void> {
  await patiently('the log to say it', () => /check-delay: .*"5/.test(pm2.log('envoy')));
  const { code, stderr } = await pm2.cli('status');
  assert.equal(code, 78);
  assert.match(stderr, /check-delay: "5"/);
}
