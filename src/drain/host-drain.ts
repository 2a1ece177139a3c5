import { conditionOf } from '../host/process-identity.js';
import type { Log } from '../log.js';
import { shareInFlight } from '../share.js';
import { createDrainer, type Drainer } from './drainer.js';
import { sayGoesOn } from './going-on.js';
import type { DrainLifecycle } from './lifecycle.js';
import { type EnvoyLocator, isSameEnvoy, type Located } from './locate.js';
import type { DrainConfig, DrainRun } from './run.js';
import type { DrainResult, DrainState, ResumeResult } from './state.js';

/** The drain of this host, whichever Envoy runs on it and whichever process began it. */
export interface HostDrain {
  /**
   * Starts or joins the drain of the Envoys that live now. One that has ended is not run again for
   * the same Envoy. Never rejects; without any Envoy the outcome is `envoy-gone`.
   */
  drain(): Promise<DrainResult>;
  /** The same, for an Envoy that is going to be stopped: it can't be taken back, nor has it been. */
  drainForGood(): Promise<DrainResult>;
  /** Takes the drain back, this process's or another's; see {@link ResumeResult}. Never rejects. */
  resume(): Promise<ResumeResult>;
  /** The drain of the Envoy that lives now, this process's or another's. */
  state(located: Located | undefined): DrainState;
  /** Whether a drain runs that somebody leads: this process, or another one that lives. */
  isUnderWay(located: Located | undefined): boolean;
  /**
   * Goes on with a drain whose leader has died, and that nobody follows: Envoy would stay DRAINING for
   * good. Does not wait for its end.
   */
  resumeAbandoned(): Promise<void>;
  /** The drain that this process leads, while it does. */
  current(): DrainRun | undefined;
}

/** Creates the host's drain. */
export function createHostDrain(options: {
  locator: EnvoyLocator;
  config: DrainConfig;
  host: DrainLifecycle;
  log: Log;
  limitMs?: number | undefined;
  /** Called when this process has started or joined a drain; not again for whoever joins it here. */
  onDrain?: () => void;
}): HostDrain {
  const { locator, onDrain, ...rest } = options;
  let last: { located: Located; drainer: Drainer } | undefined;
  const locate = shareInFlight(() => locator.locate());
  const drainerFor = (located: Located): Drainer => {
    if (last && isSameEnvoy(last.located, located) && !isCancelled(last.drainer.state())) {
      return last.drainer;
    }
    const drainer = createDrainer({
      ...rest,
      command: 'shutdown',
      targets: located.targets,
      ledger: located.ledger,
    });
    last = { located, drainer };
    return drainer;
  };

  /** Undefined: there is no Envoy, and there was none. */
  const currentDrainer = async (): Promise<Drainer | undefined> => {
    if (last?.drainer.state().kind === 'draining') return last.drainer;
    const located = await locate();
    return located ? drainerFor(located) : last?.drainer;
  };
  const drain = async (): Promise<DrainResult> => {
    const drainer = await currentDrainer();
    if (!drainer) {
      rest.log.info('there is no Envoy: nothing to drain');
      return nothingToDrain();
    }
    const isNew = drainer.state().kind === 'idle';
    const result = drainer.drain();
    if (isNew) onDrain?.();
    return result;
  };

  return {
    drain,
    drainForGood: async () => {
      void locate()
        .then((located) => located && sayGoesOn(located, rest))
        .catch(() => undefined);
      for (;;) {
        const drainer = await currentDrainer();
        if (!drainer) return drain();
        const result = drainer.drain();
        const isFinal = drainer.makeFinal();
        const { outcome } = await result;
        if (isFinal || outcome !== 'cancelled') return result;
      }
    },
    resume: async () => {
      const located = await locate();
      if (!located) return { kind: 'too-late', reason: 'there is no Envoy' };
      return drainerFor(located).resume();
    },
    state: (located) => {
      // Another Envoy lives now: what was true of the last one says nothing of it.
      const isOver = last?.drainer.state().kind === 'ended';
      if (located && last && isOver && !isSameEnvoy(last.located, located)) last = undefined;
      if (last && isCancelled(last.drainer.state())) last = undefined;
      const own = last?.drainer.state() ?? { kind: 'idle' };
      if (!located) return own;
      if (last && isSameEnvoy(last.located, located) && own.kind !== 'idle') return own;
      const record = located.ledger.read();
      if (!record || record.result?.outcome === 'cancelled') return { kind: 'idle' };
      if (record.result) return { kind: 'ended', result: record.result };
      const { phase, startedAt, deadlineMs, connectionsAtStart } = record;
      return { kind: 'draining', phase, startedAt, deadlineMs, connectionsAtStart };
    },
    isUnderWay: (located) => {
      if (last?.drainer.state().kind === 'draining') return true;
      const record = located?.ledger.read();
      return record !== undefined && !record.result && conditionOf(record.leader) === 'running';
    },
    resumeAbandoned: async () => {
      const located = await locate();
      const record = located?.ledger.read();
      if (!located || !record || record.result || conditionOf(record.leader) === 'running') return;
      rest.log.warn(`going on with the drain of ${record.startedAt}: who led it is gone`);
      void drainerFor(located).drain();
    },
    current: () => last?.drainer.current(),
  };
}

/** It was taken back: the next drain is a new one. */
function isCancelled(state: DrainState): boolean {
  return state.kind === 'ended' && state.result.outcome === 'cancelled';
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
