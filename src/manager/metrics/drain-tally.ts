import type { Config } from '../../config/config.js';
import type { EndedDrain } from '../../drain/ends.js';
import { type DrainCommand, OUTCOMES } from '../../drain/state.js';
import { messageOf } from '../../errors.js';
import { readJson, writeJson } from '../../host/files.js';
import type { Log } from '../../log.js';
import { createCounters, type Sample } from './counters.js';

/**
 * Counts drains and failed reloads, each once, no matter how often it is seen: a manager often exits with
 * the drain that it has served, so the counts lie in a file, and the next one goes on from there.
 */
export interface DrainTally {
  noteEnd(ended: EndedDrain): void;
  /** @param at ISO 8601 */
  noteFailedReload(at: string): void;
  samples(): Sample[];
}

const DRAINS = 'pm2_envoy_drains_total';
const DURATION = 'pm2_envoy_drain_duration_seconds';
const CUT = 'pm2_envoy_connections_cut_total';
const FAILED_RELOADS = 'pm2_envoy_reload_failures_total';

const COMMANDS: readonly DrainCommand[] = ['shutdown', 'handover'];
/** Upper bounds of the histogram's buckets. */
const BUCKETS_SECONDS = [0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1_800, 3_600, '+Inf'] as const;
/** More than there are records of in a run directory. */
const MOST_IDS = 1_000;

/** Creates the tally; a `file` that can't be written costs a warning, and the counts at the next restart. */
export function createDrainTally({
  file,
  drainUntil,
  log,
}: {
  file: string;
  drainUntil: Config['drainUntil'];
  log: Log;
}): DrainTally {
  const counters = createCounters(zeros());
  let ids: string[] = [];
  let warned = false;

  /** Another manager may have counted meanwhile: one that stays for a drain, say. */
  const load = (): void => {
    const json = readJson(file);
    if (!json) return;
    if (Array.isArray(json['ids']))
      ids = json['ids'].filter((id): id is string => typeof id === 'string');
    counters.restore(json['counts']);
  };
  const save = (): void => {
    try {
      writeJson(file, { ids, counts: counters.toJson() });
    } catch (error) {
      if (!warned) log.warn(`${file} can't be written (${messageOf(error)}): counting without it`);
      warned = true;
    }
  };
  const countOnce = (id: string, count: () => void): void => {
    if (!warned) load();
    if (ids.includes(id)) return;
    count();
    ids = [...ids, id].slice(-MOST_IDS);
    save();
  };
  load();

  return {
    noteEnd: ({ id, command, result }) =>
      countOnce(id, () => {
        const { outcome, durationMs, connectionsLeft } = result;
        counters.add(DRAINS, { command, outcome });
        if (outcome === 'cancelled') return;
        // What is idle at the end of a drain that waits for requests alone loses nothing.
        const isIdle = outcome === 'drained' && drainUntil === 'requests';
        counters.add(CUT, { command }, isIdle ? 0 : (connectionsLeft ?? 0));
        if (durationMs !== undefined) observe(command, durationMs / 1_000);
      }),
    noteFailedReload: (at) => countOnce(`reload ${at}`, () => counters.add(FAILED_RELOADS)),
    samples: counters.samples,
  };

  function observe(command: DrainCommand, seconds: number): void {
    for (const le of BUCKETS_SECONDS) {
      const isIn = le === '+Inf' || seconds <= le;
      if (isIn) counters.add(`${DURATION}_bucket`, { command, le: String(le) });
    }
    counters.add(`${DURATION}_sum`, { command }, seconds);
    counters.add(`${DURATION}_count`, { command });
  }
}

function zeros(): Omit<Sample, 'value'>[] {
  return [
    ...COMMANDS.flatMap((command) =>
      OUTCOMES.map((outcome) => ({ name: DRAINS, labels: { command, outcome } })),
    ),
    ...COMMANDS.flatMap((command) => [
      ...BUCKETS_SECONDS.map((le) => ({
        name: `${DURATION}_bucket`,
        labels: { command, le: String(le) },
      })),
      { name: `${DURATION}_sum`, labels: { command } },
      { name: `${DURATION}_count`, labels: { command } },
      { name: CUT, labels: { command } },
    ]),
    { name: FAILED_RELOADS, labels: {} },
  ];
}
