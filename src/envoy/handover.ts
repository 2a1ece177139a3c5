import { type AdminClient, createAdminClient } from '../admin/client.js';
import type { ConfiguredListener, ListenAddress, RunningListener } from '../admin/listeners.js';
import { messageOf, Pm2EnvoyError } from '../errors.js';
import type { Generation } from '../host/generations.js';
import { pathOf } from '../host/socket-paths.js';
import type { Log } from '../log.js';
import { covers } from './proof.js';

/** What can be said of a hand-over before anything happens. */
export interface HandoverPlan {
  /** Why it can't be: listeners that a second Envoy can't open beside the first. */
  obstacles: readonly string[];
  /** Addresses that the bootstrap does not have any more. */
  removed: readonly string[];
  /** What clients will see, or what is not known. */
  notes: readonly string[];
  /** Absolute paths of unix sockets, which the new Envoy takes over ({@link keepSocketPaths}). */
  socketPaths: readonly string[];
}

/** What {@link planHandover} has read. */
export interface HandoverFacts {
  number: number;
  running: readonly RunningListener[];
  configs: readonly ConfiguredListener[];
  /** Of the bootstrap that the new Envoy will read; undefined: it can't be read here. */
  wanted: readonly ConfiguredListener[] | undefined;
}

/**
 * Asks the generation in service for its listeners, and compares them with those of the bootstrap that a
 * new one would be started with. Never rejects: what can't be told is a note.
 *
 * @param wanted from {@link readBootstrap}; undefined: Envoy did not tell
 */
export async function planHandover(
  before: Generation,
  wanted: HandoverFacts['wanted'],
): Promise<HandoverPlan> {
  const admin = createAdminClient({ kind: 'unix', path: before.adminSocket });
  try {
    const running = await admin.listeners();
    const configs = await admin.listenerConfigs();
    const plan = compareListeners({ number: before.number, running, configs, wanted });
    const { pid } = before.envoy;
    // A host that was drained: nothing of it listens any more.
    const isClosed = await hasClosed(admin);
    return {
      ...plan,
      obstacles: isClosed ? [] : plan.obstacles,
      socketPaths: isClosed ? [] : plan.socketPaths.map((path) => pathOf(pid, path)),
    };
  } catch (error) {
    const note = `generation ${before.number} does not say what it listens on: ${messageOf(error)}`;
    return { obstacles: [], removed: [], notes: [note], socketPaths: [] };
  } finally {
    admin.close();
  }
}

/** The modes that an Envoy sets for its unix sockets, by absolute path. */
export async function socketModes(
  { adminSocket, envoy }: Generation,
  log: Log,
): Promise<ReadonlyMap<string, number>> {
  const admin = createAdminClient({ kind: 'unix', path: adminSocket });
  try {
    const all = (await admin.listenerConfigs()).flatMap(({ addresses }) => addresses);
    return new Map(
      all.flatMap(({ text, mode }) => (mode ? [[pathOf(envoy.pid, text), mode] as const] : [])),
    );
  } catch (error) {
    log.warn(`the modes of unix sockets can't be told: ${messageOf(error)}`);
    return new Map();
  } finally {
    admin.close();
  }
}

/** Whether `drain_listeners` has closed its listeners (docs/facts/envoy.md). */
async function hasClosed(admin: AdminClient): Promise<boolean> {
  const filter = '^listener_manager\\.listener_stopped$';
  const { stats } = await admin.stats({ type: 'Counters', filter });
  return stats.some(({ value }) => value > 0);
}

/** The error for a hand-over that can't be. */
export function notRedeployable(obstacles: readonly string[]): Pm2EnvoyError {
  return new Pm2EnvoyError(
    'listener-not-redeployable',
    `a new Envoy can't be started next to the one in service: ${obstacles.join('; ')}`,
  );
}

/** The same, of what was read (pure). */
export function compareListeners({
  number,
  running,
  configs,
  wanted,
}: HandoverFacts): HandoverPlan {
  const obstacles: string[] = [];
  const removed: string[] = [];
  const notes: string[] = [];
  const socketPaths: string[] = [];
  for (const { name, addresses } of running) {
    const old = configs.find((one) => one.name === name);
    if (old?.takesAnyPort) {
      notes.push(
        `listener ${name} has a port_value of 0: each generation listens on another port, and this one's (${addresses.map(({ text }) => text).join(', ')}) closes`,
      );
      continue;
    }
    if (old?.isDynamic && old.isUdp) {
      notes.push(
        `listener ${name} (${addresses.map(({ text }) => text).join(', ')}) comes from LDS, so its UDP packets are not steered: from a reload or restart until the old Envoy has ended (at most drain-timeout), new HTTP/3 connections fail; sessions of a UDP proxy are cut. Put it into the bootstrap`,
      );
    }
    for (const address of addresses) {
      const { kind, text } = address;
      if (kind === 'unix') socketPaths.push(text);
      // LDS will most likely name it again.
      const next = old?.isDynamic ? old : wanted?.find((one) => listensOn(one, address));
      if (!next && wanted) removed.push(`${text} (listener ${name})`);
      const obstacle = obstacleOf(address, { old, next, number, name });
      if (obstacle && (next || !wanted)) obstacles.push(obstacle);
    }
  }
  if (!wanted) notes.push('the listeners of the bootstrap can’t be read, so they are not compared');
  return { obstacles, removed, notes, socketPaths };
}

function obstacleOf(
  { kind, text }: ListenAddress,
  {
    old,
    next,
    number,
    name,
  }: {
    old: ConfiguredListener | undefined;
    next: ConfiguredListener | undefined;
    number: number;
    name: string;
  },
): string | undefined {
  if (kind === 'abstract') {
    return `listener ${name} listens on the abstract socket ${text}, which only one process can have: use a path or a port, or stop and start Envoy`;
  }
  if (kind !== 'ip') return undefined;
  const remedy =
    'leave it out (true is Envoy’s default) and stop and start Envoy once; or always stop and start it';
  if (old?.reusesPort === false) {
    return `listener ${name} was opened on ${text} with enable_reuse_port: false, so no other Envoy can listen there while generation ${number} does: ${remedy}`;
  }
  if (next?.reusesPort === false) {
    return `listener ${name} has enable_reuse_port: false now, so it can't listen on ${text} while generation ${number} does: ${remedy}`;
  }
  return undefined;
}

function listensOn({ addresses }: ConfiguredListener, address: ListenAddress): boolean {
  return addresses.some((one) => covers(one, address));
}
