import type { AdminClient } from '../admin/client.js';
import { isSameStart, startOf } from '../admin/server-info.js';
import {
  ACCEPTED_FILTER,
  busyOf,
  CONNECTION_FILTER,
  type ConnectionCount,
  DETAIL_FILTER,
  listenerMatcher,
  readAccepted,
  readConnections,
  readHttpConnections,
} from '../admin/stats.js';
import type { Clock } from '../clock.js';
import { isPm2EnvoyError, messageOf } from '../errors.js';
import type { Generation } from '../host/generations.js';
import { isAlive, type ProcessIdentity } from '../host/process-identity.js';
import { countConnections } from '../host/sockets.js';
import type { Log } from '../log.js';

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
  /** How many files it has open, where that can be seen ({@link countDescriptors}). */
  readonly openFiles?: () => number | undefined;
}

/** What the Envoys had open when they were asked. */
export type Sample =
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

/** The Envoys of one drain, asked and told as if they were one. Errors are kept here: a drain goes on. */
export interface Envoys {
  /** Whether no Envoy is left. */
  allGone(): boolean;
  /** How many Envoys are left. */
  left(): number;
  /** Calls every Envoy, again and again with back-off, until each has obeyed, refused or gone. */
  tellAll(
    what: string,
    call: (admin: AdminClient, signal: AbortSignal) => Promise<void>,
    /** Ends the asking early. */
    isOver?: () => boolean,
  ): Promise<void>;
  /** Leaves alone a foreign Envoy that its owner has restarted meanwhile: its listeners must stay open. */
  forgetReplaced(): Promise<void>;
  /** Counts what is open now. */
  sample(): Promise<Sample>;
  /** Files that they have open, all together; undefined: it can't be seen. */
  openFiles(): number | undefined;
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
  /** Whether this process still leads: another one then tells them. */
  isLeader?: () => boolean;
}): Envoys {
  const { rule, deadlineMs, clock, log, isLeader = () => true } = options;
  const isIgnored = listenerMatcher(rule.ignoreListeners);
  const members = options.targets.map((target) => createMember(target, clock));
  const said = new Set<string>();
  const visible = new Map<Member, boolean>();
  let lastError: string | undefined;

  const remaining = (): Member[] => members.filter((member) => !member.isGone());
  const sayOnce = (message: string): void => {
    if (!said.has(message)) log.warn(message);
    said.add(message);
  };
  const timeLeft = (): AbortSignal =>
    AbortSignal.timeout(Math.max(LAST_CALL_MS, Math.ceil(deadlineMs - clock.nowMs())));

  const ask = async <T>(member: Member, call: () => Promise<T>): Promise<T | undefined> => {
    try {
      const answer = await call();
      member.noteAnswer();
      return answer;
    } catch (error) {
      member.noteFailure(error);
      lastError = messageOf(error);
      return undefined;
    }
  };

  /**
   * No listener gauge but admin's own: none was ever touched, or a stats_matcher hides just the others.
   * Asked once for each Envoy, with the gauges never touched.
   */
  const areVisible = async (member: Member, { byListener }: ConnectionCount): Promise<boolean> => {
    if (Object.keys(byListener).length > 0 || rule.ignoreListeners.length > 0) return true;
    const known = visible.get(member);
    if (known !== undefined) return known;
    const { admin } = member.target;
    const query = { type: 'Gauges', filter: CONNECTION_FILTER, alsoUnused: true } as const;
    const reading = readConnections((await admin.stats(query, timeLeft())).stats);
    const hasGauges = reading.kind === 'known' && Object.keys(reading.count.byListener).length > 0;
    const found = hasGauges || !(await admin.hasListeners(timeLeft()));
    visible.set(member, found);
    return found;
  };

  const count = async (
    member: Member,
  ): Promise<(ConnectionCount & { tookMs: number }) | undefined> => {
    const { admin, process: envoy, name } = member.target;
    const filter = rule.drainUntil === 'requests' ? DETAIL_FILTER : CONNECTION_FILTER;
    const reply = await admin.stats({ type: 'Gauges', filter }, timeLeft());
    const tookMs = reply.tookMs;
    const listeners = readConnections(reply.stats, isIgnored);
    const isKnown = listeners.kind === 'known' && (await areVisible(member, listeners.count));
    if (isKnown) return { ...listeners.count, tookMs };
    const detail = await admin.stats({ type: 'Gauges', filter: DETAIL_FILTER }, timeLeft());
    const http = readHttpConnections(detail.stats);
    if (http.kind === 'known') {
      sayOnce(
        `${name} shows no listener gauges (a stats_matcher hides them): counting http.*, without TCP proxies`,
      );
      return { ...http.count, tookMs: tookMs + detail.tookMs };
    }
    const byPort = envoy && countConnections(envoy.pid, await admin.listenerPorts(timeLeft()));
    if (!byPort) {
      throw new Error(
        `${name} shows neither listener nor http gauges, and its sockets can't be read: allow listener.* in stats_matcher`,
      );
    }
    sayOnce(
      `${name} shows neither listener nor http gauges (a stats_matcher hides them): counting its sockets in /proc`,
    );
    const open = Object.values(byPort).reduce((sum, n) => sum + n, 0);
    const byKind = { http1: 0, http2: 0, http3: 0, tcp: open, websocket: 0, udp: 0 };
    return {
      byListener: byPort,
      open,
      byKind,
      activeRequests: undefined,
      negative: [],
      tookMs: tookMs + detail.tookMs,
    };
  };

  return {
    lastError: () => lastError,
    allGone: () => remaining().length === 0,
    left: () => remaining().length,
    openFiles: () => {
      let sum = 0;
      for (const member of members) {
        const files = member.target.openFiles?.();
        // One that is gone has none, and must not hide the others.
        if (files === undefined && !member.isGone()) return undefined;
        sum += files ?? 0;
      }
      return sum;
    },

    tellAll: async (what, call, isOver = () => false) => {
      await Promise.all(
        remaining().map(async (member) => {
          for (let waitMs = FIRST_RETRY_MS; ; waitMs = Math.min(waitMs * 2, LONGEST_RETRY_MS)) {
            const done = await ask(member, async () => {
              await call(member.target.admin, timeLeft()).catch((error: unknown) => {
                // Asking again would not help, and the rest of the drain still can.
                if (!isPm2EnvoyError(error, 'admin-refused')) throw error;
                log.error(`${member.target.name} refused to ${what}: ${error.message}`);
              });
              return true;
            });
            const isLate = clock.nowMs() >= deadlineMs;
            if (done || isOver() || member.isGone() || isLate || !isLeader()) return;
            sayOnce(
              `${member.target.name} could not be told to ${what}, trying again: ${lastError}`,
            );
            await clock.sleep(Math.min(waitMs, deadlineMs - clock.nowMs()));
          }
        }),
      );
    },

    forgetReplaced: async () => {
      await Promise.all(
        remaining().map(async (member) => {
          const { admin, process: known, startedAtMs, name } = member.target;
          if (known || startedAtMs === undefined) return;
          const info = await ask(member, () => admin.serverInfo(timeLeft()));
          if (!info) return;
          if (isSameStart(startOf(info, clock.nowMs()), startedAtMs)) return;
          log.warn(`${name} has been restarted since the drain began: leaving the new one alone`);
          member.markGone();
        }),
      );
    },

    sample: async () => {
      const asked = remaining();
      const counts = await Promise.all(asked.map((member) => ask(member, () => count(member))));
      if (remaining().length === 0) return { kind: 'gone' };
      const sample = { kind: 'known' as const, open: 0, busy: 0, socketless: 0, tookMs: 0 };
      for (const [index, found] of counts.entries()) {
        if (found) {
          for (const name of found.negative) sayOnce(`gauge ${name} is below zero: counted as 0`);
          sample.open += found.open;
          sample.busy += busyOf(found);
          sample.socketless += found.byKind.http3 + found.byKind.udp;
          sample.tookMs = Math.max(sample.tookMs, found.tookMs);
        } else if (asked[index]?.isGone() === false) {
          return { kind: 'unknown', reason: lastError ?? 'no answer' };
        }
      }
      return sample;
    },

    accepted: async () => {
      const asked = remaining();
      const replies = await Promise.all(
        asked.map((member) =>
          ask(member, () =>
            member.target.admin.stats({ type: 'Counters', filter: ACCEPTED_FILTER }, timeLeft()),
          ),
        ),
      );
      let total = 0;
      let tookMs = 0;
      for (const reply of replies) {
        if (!reply) return undefined;
        total += readAccepted(reply.stats, isIgnored);
        tookMs = Math.max(tookMs, reply.tookMs);
      }
      return { total, tookMs };
    },
  };
}

interface Member {
  readonly target: EnvoyTarget;
  isGone(): boolean;
  markGone(): void;
  noteAnswer(): void;
  noteFailure(error: unknown): void;
}

/**
 * Watches whether one Envoy still exists. Its process decides where it is known; otherwise repeated
 * refusals do: no answer at all may be a hung Envoy, a refused connection is none.
 */
function createMember(target: EnvoyTarget, clock: Clock): Member {
  let gone = false;
  let refusals = 0;
  let refusedSinceMs = 0;
  return {
    target,
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
      if (target.process) return;
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
