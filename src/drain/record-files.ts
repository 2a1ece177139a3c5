import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { messageOf, systemCodeOf } from '../errors.js';
import { createJson, namesIn, probeWrite, readJson, writeJson } from '../host/files.js';
import type { Log } from '../log.js';
import type { DrainDecision, DrainRecord } from './record.js';
import { isRecord, isResult, RECORD_VERSION } from './record-format.js';
import type { DrainResult } from './state.js';

/** The files of the drains below one base. What can't be written costs one warning. */
export interface RecordFiles {
  /** The newest drain, and the number of the next one: one look for both, so that no record is passed over. */
  look(): { latest: Place | undefined; next: number };
  /** The place of a drain by its number. */
  find(number: number): Place | undefined;
  read(place: Place): DrainRecord | undefined;
  /** Makes the file of a term; undefined: it can't be written, false: another process has made it. */
  makeTerm(record: DrainRecord): boolean | undefined;
  /** Writes the file of a term again. */
  updateTerm(record: DrainRecord): void;
  /** Makes another file of a drain; undefined: it can't be written, false: another process has made it. */
  make(number: number, kind: FileKind, content: object): boolean | undefined;
  decision(number: number): DrainDecision | undefined;
  isWritable(): boolean;
  /** Whether something could not be written. */
  readonly hasFailed: boolean;
}

/** What a drain has files of, besides its terms. */
export type FileKind = 'decision' | 'result' | 'released';

/** Where the latest term of a drain is recorded. */
export interface Place {
  number: number;
  term: number;
}

/** Ended drains that are kept: the manager counts them, and people read them. */
const KEPT = 20;

/**
 * Results that this process could not write, by their file: they hold in this process, which tries again at each
 * look.
 */
const unwritten = new Map<string, object>();

/** Opens the files at `base`, a path. */
export function openRecordFiles(options: {
  base: string;
  /** Numbers up to this one were in use before. */
  after: number;
  /** What each record gets besides what it says. */
  extra: Partial<DrainRecord>;
  log: Log;
}): RecordFiles {
  const { after, extra, log } = options;
  const folder = dirname(options.base);
  const name = basename(options.base);
  let hasFailed = false;

  const fileOf = (number: number, ending: string): string =>
    join(folder, `${name}-${number}${ending}`);
  const termOf = ({ number, term }: Place): string => fileOf(number, `-${term}.json`);
  const written = ({ result: _, isReleased: __, ...record }: DrainRecord): object => ({
    version: RECORD_VERSION,
    ...record,
    ...extra,
  });
  const tryTo = <T>(write: () => T): T | undefined => {
    try {
      return write();
    } catch (error) {
      if (!hasFailed)
        log.warn(`the drain record can't be written (${messageOf(error)}): draining without it`);
      hasFailed = true;
      return undefined;
    }
  };

  return {
    look: () => {
      const names = namesIn(folder);
      const latest = placesAmong(names, name).at(-1);
      return { latest, next: Math.max(highestAmong(names, name), after) + 1 };
    },
    find: (number) => placesIn(folder, name).find((one) => one.number === number),
    read: (place) => readPlace(folder, name, place),
    makeTerm: (record) =>
      tryTo(() => {
        makeFolder(folder);
        return createJson(termOf(record), written(record));
      }),
    updateTerm: (record) => {
      tryTo(() => writeJson(termOf(record), written(record)));
    },
    make: (number, kind, content) => {
      const file = fileOf(number, `.${kind}.json`);
      const made = tryTo(() => createJson(file, content));
      // Without it the drain would go on as soon as its leader is gone. Other results are recorded late, with the
      // whole course of the drain.
      if (made === undefined && kind === 'result' && isCancelled(content))
        unwritten.set(file, content);
      return made;
    },
    decision: (number) => readDecision(fileOf(number, '.decision.json')),
    isWritable: () => {
      try {
        makeFolder(folder);
        probeWrite(folder, 2);
        return true;
      } catch {
        return false;
      }
    },
    get hasFailed() {
      return hasFailed;
    },
  };
}

/** The newest drain below `base`, whichever Envoy it is of; undefined: there is none that can be read. */
export function readNewest(base: string): DrainRecord | undefined {
  const place = placesIn(dirname(base), basename(base)).at(-1);
  return place && readPlace(dirname(base), basename(base), place);
}

/** Every drain below `base` that can be read, oldest first. */
export function readAll(base: string): DrainRecord[] {
  const [folder, name] = [dirname(base), basename(base)];
  return placesIn(folder, name).flatMap((place) => readPlace(folder, name, place) ?? []);
}

/** Removes what is left of all drains below `base` but the newest; a number is never given again. */
export function pruneRecords(base: string): void {
  const [folder, name] = [dirname(base), basename(base)];
  const old = new Set(
    placesIn(folder, name)
      .slice(0, -KEPT)
      .map(({ number }) => number),
  );
  if (old.size === 0) return;
  for (const file of readdirSync(folder)) {
    const number = new RegExp(`^${name}-(\\d+)[-.]`).exec(file)?.[1];
    if (number !== undefined && old.has(Number(number)))
      rmSync(join(folder, file), { force: true });
  }
}

/** In the order of their numbers. */
function placesIn(folder: string, name: string): Place[] {
  return placesAmong(namesIn(folder), name);
}

function placesAmong(files: readonly string[], name: string): Place[] {
  const terms = new Map<number, number>();
  for (const file of files) {
    if (!file.startsWith(`${name}-`)) continue;
    const [, number, term] = /^(\d+)-(\d+)\.json$/.exec(file.slice(name.length + 1)) ?? [];
    if (number === undefined) continue;
    terms.set(Number(number), Math.max(Number(term), terms.get(Number(number)) ?? 0));
  }
  return [...terms].map(([number, term]) => ({ number, term })).sort((a, b) => a.number - b.number);
}

/** The highest number that any file here has, such as a decision whose record is gone. */
function highestAmong(files: readonly string[], name: string): number {
  const numbers = files
    .filter((file) => file.startsWith(`${name}-`) && file.endsWith('.json'))
    .map((file) => Number.parseInt(file.slice(name.length + 1), 10));
  return Math.max(0, ...numbers.filter(Number.isInteger));
}

function readPlace(folder: string, name: string, { number, term }: Place): DrainRecord | undefined {
  const file = (ending: string): string => join(folder, `${name}-${number}${ending}`);
  const json = readJson(file(`-${term}.json`));
  if (json?.['version'] !== RECORD_VERSION || !isRecord(json)) return undefined;
  const { version: _, ...record } = json as unknown as DrainRecord & { version: number };
  const ended = readResult(file('.result.json'));
  const isItsOwn = ended?.['startedAtMs'] === record.startedAtMs && isResult(ended);
  const { startedAtMs: __, ...result } = (ended ?? {}) as unknown as DrainResult & {
    startedAtMs?: number;
  };
  return {
    ...record,
    number,
    term,
    ...(isItsOwn ? { result } : {}),
    ...(readJson(file('.released.json')) ? { isReleased: true } : {}),
  };
}

/** Not recursively: Node 20 never comes back from that below a folder that refuses with ENOENT, as /proc does. */
function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { mode: 0o700 });
  } catch (error) {
    if (systemCodeOf(error) !== 'EEXIST') throw error;
  }
}

function readResult(file: string): Record<string, unknown> | undefined {
  const kept = unwritten.get(file);
  if (!kept) return readJson(file);
  try {
    createJson(file, kept);
    unwritten.delete(file);
  } catch {
    // It still can't be written.
  }
  return readJson(file) ?? { ...kept };
}

function isCancelled(content: object): boolean {
  return 'outcome' in content && content.outcome === 'cancelled';
}

function readDecision(file: string): DrainDecision | undefined {
  const { decision } = (readJson(file) ?? {}) as { decision?: unknown };
  return decision === 'close' || decision === 'cancel' ? decision : undefined;
}
