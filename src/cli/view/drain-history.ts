import { type DrainPhase, SHUTDOWN_EVENTS } from '../../drain/state.js';
import type { Status } from '../../status/status.js';

/** One drain, as one look after another has shown it. */
export interface DrainSeen {
  readonly startedAt: string;
  /** How long it had been under way at the latest look. */
  readonly elapsedMs: number;
  /** The phase at the latest look at which it was under way. */
  readonly phase: DrainPhase;
  /** How long it had been under way when each phase began, as it has recorded; an earlier manager records none. */
  readonly enteredMs: Readonly<Partial<Record<DrainPhase, number>>>;
  readonly open: number | null;
  /** How long it had been under way when the number of open connections last fell. */
  readonly fellAtMs: number;
  /** The most that it has waited for at any look; null: that could not be counted. */
  readonly mostHolding: number | null;
}

/** What a phase has come to. */
export interface PhaseSeen {
  phase: DrainPhase;
  /** `stopped`: the drain ended in it, but not because there was nothing more to do. */
  state: 'done' | 'now' | 'next' | 'stopped';
  /** Undefined: not recorded. */
  tookMs: number | undefined;
}

/** `finish` takes no time. */
const SHOWN = SHUTDOWN_EVENTS.filter((event) => event !== 'finish');

/** Adds a look to what was seen; undefined: no drain has been under way at any look. */
export function see(seen: DrainSeen | undefined, status: Status): DrainSeen | undefined {
  const { startedAt, phase } = status;
  if (phase === 'idle' || startedAt === null) return undefined;
  const known = seen?.startedAt === startedAt ? seen : undefined;
  const elapsedMs = elapsedOf(status) ?? known?.elapsedMs ?? 0;
  if (status.outcome !== null) {
    return known && { ...known, elapsedMs, enteredMs: { ...known.enteredMs, ...stepsOf(status) } };
  }
  const open = status.connections?.open ?? null;
  const hasFallen =
    known === undefined || open === null || known.open === null || open < known.open;
  return {
    startedAt,
    elapsedMs,
    phase,
    enteredMs: stepsOf(status),
    open,
    fellAtMs: hasFallen ? elapsedMs : known.fellAtMs,
    mostHolding: mostOf(known?.mostHolding ?? null, status.holding),
  };
}

/** The phases of a drain, in order; `outcome` is how it ended, null while it has not. */
export function phasesOf(seen: DrainSeen, outcome: Status['outcome']): PhaseSeen[] {
  const { enteredMs, elapsedMs } = seen;
  const isDrained = outcome === 'drained';
  const at = isDrained ? SHOWN.length : indexOf(seen.phase);
  return SHOWN.slice(0, outcome === null || isDrained ? undefined : at + 1).map((phase, index) => {
    const next = SHOWN[index + 1];
    const fromMs = enteredMs[phase];
    const isPast = index < at;
    const endMs =
      isPast && next ? (enteredMs[next] ?? (isDrained ? elapsedMs : undefined)) : elapsedMs;
    const isOver = isPast || index === at;
    return {
      phase,
      state: isPast ? 'done' : index > at ? 'next' : outcome === null ? 'now' : 'stopped',
      tookMs: isOver && fromMs !== undefined && endMs !== undefined ? endMs - fromMs : undefined,
    };
  });
}

function mostOf(a: number | null, b: number | null): number | null {
  return a === null || b === null ? (a ?? b) : Math.max(a, b);
}

/** By the manager's own clocks: it made all three at the same moment. */
function elapsedOf({ startedAt, deadline, timeLeftMs, durationMs }: Status): number | undefined {
  if (durationMs !== null) return durationMs;
  if (startedAt === null || deadline === null || timeLeftMs === null) return undefined;
  const elapsedMs = Date.parse(deadline) - timeLeftMs - Date.parse(startedAt);
  return Number.isFinite(elapsedMs) ? Math.max(0, elapsedMs) : undefined;
}

/** What the drain has recorded is exact, also of what no one saw. */
function stepsOf({ steps, startedAt }: Status): DrainSeen['enteredMs'] {
  const startMs = Date.parse(startedAt ?? '');
  return Object.fromEntries(
    steps.map(({ phase, at }) => [phase, Math.max(0, Date.parse(at) - startMs)]),
  );
}

function indexOf(phase: DrainPhase): number {
  return SHUTDOWN_EVENTS.indexOf(phase);
}
