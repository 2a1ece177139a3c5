import type { JournalEntry } from '../../status/journal.js';
import type { Status } from '../../status/status.js';

/** So many connections were open from one moment to another. */
export type Span = readonly [fromMs: number, toMs: number, open: number];

/** A line of the log: an entry of the journal, or what the page itself has noticed. */
export type LogLine = Omit<JournalEntry, 'kind'> & { kind: JournalEntry['kind'] | 'page' };

/** What the script goes on from. */
export interface Snapshot {
  /** Name of the host. */
  host: string;
  /** The manager's clock, milliseconds since 1970; all other `…AtMs` and spans are on it too. */
  nowMs: number;
  spans: readonly Span[];
  log: readonly LogLine[];
}

/** How fresh the status is. */
export type Link =
  /** As it was when the page was made: no script runs, or not yet. */
  | { kind: 'snapshot' }
  | { kind: 'live' }
  /** Nothing has been heard for longer than usual, but nothing has failed either. */
  | { kind: 'late' }
  | { kind: 'lost'; reason: string };

/** All that the page shows. */
export interface PageState extends Snapshot {
  status: Status;
  /** When `status` was heard. */
  heardAtMs: number;
  link: Link;
}
