import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { messageOf } from '../errors.js';
import { readText } from '../host/files.js';
import type { Generation, GenerationSlot } from '../host/generations.js';
import { PACKAGE_ROOT } from '../package-root.js';
import {
  MARK_SECRET,
  markSecret,
  readUdpListeners,
  type UdpListener,
  type UdpListeners,
} from './bootstrap-listeners.js';
import { mayHaveUdp } from './bootstrap-text.js';
import { attachNothingFilter, udpFilter } from './filter.js';
import { readSteering } from './layout.js';
import { type Libc, loadLibc } from './libc.js';

/** Marks that quic_lb takes as a configuration_version. */
const MARKS = [0, 1, 2, 3, 4, 5, 6];

/** Whether and how the UDP listeners of a bootstrap can be steered. */
export type Outlook =
  | { kind: 'no-udp' }
  | {
      kind: 'unsteered';
      reason: string;
      remedy: string;
      listeners: readonly UdpListener[];
      directed: string;
    }
  | { kind: 'steered'; listeners: readonly UdpListener[]; marked: string; libc: Libc };

/** What a generation with UDP listeners is started with, beside what every one is. */
export interface Prepared {
  readonly listeners: readonly UdpListener[];
  readonly mark: number | null;
  /** Instead of the user's bootstrap. */
  readonly bootstrap: string;
  /** More root keys for `--config-yaml`. */
  readonly overrides: object;
  /** What is started in Envoy's place, before its binary; empty: nothing. */
  readonly launcher: readonly string[];
}

/** Says whether a bootstrap's UDP listeners can be steered on this host. Changes nothing. */
export async function outlookOf(bootstrap: string, binary: string): Promise<Outlook> {
  const text = readText(bootstrap);
  const found = text !== undefined && mayHaveUdp(bootstrap) ? readUdpListeners(text) : undefined;
  if (!found || found.listeners.length === 0) return { kind: 'no-udp' };
  const { listeners, marked } = found;
  const unsteered = ([reason, remedy]: Obstacle): Outlook => {
    return { kind: 'unsteered', reason, remedy, listeners, directed: found.directed };
  };
  const hasQuic = listeners.some(({ carries }) => carries === 'quic');
  const obstacle = hostObstacle() ?? bootstrapObstacle(found);
  if (obstacle) return unsteered(obstacle);
  try {
    const libc = await loadLibc();
    tryOut(libc);
    if (hasQuic && !isRoot() && libc.hasFileCapabilities(binary)) {
      return unsteered([
        `${binary} has file capabilities, which it can't use under a seccomp filter`,
        'give the capability to pm2 (AmbientCapabilities= in its unit), or set net.ipv4.ip_unprivileged_port_start',
      ]);
    }
    return { kind: 'steered', listeners, marked, libc };
  } catch (error) {
    return unsteered([
      `packets can't be steered in the kernel: ${messageOf(error).split('\n')[0]}`,
      'install the package koffi for this platform, and let the process attach a program to its sockets (SO_ATTACH_REUSEPORT_CBPF)',
    ]);
  }
}

/** What stands in the way, and what to do about it. */
type Obstacle = readonly [reason: string, remedy: string];

function hostObstacle(): Obstacle | undefined {
  const { platform, arch } = process;
  if (platform !== 'linux') return [`it is not possible on ${platform}`, 'run it on Linux'];
  if (!attachNothingFilter(arch)) return [`not on ${arch}`, 'run it on x64 or arm64'];
  return undefined;
}

function bootstrapObstacle({
  listeners,
  foreign,
  unmarkable,
  hasLds,
}: UdpListeners): Obstacle | undefined {
  if (listeners.some(({ port }) => !(port > 0))) {
    return ['a UDP listener has no fixed port', 'give each a port_value'];
  }
  if (foreign.length > 0) {
    return [
      `${foreign.join(', ')} has its own connection_id_generator_config`,
      `leave it out, or make it quic_lb with a server_id of one byte, nonce_length_bytes 4 and the secret ${MARK_SECRET}`,
    ];
  }
  if (hasLds && listeners.some(({ carries }) => carries === 'quic')) {
    return [
      'listeners come from a control plane as well (lds_config)',
      'put all listeners into the bootstrap of this Envoy',
    ];
  }
  if (unmarkable.length === 0) return undefined;
  return [
    `nothing can be put into the quic_options of ${unmarkable.join(', ')}`,
    'write them as a map, such as `quic_options: {}`',
  ];
}

/** A group of its own, of one socket, on a port that the system chooses. */
function tryOut(libc: Libc): void {
  const socket = libc.join({ family: 4, bytes: Buffer.from([127, 0, 0, 1]), port: 0 }, false);
  try {
    libc.attach(socket, udpFilter([0]));
  } finally {
    libc.close(socket);
  }
}

/** The same for one that can't be steered: its TCP listeners can then be closed before the others. */
export function prepareUnsteered(
  { listeners, directed }: Extract<Outlook, { kind: 'unsteered' }>,
  slot: GenerationSlot,
  from: { bootstrap: string },
): Prepared {
  const bootstrap = join(slot.directory, `marked${extname(from.bootstrap)}`);
  writeFileSync(bootstrap, directed, { mode: 0o600 });
  return { listeners, mark: null, bootstrap, overrides: {}, launcher: [] };
}

/** Writes what a generation of this outlook is started with into its folder. */
export function prepare(
  outlook: Extract<Outlook, { kind: 'steered' }>,
  slot: GenerationSlot,
  from: { bootstrap: string; live: readonly Generation[] },
): Prepared {
  const { listeners, marked } = outlook;
  if (!listeners.some(({ carries }) => carries === 'quic')) {
    return { listeners, mark: null, bootstrap: from.bootstrap, overrides: {}, launcher: [] };
  }
  const mark = freeMark(slot.number, from.live);
  // Envoy knows the format by the extension.
  const bootstrap = join(slot.directory, `marked${extname(from.bootstrap)}`);
  writeFileSync(bootstrap, marked, { mode: 0o600 });
  return {
    listeners,
    mark,
    bootstrap,
    overrides: markSecret(mark, randomBytes(16)),
    launcher: [process.execPath, join(PACKAGE_ROOT, 'dist/steering/launch.js')],
  };
}

/** One that no connection of another generation has. */
function freeMark(number: number, live: readonly Generation[]): number {
  const taken = new Set(live.map((generation) => readSteering(generation)?.mark));
  const from = number % MARKS.length;
  const inTurn = [...MARKS.slice(from), ...MARKS.slice(0, from)];
  return inTurn.find((mark) => !taken.has(mark)) ?? from;
}

function isRoot(): boolean {
  return process.getuid?.() === 0;
}
