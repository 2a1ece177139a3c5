import { type Clock, systemClock, until } from '../clock.js';
import { conditionOf, sameProcess } from '../host/process-identity.js';
import type { Log } from '../log.js';
import { shareInFlight } from '../share.js';
import type { Counters } from './count.js';
import { courseOf, createDrainer, type Drainer, progressOf } from './drainer.js';
import { sayGoesOn } from './going-on.js';
import type { DrainLifecycle } from './lifecycle.js';
import { type EnvoyLocator, isSameEnvoy, type Located, type NoEnvoy } from './locate.js';
import type { DrainRecord } from './record.js';
import type { DrainConfig, DrainRun } from './run.js';
import {
  type DrainOrigin,
  type DrainResult,
  type DrainState,
  keepsHostOut,
  NO_ENVOY,
  type ResumeResult,
} from './state.js';

/** The drain of this host, whichever Envoy runs on it and whichever process began it. */
export interface HostDrain {
  /**
   * Starts or joins the drain of the Envoys that live now. One that has ended is not run again for
   * the same Envoys. Never rejects; without any Envoy the outcome is `envoy-gone`, and a runner that is just
   * about to start one leaves that.
   *
   * @param startedBy who asks for it; counts only for the one that begins the drain
   */
  drain(startedBy?: DrainOrigin): Promise<DrainResult>;
  /** The same, for an Envoy that is going to be stopped: it can't be cancelled, nor has it been. */
  drainForGood(startedBy?: DrainOrigin): Promise<DrainResult>;
  /** Cancels the drain, this process's or another's; see {@link ResumeResult}. Never rejects. */
  resume(): Promise<ResumeResult>;
  /** The drain of the Envoy that lives now, this process's or another's; without one, the host's latest. */
  state(located: Located | undefined): DrainState;
  /** Whether a drain is in progress and has a leader: this process, or another one that is alive. */
  isUnderWay(located: Located | undefined): boolean;
  /**
   * Goes on with a drain whose leader has died, and that no one follows: Envoy would stay DRAINING for
   * good. Does not wait for its end.
   */
  resumeAbandoned(): Promise<void>;
  /**
   * Records a drain that has ended in this process while nothing could be recorded, if it still is that of the
   * host: without a record, nothing keeps the host out of service when Envoy crashes.
   */
  recordLate(located: Located | undefined): void;
  /** The drain that this process leads, while it does. */
  current(): DrainRun | undefined;
}

/** How long a runner that holds the host out of service may take to bring up an Envoy after a resume. */
const COMES_BACK_LIMIT_MS = 20_000;

/** How long an Envoy may take to say whether it passes its health check. */
const PASSES_LIMIT_MS = 1_000;

interface HostDrainOptions {
  locator: EnvoyLocator;
  config: DrainConfig;
  host: DrainLifecycle;
  log: Log;
  limitMs?: number | undefined;
  /** Shared with all other code that counts in this process. */
  counters?: Counters | undefined;
  /** Called when this process has started or joined a drain; not again for callers that join it here. */
  onDrain?: () => void;
  clock?: Clock;
}

/** Creates the host's drain. */
export function createHostDrain(options: HostDrainOptions): HostDrain {
  const { locator, onDrain, ...rest } = options;
  const { log } = options;
  const own = createOwnDrain(rest);
  const locate = shareInFlight(() => locator.locate());
  /** Undefined: there is no Envoy, and no one could be told. */
  const locateHost = async (): Promise<Located | NoEnvoy | undefined> =>
    (await locate()) ?? locator.whenNone?.();
  const locateToDrain = async (): Promise<Located | NoEnvoy | undefined> => {
    const found = await locateHost();
    return found && (await settleCancelled(found, rest)) ? locateHost() : found;
  };
  /** Nothing may come between the choice of the drainer and its drain: concurrent callers share one. */
  const begin = (drainer: Drainer): Promise<DrainResult> => {
    const isNew = drainer.state().kind === 'idle';
    const result = drainer.drain();
    if (isNew) onDrain?.();
    return result;
  };
  const drain = async (startedBy?: DrainOrigin): Promise<DrainResult> => {
    const found = await locateToDrain();
    const drainer = found ? own.drainerFor(found, startedBy) : own.drainer();
    if (drainer) return begin(drainer);
    log.info('there is no Envoy: nothing to drain');
    return nothingToDrain();
  };

  return {
    drain,
    drainForGood: async (startedBy) => {
      void locate()
        .then((located) => located && sayGoesOn(located, rest))
        .catch(() => undefined);
      for (;;) {
        const found = await locateToDrain();
        if (!found) return drain(startedBy);
        const drainer = own.drainerFor(found, startedBy);
        const result = begin(drainer);
        const isFinal = drainer.makeFinal();
        const { outcome } = await result;
        if (isFinal || outcome !== 'cancelled') return result;
      }
    },
    resume: async () => {
      const located = await locate();
      return located
        ? own.drainerFor(located).resume()
        : bringBack(locator.whenNone?.(), { ...rest, locate });
    },
    state: (located) => {
      const found = located ?? locator.whenNone?.();
      return own.state(found) ?? recordedState(found, located);
    },
    isUnderWay: (located) =>
      own.drainer()?.state().kind === 'draining' || (located !== undefined && isLed(located)),
    resumeAbandoned: async () => {
      const found = await locateHost();
      const record = found?.ledger.read();
      if (!found || !record || !isAbandoned(found, record)) return;
      if (await settleCancelled(found, rest)) return;
      const latest = found.ledger.read();
      if (!latest || !isAbandoned(found, latest)) return;
      log.warn(`continuing the drain of ${record.startedAt}: its leader is gone`);
      void begin(own.drainerFor(found));
    },
    recordLate: (located) => {
      const found = located ?? locator.whenNone?.();
      if (found && own.isOf(found)) own.drainer()?.recordLate();
    },
    current: () => own.drainer()?.current(),
  };
}

/** The drain that this process has begun or joined last. */
interface OwnDrain {
  drainer(): Drainer | undefined;
  /** Unless it is the drain of the host as found, it is a new one from now on. */
  drainerFor(found: Located | NoEnvoy, startedBy?: DrainOrigin): Drainer;
  /** Whether it is the drain of the host as found. */
  isOf(found: Located | NoEnvoy): boolean;
  /** Its state, where that is what the host is in; undefined: the records say more. */
  state(found: Located | NoEnvoy | undefined): DrainState | undefined;
}

function createOwnDrain(options: Omit<HostDrainOptions, 'locator' | 'onDrain'>): OwnDrain {
  let last: Last | undefined;
  const isOf = (found: Located | NoEnvoy): boolean => last !== undefined && isStill(last, found);
  return {
    isOf,
    drainer: () => last?.drainer,
    drainerFor: (found, startedBy) => {
      if (last && isOf(found)) return last.drainer;
      const drainer = createDrainer({
        ...options,
        command: 'shutdown',
        targets: 'targets' in found ? found.targets : [],
        ledger: found.ledger,
        now: found.now,
        ...('applies' in found ? { applies: found.applies } : {}),
        startedBy,
      });
      last = { found, drainer };
      return drainer;
    },
    state: (found) => {
      const state = last?.drainer.state();
      if (found && !isOf(found) && state?.kind !== 'draining') last = undefined;
      if (!last || !state || state.kind === 'idle' || isCancelled(state)) return undefined;
      return !found || isOf(found) ? state : undefined;
    },
  };
}

interface Last {
  found: Located | NoEnvoy;
  drainer: Drainer;
}

/** Without an Envoy nothing can be told to pass: the runner that holds the host out brings one up. */
async function bringBack(
  none: NoEnvoy | undefined,
  { locate, clock = systemClock }: { locate: EnvoyLocator['locate']; clock?: Clock },
): Promise<ResumeResult> {
  const record = none?.ledger.read();
  if (!none || !record || !none.covers(record) || !isHolding(record)) return noEnvoy();
  if (!none.ledger.release()) {
    return { kind: 'unreachable', reason: 'the drain record can’t be written' };
  }
  const isLive = async (): Promise<true | undefined> =>
    (await locate())?.generation?.ready === true ? true : undefined;
  const times = { everyMs: 100, limitMs: COMES_BACK_LIMIT_MS };
  if (await until(isLive, times, clock)) return { kind: 'resumed', drain: null };
  return noEnvoy();
}

/** Whether its leader has gone before its end. */
function isAbandoned(found: Located | NoEnvoy, record: DrainRecord): boolean {
  return !record.result && conditionOf(record.leader) !== 'running' && found.covers(record);
}

/**
 * A leader that has cancelled a drain may have been unable to record that, and be gone: then every Envoy of the
 * drain passes its health check, which the drain has failed before its delay. Such a drain is over, not to be
 * continued.
 *
 * @returns whether it was one
 */
async function settleCancelled(
  found: Located | NoEnvoy,
  { log, clock = systemClock }: Pick<HostDrainOptions, 'log' | 'clock'>,
): Promise<boolean> {
  const { ledger } = found;
  const record = ledger.read();
  if (record?.phase !== 'delay' || !('targets' in found) || !isAbandoned(found, record))
    return false;
  const own = found.targets.filter(
    ({ process }) => !process || record.envoys.some((one) => sameProcess(one, process)),
  );
  const passes = await Promise.all(
    own.map(({ admin }) =>
      admin.state(AbortSignal.timeout(PASSES_LIMIT_MS)).then(
        (state) => state === 'LIVE',
        () => false,
      ),
    ),
  );
  if (passes.length === 0 || passes.includes(false) || ledger.decision() === 'close') return false;
  const nowMs = clock.nowMs();
  const { startedAt, startedAtMs, connectionsAtStart } = record;
  const durationMs = Math.round(nowMs - startedAtMs);
  const counts = { connectionsAtStart, connectionsLeft: null };
  const cancelled = { outcome: 'cancelled', phase: 'finish', startedAt, durationMs } as const;
  if (!ledger.settle(record, { ...cancelled, ...counts }, nowMs)) return false;
  log.warn(`the drain of ${record.startedAt} was cancelled: Envoy passes its health check`);
  return true;
}

/** What the records say of the host as found. */
function recordedState(
  found: Located | NoEnvoy | undefined,
  located: Located | undefined,
): DrainState {
  const record = found?.ledger.read();
  if (!found || !record || record.isReleased) return { kind: 'idle' };
  const isHosts = located ? located.applies(record) : found.covers(record) && isHolding(record);
  return isHosts ? stateOf(record) : { kind: 'idle' };
}

/** Whether another process leads a drain of it. */
function isLed({ ledger, applies }: Located): boolean {
  const record = ledger.read();
  return (
    record !== undefined &&
    !record.result &&
    applies(record) &&
    conditionOf(record.leader) === 'running'
  );
}

/** Whether it is the drain of the host as it is now. */
function isStill({ found: then, drainer }: Last, now: Located | NoEnvoy): boolean {
  const state = drainer.state();
  if (isCancelled(state)) return false;
  const record = drainer.record();
  if (!record) return false;
  if ('newest' in now && now.generation === undefined) {
    // One that does not say right now when it started is not taken for another one.
    return 'newest' in then && (state.kind === 'draining' || isSameEnvoy(then, now));
  }
  const newest = record.number > 0 ? now.ledger.read() : undefined;
  if (newest && newest.number > record.number && !isCancelledResult(newest.result)) return false;
  return now.covers(record);
}

/** Whether a host without an Envoy is being drained, or out of service because of this drain. */
function isHolding({ result, isReleased, startedBy, leader }: DrainRecord): boolean {
  if (isReleased || isCancelledResult(result)) return false;
  const keepsOut = startedBy !== null && keepsHostOut(startedBy);
  return keepsOut || (!result && conditionOf(leader) === 'running');
}

function stateOf(record: DrainRecord): DrainState {
  const { result } = record;
  if (!result) return { kind: 'draining', ...progressOf(record) };
  if (isCancelledResult(result)) return { kind: 'idle' };
  return { kind: 'ended', result, ...courseOf(record) };
}

/** The next drain is a new one. */
function isCancelled(state: DrainState): boolean {
  return state.kind === 'ended' && isCancelledResult(state.result);
}

function isCancelledResult(result: DrainResult | undefined): boolean {
  return result?.outcome === 'cancelled';
}

function noEnvoy(): ResumeResult {
  return { kind: 'too-late', reason: NO_ENVOY };
}

function nothingToDrain(): DrainResult {
  return {
    outcome: 'envoy-gone',
    phase: 'finish',
    startedAt: new Date().toISOString(),
    durationMs: 0,
    connectionsAtStart: 0,
    connectionsLeft: 0,
  };
}
