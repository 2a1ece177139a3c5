import { join } from 'node:path';
import { readJson, writeJson } from '../host/files.js';
import type { GenerationSlot } from '../host/generations.js';
import type { UdpListener } from './bootstrap-listeners.js';
import type { Carries } from './group.js';

/** Whose a place in a group is; null: a filler's, or unknown. */
export type Place = { readonly generation: number; readonly worker: number } | null;

/** How a generation's UDP listeners are handed over. */
export type SteeringState =
  /** Each packet reaches its generation. */
  | 'steered'
  /** It could not be had, or not kept: see the reason. */
  | 'unsteered'
  /** Envoy is starting. */
  | 'starting';

/** What is recorded of a generation with UDP listeners: steering.json in its folder. */
export interface SteeringRecord {
  readonly state: SteeringState;
  /** Why it is unsteered. */
  readonly reason?: string;
  readonly listeners: readonly UdpListener[];
  /** In the connection ids of its QUIC connections; null: they have none. */
  readonly mark: number | null;
  /** Which places the sockets of each group had when it was written, from this generation's point of view. */
  readonly groups: readonly { key: string; carries: Carries; places: readonly Place[] }[];
}

/** Reads it; undefined: the generation has no UDP listeners, or it can't be read. */
export function readSteering(
  generation: Pick<GenerationSlot, 'directory'>,
): SteeringRecord | undefined {
  const json = readJson(join(generation.directory, 'steering.json')) as unknown;
  return isRecord(json) ? json : undefined;
}

/** Writes it; throws the system error. */
export function writeSteering(
  generation: Pick<GenerationSlot, 'directory'>,
  record: SteeringRecord,
): void {
  writeJson(join(generation.directory, 'steering.json'), record);
}

/** What a hand-over to a newer generation has to consider about UDP. */
export function udpHandover(
  from: Pick<GenerationSlot, 'directory'>,
  to: Pick<GenerationSlot, 'directory'> | undefined,
): { proxiesUdp: boolean; quicIsLast: boolean } {
  const old = readSteering(from);
  const state = to && readSteering(to)?.state;
  const had = (what: Carries): boolean =>
    old?.listeners.some(({ carries }) => carries === what) ?? false;
  return {
    // New datagrams reach the newer one: what comes back from upstream can be waited for.
    proxiesUdp: had('udp') && state === 'steered',
    quicIsLast: had('quic') && state === 'unsteered',
  };
}

function isRecord(json: unknown): json is SteeringRecord {
  const { state, listeners, groups } = (json ?? {}) as Partial<SteeringRecord>;
  return typeof state === 'string' && Array.isArray(listeners) && Array.isArray(groups);
}
