import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { generationFolders } from '../host/generations.js';
import { readRecord } from './record.js';
import type { DrainCommand, DrainResult } from './state.js';

/** A drain of the host, or a hand-over, that has ended. */
export interface EndedDrain {
  /** The same for one drain, whoever tells of it. */
  id: string;
  command: DrainCommand;
  /** Where nothing was recorded, only the outcome may be known. */
  result: Pick<DrainResult, 'outcome'> &
    Partial<Pick<DrainResult, 'durationMs' | 'connectionsLeft'>>;
}

/** A generation's records: a drain that was taken back leaves its own behind. */
const OF_GENERATION = /^(shutdown|handover)(-\d+)?\.json$/;
/** Records of an Envoy at `admin-address`. */
const OF_FOREIGN = /^shutdown-[0-9a-f]{12}(-\d+)?\.json$/;

/** Every drain and hand-over that has ended, as the records of a run directory tell, whichever process led it. */
export function readEnds(runDir: string): EndedDrain[] {
  const ofGenerations = generationFolders(runDir).flatMap(({ number, directory }) =>
    namesIn(directory).flatMap((name) => {
      const command = OF_GENERATION.exec(name)?.[1];
      if (!command) return [];
      return readEnd(join(directory, name), command === 'handover' ? number : undefined);
    }),
  );
  const ofForeign = namesIn(runDir)
    .filter((name) => OF_FOREIGN.test(name))
    .flatMap((name) => readEnd(join(runDir, name)));
  return [...ofGenerations, ...ofForeign];
}

/** The host's drain that began at this instant (ISO 8601). */
export function endOfShutdown(startedAt: string, result: EndedDrain['result']): EndedDrain {
  return { id: `shutdown ${startedAt}`, command: 'shutdown', result };
}

/** @param from the generation that was handed over from; undefined: it is a drain of the host */
function readEnd(file: string, from?: number): EndedDrain[] {
  const { startedAt = '', result } = readRecord(file) ?? {};
  if (!result) return [];
  if (from === undefined) return [endOfShutdown(startedAt, result)];
  return [{ id: `handover ${from} ${startedAt}`, command: 'handover', result }];
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
