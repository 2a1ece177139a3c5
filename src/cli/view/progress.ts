import { systemClock } from '../../clock.js';
import type { DrainResult } from '../../drain/state.js';
import { messageOf } from '../../errors.js';
import { isDraining } from '../../status/situation.js';
import type { Status } from '../../status/status.js';
import type { CliContext } from '../terminal/context.js';
import { layOut } from '../terminal/layout.js';
import type { Screen } from '../terminal/screen.js';
import { type DrainSeen, see } from './drain-history.js';
import { drainView } from './drain-view.js';
import { createDrainLines, type PlainLine, plainText, stamped } from './plain-view.js';

/** Shows where a drain is while it runs. */
export interface DrainFollower {
  /** Shows it until `drain` settles, with what `read` says of it; again for the same drain, if need be. */
  follow(
    drain: Promise<DrainResult>,
    read: (signal: AbortSignal) => Promise<Status>,
  ): Promise<DrainResult>;
  /** The status at the latest look that found it under way. */
  latest(): Status | undefined;
  /** Shows nothing more; what was shown last stays. */
  close(): void;
}

/** How a progress is shown; one for each kind of output. */
interface DrainDisplay {
  status(status: Status): void;
  problem(message: string): void;
  ended(result: DrainResult): void;
  close(): void;
}

const LOOK_MS = 500;
/** The first looks come sooner: a drain with nothing to wait for is over in no time. */
const FIRST_LOOK_MS = 100;

/** Creates it: drawn on a terminal, in plain lines elsewhere; always on stderr. */
export function createDrainFollower({ io }: CliContext): DrainFollower {
  const { live } = io.terminal('stderr');
  const display = live ? drawn(() => io.screen('stderr')) : printed(io.note);
  let latest: Status | undefined;
  return {
    latest: () => latest,
    follow: async (drain, read) => {
      const over = new AbortController();
      const watching = (async () => {
        for (let waitMs = FIRST_LOOK_MS; !over.signal.aborted; waitMs = LOOK_MS) {
          await systemClock.sleep(waitMs, over.signal);
          if (over.signal.aborted) return;
          try {
            const status = await read(over.signal);
            if (over.signal.aborted || !isDraining(status)) continue;
            latest = status;
            display.status(status);
          } catch (error) {
            if (!over.signal.aborted) display.problem(messageOf(error));
          }
        }
      })();
      try {
        const result = await drain;
        over.abort();
        display.ended(result);
        return result;
      } finally {
        // An answer under way would keep the command from ending.
        over.abort();
        await watching;
      }
    },
    close: display.close,
  };
}

function drawn(open: () => Promise<Screen>): DrainDisplay {
  let screen: Screen | undefined;
  let isAsked = false;
  let isClosed = false;
  let seen: DrainSeen | undefined;
  let last: Status | undefined;
  let problem: string | undefined;
  const show = (status: Status): void => {
    const view = { status, seen };
    const notes = problem === undefined ? [] : [{ text: problem, style: 'warn' } as const];
    screen?.show((terminal) => [
      ...drainView(view, { ...terminal, height: terminal.height - notes.length }),
      ...layOut(notes, terminal),
    ]);
  };
  const openScreen = async (): Promise<void> => {
    const opened = await open();
    if (isClosed) return opened.end();
    screen = opened;
    if (last) show(last);
  };
  return {
    status: (status) => {
      problem = undefined;
      last = status;
      seen = see(seen, status);
      show(status);
      if (!isAsked) void openScreen();
      isAsked = true;
    },
    problem: (message) => {
      problem = message;
      if (last) show(last);
    },
    ended: (result) => {
      if (!last) return;
      const status = { ...last, ...result, timeLeftMs: null, deadline: null, lastError: null };
      seen = see(seen, status);
      problem = undefined;
      show(status);
    },
    close: () => {
      isClosed = true;
      screen?.end();
    },
  };
}

function printed(say: (text: string) => void): DrainDisplay {
  const lines = createDrainLines();
  const print = (line: PlainLine): void => say(stamped(line, new Date()));
  return {
    status: (status) => lines.next(status, systemClock.nowMs()).forEach(print),
    problem: () => undefined,
    ended: ({ outcome, connectionsAtStart, connectionsLeft }) => {
      const all = connectionsAtStart === null ? '' : ` of ${connectionsAtStart}`;
      print(plainText(`finish: ${outcome}, ${connectionsLeft ?? 'unknown'}${all} open`));
    },
    close: () => undefined,
  };
}
