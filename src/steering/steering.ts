import { readFileSync } from 'node:fs';
import { type Clock, systemClock } from '../clock.js';
import { messageOf } from '../errors.js';
import {
  type Generation,
  type GenerationSlot,
  type Generations,
  generationFolders,
  predecessorsOf,
} from '../host/generations.js';
import type { Log } from '../log.js';
import type { UdpListener } from './bootstrap-listeners.js';
import { type Group, openGroup, type Routes } from './group.js';
import {
  type Place,
  readSteering,
  type SteeringRecord,
  type SteeringState,
  writeSteering,
} from './layout.js';
import { type Libc, loadLibc } from './libc.js';
import { compact, type Held, isOf, routesOf } from './order.js';
import { outlookOf, type Prepared, prepare, prepareUnsteered } from './prepare.js';
import { inodesOf, showAddress, type UdpSocket, udpSockets } from './udp-sockets.js';

/** Sends each UDP packet to the generation that it is for. Nothing here throws: without it Envoy serves too. */
export interface Steering {
  /** Before an Envoy is started; undefined: it has no UDP listeners, or they can't be steered. */
  prepare(
    slot: GenerationSlot,
    from: { bootstrap: string; binary: string },
  ): Promise<Prepared | undefined>;
  /** Once it is LIVE: from now on it gets what is new, and the older ones what is theirs. */
  takeOver(generation: Generation): Promise<void>;
  /** This runner is responsible for a generation that it did not start. */
  adopt(generation: Generation): Promise<void>;
  /** Stops looking after it; what has been set stays. */
  close(): void;
}

const SETTLE_POLL_MS = 100;
/** A probe names a place by one byte. */
const MOST_PLACES = 250;

/** Creates the steering of one runner. */
export function createSteering(options: {
  generations: Generations;
  runDir: string;
  log: Log;
  clock?: Clock;
}): Steering {
  const { generations, runDir, log, clock = systemClock } = options;
  let libc: Libc | undefined;
  const held: Held[] = [];
  const closing = new AbortController();
  const isNewest = ({ number }: GenerationSlot): boolean =>
    (generationFolders(runDir).at(-1)?.number ?? number) <= number;
  const order = { held, isNewest, clock, log, signal: closing.signal };

  return {
    prepare: async (slot, { bootstrap, binary }) => {
      const outlook = await outlookOf(bootstrap, binary);
      if (outlook.kind === 'no-udp') return undefined;
      const { listeners } = outlook;
      const record = { listeners, mark: null, groups: [] };
      try {
        if (outlook.kind === 'unsteered') {
          const { reason, remedy } = outlook;
          note(slot, { ...record, state: 'unsteered', reason }, log);
          log.warn(`${unsteeredWarning(listeners, reason)}: ${remedy}`);
          return prepareUnsteered(outlook, slot, { bootstrap });
        }
        ({ libc } = outlook);
        const prepared = prepare(outlook, slot, { bootstrap, live: generations.live() });
        note(slot, { ...record, mark: prepared.mark, state: 'starting' }, log);
        return prepared;
      } catch (error) {
        note(slot, { ...record, state: 'unsteered', reason: messageOf(error) }, log);
        log.warn(unsteeredWarning(listeners, messageOf(error)));
        return undefined;
      }
    },

    takeOver: async (generation) => {
      const record = readSteering(generation);
      if (!libc || record?.state !== 'starting') return;
      try {
        const older = predecessorsOf(generation, generations);
        await takePlaces(generation, { record, older, held, libc, clock });
        noteState(generation, { state: 'steered', held }, log);
        const shown = held.map(({ group }) => showAddress(group.address)).join(', ');
        log.info(`UDP packets for ${shown} are steered by generation`);
      } catch (error) {
        for (const { group } of held.splice(0)) group.close();
        const reason = messageOf(error);
        log.warn(unsteeredWarning(record.listeners, reason));
        noteState(generation, { state: 'unsteered', reason, held }, log);
        return;
      }
      void settle(generation, order);
    },

    adopt: async (generation) => {
      const record = readSteering(generation);
      if (record?.state !== 'steered') return;
      try {
        libc ??= await loadLibc();
        const older = predecessorsOf(generation, generations);
        await rejoin(generation, { record, older, held, libc, clock });
      } catch (error) {
        log.warn(`UDP packets may be lost once the old runner has ended: ${messageOf(error)}`);
        return;
      }
      void settle(generation, order);
    },

    close: () => closing.abort(),
  };
}

/** What a generation's groups are joined with. */
interface Joining {
  record: SteeringRecord;
  /** The generations that it takes over from. */
  older: readonly Generation[];
  /** What this runner holds: gets each group as soon as it is joined. */
  held: Held[];
  libc: Libc;
  clock: Clock;
}

/** Joins the groups of a new generation's sockets, and has the kernel send it what is new. */
async function takePlaces(
  generation: Generation,
  { record, older, held, ...joining }: Joining,
): Promise<void> {
  if (record.mark !== null && !isRestricted(generation.envoy.pid)) {
    throw new Error('Envoy could not be put under a seccomp filter');
  }
  for (const { socket, carries, own } of groupsOf(generation, record.listeners)) {
    const before = placesBefore({ key: socket.key, older, carries, own });
    const ours = own.map((_, worker) => ({ generation: generation.number, worker }));
    const places = [...before, ...ours];
    // Until the count has been checked everything stays as it is.
    const routes = routesOf(places, before.some(isOf(older)) ? older : [generation]);
    const group = await join({ socket, carries, ...joining, places, first: before.length, routes });
    held.push({ group, places });
    group.route(routesOf(places, [...older, generation]));
    if (before.length === 0) group.close();
  }
}

/** Joins the groups of a generation that another runner has started. */
async function rejoin(
  generation: Generation,
  { record, older, held, ...joining }: Joining,
): Promise<void> {
  const sockets = udpSockets() ?? [];
  for (const { key, carries, places } of record.groups) {
    const socket = sockets.find((one) => one.key === key);
    const first = places.findIndex(isOf([generation]));
    if (!socket || first <= 0) continue;
    const routes = routesOf(places, [...older, generation]);
    const group = await join({ socket, carries, ...joining, places, first, routes });
    held.push({ group, places: [...places] });
  }
}

/** Waits until only sockets of ours are in front, and has the generation's take their places. */
async function settle(
  generation: Generation,
  order: {
    held: readonly Held[];
    isNewest: (slot: GenerationSlot) => boolean;
    clock: Clock;
    log: Log;
    signal: AbortSignal;
  },
): Promise<void> {
  const { held, isNewest, clock, log, signal } = order;
  while (!signal.aborted && held.some(({ group }) => group.fillers() > 0)) {
    await clock.sleep(SETTLE_POLL_MS, signal);
    if (signal.aborted) return;
    for (const one of held) {
      const own = one.places.filter((place) => place?.generation === generation.number).length;
      const isAlone = one.group.size() === own + one.group.fillers();
      if (one.group.fillers() === 0 || !isAlone || !isNewest(generation)) continue;
      await compact(one, generation, isNewest).catch((error: unknown) => {
        log.warn(`${showAddress(one.group.address)} can't be put in order: ${messageOf(error)}`);
      });
      noteState(generation, { state: 'steered', held }, log);
    }
  }
}

function note(slot: GenerationSlot, record: SteeringRecord, log: Log): void {
  try {
    writeSteering(slot, record);
  } catch (error) {
    log.warn(`steering.json of generation ${slot.number} can't be written: ${messageOf(error)}`);
  }
}

function noteState(
  slot: GenerationSlot,
  now: { state: SteeringState; reason?: string; held: readonly Held[] },
  log: Log,
): void {
  const record = readSteering(slot);
  if (!record) return;
  const { held, ...known } = now;
  const groups = held.map(({ group: { key, carries }, places }) => ({ key, carries, places }));
  const { reason: _, ...rest } = record;
  note(slot, { ...rest, ...known, groups }, log);
}

/** What clients will see where a host's UDP listeners can't be steered. */
export function unsteeredWarning(listeners: readonly UdpListener[], reason: string): string {
  const names = (kind: UdpListener['carries']): string =>
    listeners
      .filter(({ carries }) => carries === kind)
      .map(({ name }) => name)
      .join(', ');
  const quic = names('quic');
  const udp = names('udp');
  const sees = [
    ...(quic
      ? [
          `HTTP/3 (${quic}): new connections fail at the end of each hand-over, while the last requests complete, and idle ones are cut then`,
        ]
      : []),
    ...(udp ? [`UDP (${udp}): sessions are cut, and datagrams lost`] : []),
  ];
  return `a reload or restart loses some of ${sees.join('; ')} (${reason})`;
}

/** The groups that a generation's listeners have sockets in, with as many as it has workers. */
function groupsOf(
  { envoy, number }: Generation,
  listeners: readonly UdpListener[],
): { socket: UdpSocket; carries: UdpListener['carries']; own: UdpSocket[] }[] {
  const inodes = inodesOf(envoy.pid);
  const own = (udpSockets() ?? []).filter(({ inode }) => inodes.has(inode));
  return listeners.flatMap(({ port, carries, name }) => {
    const sockets = own.filter(({ address }) => address.port === port);
    if (sockets.length === 0) {
      throw new Error(`no socket of generation ${number} was found for the listener ${name}`);
    }
    const firsts = sockets.filter(
      ({ key }, index) => sockets.findIndex((socket) => socket.key === key) === index,
    );
    return firsts.map((socket) => ({
      carries,
      own: sockets.filter(({ key }) => key === socket.key),
      socket,
    }));
  });
}

/** What is known of the places in front of a generation's own. */
function placesBefore(from: {
  key: string;
  older: readonly Generation[];
  carries: UdpListener['carries'];
  own: readonly UdpSocket[];
}): Place[] {
  const { key, older, own } = from;
  const all = (udpSockets() ?? []).filter((socket) => socket.key === key);
  const count = all.length - own.length;
  const known = older
    .toReversed()
    .map((generation) => readSteering(generation)?.groups.find((group) => group.key === key))
    .find((group) => group !== undefined);
  if (known && known.places.length <= count) {
    return [...known.places, ...Array<Place>(count - known.places.length).fill(null)];
  }
  // No one has written it down: its own program takes worker 0 for the first, and so on.
  const newest = older.at(-1);
  const inodes = newest && inodesOf(newest.envoy.pid);
  const theirs = all.filter(({ inode }) => inodes?.has(inode)).length;
  return Array.from({ length: count }, (_, place) =>
    newest && theirs === count ? { generation: newest.number, worker: place } : null,
  );
}

/** Joins a group with as many fillers as there are sockets before the generation's own. */
async function join(from: {
  socket: UdpSocket;
  carries: UdpListener['carries'];
  libc: Libc;
  clock: Clock;
  places: readonly Place[];
  /** The generation's first place. */
  first: number;
  routes: Routes;
}): Promise<Group> {
  const { socket, places, first, routes, ...rest } = from;
  if (places.length + first > MOST_PLACES) throw new Error(`more than ${MOST_PLACES} sockets`);
  const kinds = socket.address.family === 6 ? [true, false] : [false];
  for (const v6Only of kinds) {
    const group = openGroup({ ...rest, key: socket.key, address: socket.address, v6Only });
    group.fill(Math.max(first, 1));
    // Where the first filler is shows how many there are in front of it.
    const at = group.size() - group.fillers();
    const found = await group.find([at], routes);
    if (found.size === 1) return group;
    group.close();
  }
  throw new Error(`the kernel does not accept a program for ${showAddress(socket.address)}`);
}

/** Whether a process has a seccomp filter more than this one (Linux 5.9 says so). */
function isRestricted(pid: number): boolean {
  return filtersOf(pid) > filtersOf(process.pid);
}

function filtersOf(pid: number): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(/^Seccomp_filters:\s+(\d+)/m.exec(status)?.[1] ?? 0);
  } catch {
    return 0;
  }
}
