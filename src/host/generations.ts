import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf, Pm2EnvoyError, systemCodeOf } from '../errors.js';
import type { BootstrapAdmin } from './bootstrap-admin.js';
import { readJson, writeJson } from './files.js';
import {
  findByCommandLine,
  isAlive,
  isElsewhere,
  isHidden,
  isOfThisSystem,
  ownIdentity,
  type ProcessIdentity,
  sameProcess,
} from './process-identity.js';
import { isBound } from './sockets.js';
import type { Supervisor } from './supervisor.js';

/** A folder for a generation whose Envoy is not started yet. */
export interface GenerationSlot {
  /** Counts up; a later generation has a higher number. */
  readonly number: number;
  readonly directory: string;
  readonly adminSocket: string;
}

/** What a generation was started with. */
export interface GenerationLaunch {
  binary: string;
  /** The user's bootstrap file, as it was then: {@link bootstrapCopyOf}. */
  bootstrap: string;
  /** `envoy-args` */
  args: readonly string[];
  drainTimeMs: number;
}

/** One Envoy process and its folder in the run directory. */
export interface Generation extends GenerationSlot {
  readonly envoy: ProcessIdentity;
  /** The runner that is responsible for it. */
  readonly runner: ProcessIdentity;
  /** Which pm2 and app the runner belongs to; undefined when that was not recorded any more. */
  readonly supervisor: Supervisor | undefined;
  /** `1.40.0`; undefined until it has been LIVE. */
  readonly version: string | undefined;
  /** What it was started with; undefined when that was not recorded any more. */
  readonly launch: GenerationLaunch | undefined;
  /** What its bootstrap says of the admin interface, which has another address here; undefined: not known. */
  readonly admin?: BootstrapAdmin | undefined;
  /** When its Envoy was started, as an ISO 8601 instant. */
  readonly startedAt: string;
  /** It has been LIVE. */
  readonly ready: boolean;
  /** Its runner has lost pm2: no one but the next runner will tell it to stop. */
  readonly orphaned: boolean;
  /** When its runner has left it to the next one, for a restart by pm2; ISO 8601. */
  readonly leftAt?: string;
  /** Why the latest attempt to replace it failed. */
  readonly failedReload?: { at: string; reason: string; code?: string };
  /**
   * The newest drain of the host that it was asked for in spite of: it and earlier ones are not about this
   * generation. Undefined: an earlier version of pm2-envoy has started it.
   */
  readonly afterDrain?: number;
}

/** The generations of one run directory. Reading never fails: what can't be read is not there. */
export interface Generations {
  /** Those whose Envoy process exists, oldest first. */
  live(): Generation[];
  /** The newest of {@link live} that has been LIVE; the newest of all when none has. */
  newest(): Generation | undefined;
  /** Whether a runner is about to start an Envoy: it has a folder, and is not recorded yet. */
  isAnyReserved(): boolean;
  /** The highest {@link Generation.afterDrain} of any generation that is recorded, ended or not. */
  lastAfterDrain(): number;
  /** Makes the folder of the next generation. */
  reserve(): GenerationSlot;
  /** Records who runs in a folder; also used to change the runner. */
  write(generation: Generation): void;
  /** Removes folders of ended generations but the newest: others may still read how its drain ended. */
  prune(): void;
}

/** The folders of the generations of a run directory, of ended ones too, in the order of their numbers. */
export function generationFolders(runDir: string): { number: number; directory: string }[] {
  const root = rootOf(runDir);
  return readNumbers(root).map((number) => ({ number, directory: join(root, String(number)) }));
}

/** Whether an Envoy of this boot and this container has been recorded: alive or not. */
export function hasHadEnvoy(runDir: string): boolean {
  return generationFolders(runDir).some(({ directory }) => {
    const { envoy } = (readJson(join(directory, 'generation.json')) ?? {}) as Partial<Generation>;
    return isIdentity(envoy) && isOfThisSystem(envoy);
  });
}

/** Generations that a runner in another container has started: whether their Envoys live only they can say. */
export function generationsOfContainers(runDir: string): Generation[] {
  const root = rootOf(runDir);
  return readNumbers(root)
    .map((number) => readGeneration(root, number))
    .filter((generation) => generation !== undefined)
    .filter(({ envoy }) => isElsewhere(envoy));
}

/** Opens the generations below a run directory. */
export function openGenerations(runDir: string): Generations {
  const root = rootOf(runDir);
  const numbers = (): number[] => readNumbers(root);
  const live = (): Generation[] =>
    numbers()
      .map((number) => readGeneration(root, number))
      .filter((generation) => generation !== undefined)
      .filter(isThere);
  return {
    live,
    newest: () => newestOf(live()),
    isAnyReserved: () => numbers().some((number) => isReserved(join(root, String(number)))),
    lastAfterDrain: () =>
      Math.max(0, ...numbers().map((number) => readAfterDrain(join(root, String(number))))),
    reserve: () => reserve(root, (numbers().at(-1) ?? 0) + 1),
    write: (generation) => writeJson(join(generation.directory, 'generation.json'), generation),
    prune: () => prune(root, numbers(), live()),
  };
}

/** One that can't be inspected holds its admin socket as long as it lives, unlike a later process with its pid. */
function isThere({ envoy, adminSocket }: Generation): boolean {
  return isAlive(envoy) && !(isHidden(envoy) && isBound(adminSocket) === false);
}

/** The newest generation that has been LIVE; the newest of all when none has. */
export function newestOf(live: readonly Generation[]): Generation | undefined {
  return live.findLast(({ ready }) => ready) ?? live.at(-1);
}

/** Whether a live runner is responsible for this generation, and pm2 still runs that runner. */
export function isAttended(generation: Generation): boolean {
  return !generation.orphaned && isAlive(generation.runner);
}

/** The earlier generations whose Envoy still runs, oldest first. */
export function predecessorsOf(own: GenerationSlot, generations: Generations): Generation[] {
  return generations.live().filter(({ number }) => number < own.number);
}

/**
 * The later generations that a live runner is responsible for, LIVE or still starting. One whose runner has lost
 * pm2 serves all the same.
 */
export function successorsOf(own: Generation, generations: Generations): Generation[] {
  return generations
    .live()
    .filter((generation) => generation.number > own.number && isAlive(generation.runner));
}

/** Whether `runner` is the one that is responsible for this generation, as the run directory has it now. */
export function isRunBy(generation: Generation, runner: ProcessIdentity): boolean {
  const json = readJson(join(generation.directory, 'generation.json')) as Generation | undefined;
  return !isIdentity(json?.runner) || sameProcess(json.runner, runner);
}

/**
 * Whether the run directory knows nothing of this generation any more: it was removed, and perhaps made
 * again. Its socket can't be reached then, or is another Envoy's.
 */
export function isLost(generation: Generation): boolean {
  const json = readJson(join(generation.directory, 'generation.json')) as Generation | undefined;
  if (isIdentity(json?.envoy)) return !sameProcess(json.envoy, generation.envoy);
  return !existsSync(generation.adminSocket);
}

/** The copy of the bootstrap that a generation was started with: what a redeploy compares with. */
export function bootstrapCopyOf({ directory }: GenerationSlot): string {
  return join(directory, 'bootstrap');
}

function reserve(root: string, from: number): GenerationSlot {
  try {
    mkdirSync(root, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new Pm2EnvoyError('run-dir-unusable', `${root} can't be created: ${messageOf(error)}`, {
      cause: error,
    });
  }
  for (let number = from; ; number += 1) {
    const directory = join(root, String(number));
    try {
      mkdirSync(directory, { mode: 0o700 });
      writeJson(join(directory, 'runner.json'), ownIdentity());
      return { number, directory, adminSocket: join(directory, 'admin.sock') };
    } catch (error) {
      if (systemCodeOf(error) === 'EEXIST') continue;
      rmSync(directory, { recursive: true, force: true });
      throw new Pm2EnvoyError(
        'envoy-start-failed',
        `generation ${number} has no folder of its own (${messageOf(error)}): is there room on the disk of ${root}?`,
        { cause: error },
      );
    }
  }
}

function rootOf(runDir: string): string {
  return join(runDir, 'generations');
}

function readNumbers(root: string): number[] {
  try {
    return readdirSync(root)
      .filter((name) => /^\d{1,6}$/.test(name))
      .map(Number)
      .sort((a, b) => a - b);
  } catch {
    return [];
  }
}

function readGeneration(root: string, number: number): Generation | undefined {
  const directory = join(root, String(number));
  const json = readJson(join(directory, 'generation.json'));
  if (isGeneration(json)) return { ...checked(json), number, directory };
  return recover(number, directory);
}

/**
 * An Envoy that is not recorded: its runner is just about to, or has died in between. Envoy's
 * command line names the socket.
 */
function recover(number: number, directory: string): Generation | undefined {
  const adminSocket = join(directory, 'admin.sock');
  const envoy = findByCommandLine(`"path":"${adminSocket}"`);
  if (!envoy) return undefined;
  const reserved = readJson(join(directory, 'runner.json'));
  const runner = isIdentity(reserved) ? reserved : { pid: 0, startTime: 'unknown' };
  const startedAt = new Date().toISOString();
  return {
    supervisor: undefined,
    version: undefined,
    launch: undefined,
    number,
    directory,
    adminSocket,
    envoy,
    runner,
    startedAt,
    ready: false,
    orphaned: false,
  };
}

function isGeneration(json: unknown): json is Generation {
  const { envoy, runner, adminSocket } = (json ?? {}) as Partial<Generation>;
  return isIdentity(envoy) && isIdentity(runner) && typeof adminSocket === 'string';
}

/** Another version of pm2-envoy may have written it: what is not as it should be is not known. */
function checked(json: Generation): Generation {
  const { supervisor, version, launch, admin, failedReload, afterDrain, leftAt } = json;
  const { at, reason, code } = failedReload ?? {};
  const isFailure = typeof at === 'string' && typeof reason === 'string';
  const { failedReload: _, afterDrain: __, leftAt: ___, ...rest } = json;
  return {
    ...rest,
    supervisor: typeof supervisor?.home === 'string' ? supervisor : undefined,
    version: typeof version === 'string' ? version : undefined,
    launch:
      typeof launch?.binary === 'string' &&
      typeof launch.bootstrap === 'string' &&
      Array.isArray(launch.args)
        ? launch
        : undefined,
    admin: Array.isArray(admin?.allowPaths) ? admin : undefined,
    ...(isFailure
      ? { failedReload: { at, reason, ...(typeof code === 'string' ? { code } : {}) } }
      : {}),
    ...(typeof afterDrain === 'number' ? { afterDrain } : {}),
    ...(typeof leftAt === 'string' ? { leftAt } : {}),
  };
}

function isIdentity(value: unknown): value is ProcessIdentity {
  const { pid, startTime, namespace = '' } = (value ?? {}) as Partial<ProcessIdentity>;
  return Number.isInteger(pid) && typeof startTime === 'string' && typeof namespace === 'string';
}

function readAfterDrain(directory: string): number {
  const { afterDrain } = readJson(join(directory, 'generation.json')) ?? {};
  return typeof afterDrain === 'number' ? afterDrain : 0;
}

/** A folder without a generation yet, whose runner is about to start Envoy. */
function isReserved(directory: string): boolean {
  if (existsSync(join(directory, 'generation.json'))) return false;
  const runner = readJson(join(directory, 'runner.json'));
  return isIdentity(runner) && isAlive(runner);
}

function prune(root: string, numbers: readonly number[], live: readonly Generation[]): void {
  const kept = new Set(live.map(({ number }) => number));
  const ended = numbers
    .filter((number) => !kept.has(number) && !isReserved(join(root, String(number))))
    .slice(0, -1);
  for (const number of ended) rmSync(join(root, String(number)), { recursive: true, force: true });
}
