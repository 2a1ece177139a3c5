import { join } from 'node:path';
import { namesIn } from '../host/files.js';
import { generationFolders } from '../host/generations.js';
import { handoverRecords } from './locate.js';
import type { DrainRecord } from './record.js';
import { readAll } from './record-files.js';
import { readLegacyRecord } from './record-format.js';
import type { DrainCommand, DrainResult } from './state.js';

/** A drain of the host, or a hand-over, that has ended. */
export interface EndedDrain {
  /** The same for one drain, no matter which process reports it. */
  id: string;
  command: DrainCommand;
  /** Where nothing was recorded, only the outcome may be known. */
  result: Pick<DrainResult, 'outcome'> &
    Partial<Pick<DrainResult, 'durationMs' | 'connectionsLeft'>>;
}

/** Records of earlier versions: of a generation, and of an Envoy at `admin-address`. */
const LEGACY = /^(shutdown|handover)(-\d+)?\.json$/;
const LEGACY_FOREIGN = /^shutdown-[0-9a-f]{12}(-\d+)?\.json$/;

/** Every drain and hand-over that has ended, as the records of a run directory tell, whichever process led it. */
export function readEnds(runDir: string): EndedDrain[] {
  const drains = join(runDir, 'drains');
  const names = new Set(
    namesIn(drains).flatMap((file) => /^(.+)-\d+-\d+\.json$/.exec(file)?.[1] ?? []),
  );
  const ofHost = [...names].flatMap((name) =>
    readAll(join(drains, name)).flatMap((one) => endOf(one)),
  );
  const ofGenerations = generationFolders(runDir).flatMap((slot) => [
    ...readAll(handoverRecords(slot)).flatMap((one) => endOf(one, slot.number)),
    ...legacyIn(slot.directory, LEGACY, slot.number),
  ]);
  return [...ofGenerations, ...ofHost, ...legacyIn(runDir, LEGACY_FOREIGN)];
}

/** The host's drain that began at this instant (ISO 8601). */
export function endOfShutdown(startedAt: string, result: EndedDrain['result']): EndedDrain {
  return { id: `shutdown ${startedAt}`, command: 'shutdown', result };
}

/** @param from the generation that was handed over from; undefined: it is a drain of the host */
function endOf({ startedAt, result }: DrainRecord, from?: number): EndedDrain[] {
  if (!result) return [];
  if (from === undefined) return [endOfShutdown(startedAt, result)];
  return [{ id: `handover ${from} ${startedAt}`, command: 'handover', result }];
}

function legacyIn(folder: string, pattern: RegExp, number?: number): EndedDrain[] {
  return namesIn(folder).flatMap((name) => {
    const command = pattern.exec(name)?.[1];
    const record = pattern.test(name) ? readLegacyRecord(join(folder, name)) : undefined;
    return record ? endOf(record, command === 'handover' ? number : undefined) : [];
  });
}
