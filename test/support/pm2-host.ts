import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { startBackendProcess } from './backend.js';
import { preparePm2, type TestPm2 } from './pm2.js';
import { TRAFFIC_KINDS } from './traffic/tally.js';
import { startTraffic, type Traffic, type TrafficKind, type TrafficReport } from './traffic.js';
import { eventually } from './wait.js';

const INDEX = resolve(import.meta.dirname, '../../dist/index.js');
const LIMIT_MS = 60_000;
/** Busy clients leave an old generation within `envoy-drain-time`. */
const SETTINGS = { 'envoy-drain-time': '1s', 'drain-timeout': '20s' };
const LOAD = { keepAlive: 4, sessions: 1, newPerSecond: 150, slowMs: 1_000 };

/**
 * What may wait in the accept queue when a listener closes, of an Envoy that had no turn for a second: that is reset
 * where no other Envoy listens.
 */
export const ACCEPT_QUEUE = LOAD.newPerSecond + 10;

/** A project under a pm2 of its own, with clients of its Envoy. */
export interface CommandHost {
  pm2: TestPm2;
  /** The ecosystem file, `FILE` in the commands. */
  file: string;
  /** The folder that it is in. */
  project: string;
  traffic: Traffic;
  /** Runs `pm2 …` as it is typed; gives what it prints. */
  run(command: string): Promise<string>;
  /** Writes the ecosystem file with more options of pm2 for both apps, or as it was. */
  write(options?: AppOptions): void;
  /** Waits until the manager answers and that many generations serve, none of them older than `number`. */
  untilInstances(count: number, number?: number): Promise<void>;
  /** Waits until no Envoy of the project is left. */
  untilGone(): Promise<void>;
  /** What `pm2 jlist` has. */
  apps(): Promise<Record<string, unknown>[]>;
  stop(): Promise<void>;
}

/** Options of pm2, for `envoy` and for `envoy-manager`. */
export interface AppOptions {
  envoy?: Readonly<Record<string, unknown>>;
  manager?: Readonly<Record<string, unknown>>;
}

/**
 * Starts the apps from an ecosystem file of the project's own, and the clients.
 *
 * @param script bin/pm2 of another version
 */
export async function startCommandHost(script?: string): Promise<CommandHost> {
  const pm2 = await preparePm2(SETTINGS, startBackendProcess);
  if (script) pm2.usePm2(script);
  // How often pm2 looks at max_memory_restart; every 30 s otherwise.
  pm2.env['PM2_WORKER_INTERVAL'] = '1000';
  const project = join(pm2.folder, 'project');
  const file = join(project, 'ecosystem.config.cjs');
  mkdirSync(project);
  const write = ({ envoy, manager }: AppOptions = {}): void =>
    writeFileSync(
      file,
      `const { envoyApps } = require('${INDEX}');
const [envoy, manager] = envoyApps({ cwd: __dirname });
module.exports.apps = [{ ...envoy, ...${JSON.stringify(envoy ?? {})} }, { ...manager, ...${JSON.stringify(manager ?? {})} }];\n`,
    );
  const run = (command: string): Promise<string> => pm2.pm2(...wordsOf(command, file));
  const apps = async () => JSON.parse(await pm2.pm2('jlist')) as Record<string, unknown>[];
  const untilInstances = async (count: number, number = 0): Promise<void> => {
    const isSo = (): boolean => {
      const all = pm2.generations();
      return all.length === count && all.every((one) => one.ready && one.number >= number);
    };
    await eventually(`${count} generations from ${number} on`, isSo, LIMIT_MS);
    await pm2.untilReady();
  };
  write();
  try {
    await run('pm2 start FILE');
    await untilInstances(1);
    const { http, tcp } = pm2.ports;
    const traffic = await startTraffic({ http, tcp }, LOAD);
    return {
      pm2,
      file,
      project,
      traffic,
      run,
      write,
      untilInstances,
      untilGone: async () => {
        await eventually('no Envoy', () => pm2.generations().length === 0, LIMIT_MS);
      },
      apps,
      stop: async () => {
        traffic.kill();
        await pm2.stop();
      },
    };
  } catch (error) {
    await pm2.stop();
    throw error;
  }
}

/** What there was between two looks; `cut`: lost, though there was a connection. */
export function between(before: TrafficReport, after: TrafficReport) {
  const cutOf = (kind: TrafficKind): number => {
    const [first, last] = [before.kinds[kind], after.kinds[kind]];
    return last.lost - last.refused - (first.lost - first.refused);
  };
  return {
    requests: after.requests - before.requests,
    lost: after.lost - before.lost,
    cut: TRAFFIC_KINDS.reduce((sum, kind) => sum + cutOf(kind), 0),
    slowCut: cutOf('slow'),
  };
}

/** The words of a command as a shell gives them; without `pm2`. */
function wordsOf(command: string, file: string): string[] {
  const [first, ...words] = [...command.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map(
    ([, double, single, bare]) => double ?? single ?? bare ?? '',
  );
  assert.equal(first, 'pm2', command);
  return words.map((word) => (word === 'FILE' ? file : word));
}
