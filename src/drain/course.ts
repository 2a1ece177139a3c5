import type { Clock } from '../clock.js';
import type { Envoys, EnvoyTarget, OpenCount } from './envoys.js';
import type { HostNow } from './host-now.js';
import { createPacing, type Pacing } from './pacing.js';
import type { DrainLedger, DrainRecord } from './record.js';
import type { DrainConfig } from './run.js';
import type { DrainCommand, DrainOutcome } from './state.js';

/** How far a drain has come: what its steps share. */
export interface Course {
  /** As it is now. */
  readonly record: DrainRecord;
  /** Set once it is known how the drain ends. */
  outcome: DrainOutcome | undefined;
  /** Open connections at the latest look; null: could not be counted. */
  readonly left: number | null;
  /** Whether it is cancelled because another generation has brought the host back. */
  readonly isOvertaken: boolean;
  readonly pacing: Pacing;
  timeLeftMs(): number;
  /** Whether the outcome is known, or another process leads. */
  isOver(): boolean;
  /** Counts what is open. */
  look(): Promise<OpenCount>;
  /** Sleeps in parts, so that an Envoy that dies is noticed. */
  rest(ms: number): Promise<void>;
  /** The Envoys that came meanwhile, each once. */
  takeNewcomers(): EnvoyTarget[];
  /** Looks at the host again, due or not. */
  lookAround(): void;
  /** Looks a last time: a host that another generation has brought back meanwhile is not drained. */
  confirm(): void;
  /** Whether no Envoy was new or about to come at the latest look at the host. */
  isComplete(): boolean;
}

/** Longest time between two looks whether Envoy still exists. */
const LIVENESS_MS = 500;
/** Time between two looks for generations that have come meanwhile. */
const HOST_LOOK_MS = 250;

/** Creates the course of a drain, new or taken over. */
export function createCourse(options: {
  command: DrainCommand;
  record: DrainRecord;
  ledger: Pick<DrainLedger, 'decision'>;
  envoys: Envoys;
  config: DrainConfig;
  clock: Clock;
  isLeader: () => boolean;
  lookAtHost: (() => HostNow) | undefined;
}): Course {
  const { command, record, ledger, envoys, config, clock, isLeader } = options;
  const host = watchHost(options);
  let left: number | null = null;
  let outcome: DrainOutcome | undefined;

  const timeLeftMs = (): number => Math.max(0, record.deadlineMs - clock.nowMs());
  const lookAround = (isDue?: boolean): void => {
    host.look(isDue);
    if (host.isBack()) outcome ??= 'cancelled';
  };
  const isOver = (): boolean => {
    if (!outcome) lookAround();
    if (!outcome && envoys.allGone()) {
      lookAround(true);
      if (!outcome && !host.isStarting() && envoys.allGone()) {
        outcome = 'envoy-gone';
        left = 0;
      }
    }
    if (!outcome && command === 'shutdown' && ledger.decision() === 'cancel') {
      outcome = 'cancelled';
    }
    return outcome !== undefined || !isLeader();
  };
  const rest = async (ms: number): Promise<void> => {
    const endMs = clock.nowMs() + Math.min(ms, timeLeftMs());
    while (!isOver() && clock.nowMs() < endMs) {
      await clock.sleep(Math.min(LIVENESS_MS, endMs - clock.nowMs()));
    }
  };
  const { openFiles } = envoys;
  const pacing = createPacing({
    config,
    clock,
    budget: envoys,
    openFiles,
    rest,
    isOver,
    timeLeftMs,
  });

  return {
    record,
    get outcome() {
      return outcome;
    },
    set outcome(known) {
      outcome = known;
    },
    get left() {
      return left;
    },
    get isOvertaken() {
      return host.isBack();
    },
    pacing,
    timeLeftMs,
    isOver,
    rest,
    look: async () => {
      pacing.begin();
      const sample = await envoys.sample();
      left = sample.kind === 'known' ? sample.open : sample.kind === 'gone' ? 0 : null;
      if (sample.kind === 'known') pacing.note(sample);
      return sample;
    },
    takeNewcomers: () => host.newcomers.splice(0),
    lookAround: () => lookAround(true),
    confirm: () => {
      host.look(true);
      const isDone = outcome === 'drained' || outcome === 'envoy-gone';
      if (isDone && host.isBack()) outcome = 'cancelled';
    },
    isComplete: () => host.newcomers.length === 0 && !host.isStarting(),
  };
}

/** The generations that come while a drain is under way. */
interface HostWatch {
  /** Looks again, if a look is due. */
  look(isDue?: boolean): void;
  /** One is about to come. */
  isStarting(): boolean;
  /** One has brought the host back. */
  isBack(): boolean;
  /** Those that no one has told of the drain yet. */
  readonly newcomers: EnvoyTarget[];
}

function watchHost(options: {
  lookAtHost: (() => HostNow) | undefined;
  envoys: Envoys;
  clock: Clock;
}): HostWatch {
  const { lookAtHost, envoys, clock } = options;
  const newcomers: EnvoyTarget[] = [];
  let lookedAtMs = Number.NEGATIVE_INFINITY;
  let isStarting = false;
  let isBack = false;
  return {
    newcomers,
    isStarting: () => isStarting,
    isBack: () => isBack,
    look: (isDue = clock.nowMs() >= lookedAtMs + HOST_LOOK_MS) => {
      if (!lookAtHost || !isDue) return;
      const now = lookAtHost();
      lookedAtMs = clock.nowMs();
      isStarting = now.isStarting;
      isBack ||= now.isBack;
      for (const target of now.targets) if (envoys.add(target)) newcomers.push(target);
    },
  };
}
