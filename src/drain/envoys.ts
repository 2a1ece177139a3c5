import type { AdminClient } from '../admin/client.js';
import { isSameStart, startOf } from '../admin/server-info.js';
import { busyOf, type ConnectionCount } from '../admin/stats.js';
import type { Clock } from '../clock.js';
import { isPm2EnvoyError, messageOf } from '../errors.js';
import type { Generation } from '../host/generations.js';
import { isAlive, isHidden, type ProcessIdentity, sameProcess } from '../host/process-identity.js';
import type { Log } from '../log.js';
import { type Counters, createCounters, type EnvoyCounter } from './count.js';

/** One Envoy that a drain is about. */
export interface EnvoyTarget {
  /** `generation 3`, or the admin address. */
  readonly name: string;
  readonly admin: AdminClient;
  /** Known only for an Envoy that pm2-envoy started. */
  readonly process: ProcessIdentity | undefined;
  readonly generation?: Generation;
  /** When a foreign Envoy started, on the monotonic clock, if it could be asked. */
  readonly startedAtMs?: number | undefined;
  /** It proxies UDP, whose sessions end with its listeners, and new datagrams go to a newer generation. */
  readonly proxiesUdp?: boolean;
  /** Its HTTP/3 can't be steered: its UDP listeners are closed after those of TCP. */
  readonly quicIsLast?: boolean;
  /** How many files it has open, where that can be seen ({@link countDescriptors}). */
  readonly openFiles?: () => number | undefined;
}

/** What the Envoys had open when they were asked. */
export type OpenCount =
  | {
      kind: 'known';
      open: number;
      busy: number;
      /** Of `open`: those that have no socket of their own (HTTP/3, UDP sessions). */
      socketless: number;
      tookMs: number;
    }
  /** At least one could not be asked. */
  | { kind: 'unknown'; reason: string }
  | { kind: 'gone' };

/** What came of telling Envoys something: the worst of what came of each. */
export type Told = 'done' | 'refused' | 'late';

/** The Envoys of one drain, asked and told as if they were one. Errors are kept here: a drain continues. */
export interface Envoys {
  /** Whether no Envoy is left. */
  allGone(): boolean;
  /** How many Envoys are left. */
  left(): number;
  /** Takes one more Envoy in; false: it is known already. */
  add(target: EnvoyTarget): boolean;
  /**
   * Calls every Envoy, again and again with back-off, until each has obeyed, refused or gone: the deadline may
   * come first.
   */
  tellAll(
    what: string,
    call: (admin: AdminClient, signal: AbortSignal) => Promise<void>,
    /** Ends the asking early. */
    isOver?: () => boolean,
    /** Unless given, all are called. */
    only?: readonly EnvoyTarget[],
  ): Promise<Told>;
  /** Whether one shows that it has listeners, and has closed none of them; doubt is no. */
  anyOpen(signal: AbortSignal): Promise<boolean>;
  /** Leaves alone a foreign Envoy that its owner has restarted meanwhile: its listeners must stay open. */
  forgetReplaced(): Promise<void>;
  /** Counts what is open now. */
  sample(): Promise<OpenCount>;
  /** Connections that are open on listeners with `traffic_direction: INBOUND`; undefined: it can't be told. */
  openInbound(): Promise<number | undefined>;
  /** Files that they have open, all together; undefined: it can't be seen. */
  openFiles(): number | undefined;
  /** Milliseconds until each of them may be polled again, with `reserveMs` left in its budget. */
  waitMs(reserveMs?: number): number;
  /** Connections accepted so far; undefined when an Envoy could not be asked. */
  accepted(): Promise<{ total: number; tookMs: number } | undefined>;
  /** The latest failure, for `/status`. */
  lastError(): string | undefined;
}

const FIRST_RETRY_MS = 100;
const LONGEST_RETRY_MS = 2_000;
/** What a call may take at the deadline: the last look decides between `timeout` and `admin-unreachable`. */
const LAST_CALL_MS = 500;
/** A foreign Envoy counts as gone after this many refused connections in this time. */
const REFUSALS = 3;
const REFUSED_FOR_MS = 1_000;

/** Creates the view on the Envoys of one drain, which ends at `deadlineMs`. */
export function createEnvoys(options: {
  targets: readonly EnvoyTarget[];
  rule: { drainUntil: 'connections' | 'requests'; ignoreListeners: readonly string[] };
  deadlineMs: number;
  clock: Clock;
  log: Log;
  /** Shared with all other code that counts in this process. */
  counters?: Counters | undefined;
  /** Whether this process still leads: another one then tells them. */
  isLeader?: () => boolean;
}): Envoys {
  const { rule, deadlineMs, clock, log, isLeader = () => true } = options;
  const { counters = createCounters({ ignoreListeners: rule.ignoreListeners, clock }) } = options;
  const memberOf = (target: EnvoyTarget): Member =>
    createMember(target, { counter: counters.of(target), clock });
  const members = options.targets.map(memberOf);
  const remaining = (): Member[] => members.filter((member) => !member.isGone());
  const calls = createCalls({ deadlineMs, clock, log });

  return {
    lastError: calls.lastError,
    allGone: () => remaining().length === 0,
    left: () => remaining().length,
    waitMs: (reserveMs) =>
      Math.max(0, ...remaining().map(({ counter }) => counter.budget.waitMs(reserveMs))),
    openFiles: () => openFilesOf(members),
    add: (target) => {
      const isKnown = members.some((member) => isSame(member.target, target));
      if (!isKnown) members.push(memberOf(target));
      return !isKnown;
    },
    tellAll: async (what, call, isOver = () => false, only) => {
      const told = remaining().filter(({ target }) => only?.includes(target) ?? true);
      const isEnough = (): boolean => isOver() || !isLeader();
      return worstOf(
        await Promise.all(told.map((member) => tell(member, { what, call, isEnough }, calls))),
      );
    },
    anyOpen: (signal) => anyOpen(remaining(), signal),
    forgetReplaced: async () => {
      await Promise.all(
        remaining().map(async (member) => {
          const { admin, process: known, startedAtMs, name } = member.target;
          if (known || startedAtMs === undefined) return;
          const info = await calls.ask(member, () => admin.serverInfo(calls.timeLeft()));
          if (!info || isSameStart(startOf(info, clock.nowMs()), startedAtMs)) return;
          log.warn(`${name} has been restarted since the drain began: leaving the new one alone`);
          member.markGone();
        }),
      );
    },
    sample: async () => {
      const asked = remaining();
      const counts = await Promise.all(asked.map((member) => count(member, calls)));
      const isUnknown = counts.some((found, index) => !found && asked[index]?.isGone() === false);
      if (isUnknown) return { kind: 'unknown', reason: calls.lastError() ?? 'no answer' };
      return remaining().length === 0 ? { kind: 'gone' } : sumOf(counts);
    },
    openInbound: async () => {
      const counts = await Promise.all(remaining().map((member) => countInbound(member, calls)));
      if (counts.includes(undefined)) return undefined;
      return counts.reduce<number>((sum, open) => sum + (open ?? 0), 0);
    },
    accepted: async () => {
      const replies = await Promise.all(
        remaining().map((member) =>
          calls.ask(member, () => member.counter.accepted(calls.timeLeft())),
        ),
      );
      let total = 0;
      let tookMs = 0;
      for (const reply of replies) {
        if (!reply) return undefined;
        total += reply.total;
        tookMs = Math.max(tookMs, reply.tookMs);
      }
      return { total, tookMs };
    },
  };
}

async function anyOpen(members: readonly Member[], signal: AbortSignal): Promise<boolean> {
  const open = await Promise.all(
    members.map(({ target }) => showsOpen(target, signal).catch(() => false)),
  );
  return open.includes(true);
}

/** One that is starting has not opened any. */
async function showsOpen(
  { admin, generation }: EnvoyTarget,
  signal: AbortSignal,
): Promise<boolean> {
  if (generation?.ready === false) return false;
  if ((await admin.hasClosedListeners(signal)) !== false) return false;
  return (await admin.listeners(signal)).length > 0;
}

/** The worst of these. */
export function worstOf(ends: readonly Told[]): Told {
  if (ends.includes('late')) return 'late';
  return ends.includes('refused') ? 'refused' : 'done';
}

function isSame(one: EnvoyTarget, other: EnvoyTarget): boolean {
  return one.admin === other.admin || sameProcess(one.process, other.process);
}

/** The calls to the Envoys of one drain. */
interface Calls {
  /** Undefined: it could not be asked, which is kept. */
  ask<T>(member: Member, call: () => Promise<T>): Promise<T | undefined>;
  /** Aborts at the drain's deadline, or once a last call has had its time. */
  timeLeft(): AbortSignal;
  isLate(): boolean;
  /** Sleeps, but not beyond the deadline. */
  rest(ms: number): Promise<void>;
  sayOnce(message: string): void;
  noteRefusal(message: string): void;
  lastError(): string | undefined;
}

function createCalls(from: { deadlineMs: number; clock: Clock; log: Log }): Calls {
  const { deadlineMs, clock, log } = from;
  const said = new Set<string>();
  let lastError: string | undefined;
  return {
    ask: async (member, call) => {
      try {
        const answer = await call();
        member.noteAnswer();
        return answer;
      } catch (error) {
        member.noteFailure(error);
        lastError = messageOf(error);
        return undefined;
      }
    },
    timeLeft: () =>
      AbortSignal.timeout(Math.max(LAST_CALL_MS, Math.ceil(deadlineMs - clock.nowMs()))),
    isLate: () => clock.nowMs() >= deadlineMs,
    rest: (ms) => clock.sleep(Math.min(ms, deadlineMs - clock.nowMs())),
    sayOnce: (message) => {
      if (!said.has(message)) log.warn(message);
      said.add(message);
    },
    noteRefusal: (message) => {
      lastError = message;
      log.error(message);
    },
    lastError: () => lastError,
  };
}

/** Calls one Envoy until it has obeyed, refused or gone, or that is enough. */
async function tell(
  member: Member,
  order: {
    what: string;
    call: (admin: AdminClient, signal: AbortSignal) => Promise<void>;
    isEnough: () => boolean;
  },
  calls: Calls,
): Promise<Told> {
  const { what, call, isEnough } = order;
  const { name, admin } = member.target;
  for (let waitMs = FIRST_RETRY_MS; ; waitMs = Math.min(waitMs * 2, LONGEST_RETRY_MS)) {
    const done = await calls.ask(member, async (): Promise<Told> => {
      try {
        await call(admin, calls.timeLeft());
        return 'done';
      } catch (error) {
        // Asking again would not help, and the rest of the drain still can.
        if (!isPm2EnvoyError(error, 'admin-refused')) throw error;
        calls.noteRefusal(`${name} refused to ${what}: ${error.message}`);
        return 'refused';
      }
    });
    const isLate = calls.isLate();
    if (member.isGone()) return 'done';
    if (done) return done;
    if (isEnough() || isLate) return 'late';
    calls.sayOnce(`${name} could not be told to ${what}, trying again: ${calls.lastError()}`);
    await calls.rest(waitMs);
  }
}

type Count = ConnectionCount & { tookMs: number };

async function count(member: Member, calls: Calls): Promise<Count | undefined> {
  return calls.ask(member, async () => {
    const counted = await member.counter.count(calls.timeLeft());
    if (counted.kind === 'unknown') throw new Error(counted.reason);
    if (counted.note) calls.sayOnce(counted.note);
    for (const name of counted.count.negative) {
      calls.sayOnce(`gauge ${name} is below zero: counted as 0`);
    }
    return { ...counted.count, tookMs: counted.tookMs };
  });
}

function openFilesOf(members: readonly Member[]): number | undefined {
  let sum = 0;
  for (const member of members) {
    const files = member.target.openFiles?.();
    // One that is gone has none, and must not hide the others.
    if (files === undefined && !member.isGone()) return undefined;
    sum += files ?? 0;
  }
  return sum;
}

/** Of those that are gone nothing is left. */
function sumOf(counts: readonly (Count | undefined)[]): OpenCount {
  const sum = { kind: 'known' as const, open: 0, busy: 0, socketless: 0, tookMs: 0 };
  for (const found of counts) {
    if (!found) continue;
    sum.open += found.open;
    sum.busy += busyOf(found);
    sum.socketless += found.byKind.http3 + found.byKind.udp;
    sum.tookMs = Math.max(sum.tookMs, found.tookMs);
  }
  return sum;
}

async function countInbound(member: Member, calls: Calls): Promise<number | undefined> {
  return calls.ask(member, async () => {
    const configs = await member.target.admin.listenerConfigs(calls.timeLeft());
    const counted = await member.counter.count(calls.timeLeft());
    // Not by listener.
    if (counted.kind === 'unknown' || counted.note) return undefined;
    const { byListener } = counted.count;
    return configs
      .filter(({ isInbound }) => isInbound)
      .reduce((sum, { statName }) => sum + (byListener[statName] ?? 0), 0);
  });
}

interface Member {
  readonly target: EnvoyTarget;
  readonly counter: EnvoyCounter;
  isGone(): boolean;
  markGone(): void;
  noteAnswer(): void;
  noteFailure(error: unknown): void;
}

/**
 * Watches whether one Envoy still exists. Its process decides where it is known; otherwise repeated
 * refusals do: no answer at all may be a hung Envoy, a refused connection is none.
 */
function createMember(
  target: EnvoyTarget,
  { counter, clock }: { counter: EnvoyCounter; clock: Clock },
): Member {
  let gone = false;
  let refusals = 0;
  let refusedSinceMs = 0;
  return {
    target,
    counter,
    isGone: () => {
      gone ||= target.process !== undefined && !isAlive(target.process);
      return gone;
    },
    markGone: () => {
      gone = true;
    },
    noteAnswer: () => {
      refusals = 0;
    },
    noteFailure: (error) => {
      if (target.process && !isHidden(target.process)) return;
      if (!isPm2EnvoyError(error, 'admin-gone')) {
        refusals = 0;
        return;
      }
      if (refusals === 0) refusedSinceMs = clock.nowMs();
      refusals += 1;
      gone ||= refusals >= REFUSALS && clock.nowMs() - refusedSinceMs >= REFUSED_FOR_MS;
    },
  };
}
