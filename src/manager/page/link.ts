import type { JournalEntry } from '../../status/journal.js';
import type { Status } from '../../status/status.js';

/** The page's connection to the manager. */
export interface ManagerLink {
  /** To be called each second: asks where nothing has been heard, and tries again. */
  tick(): void;
}

/** What comes over it. */
export interface LinkEvents {
  onStatus(status: Status): void;
  /** Also what is known already: the stream says it again after a break. */
  onEntry(entry: JournalEntry): void;
  onLost(reason: string): void;
}

/** The stream speaks only when something changes: whether the manager is there has to be asked. */
const SILENT_MS = 3_000;
const RETRY_MS = 2_000;
/** The manager itself waits up to 5 s for an Envoy that hangs. */
const LIMIT_MS = 10_000;
/** A stream that is refused is not tried more often than that. */
const REOPEN_MS = 5_000;

/** Listens to `/events`, and asks `/status` while that is silent. */
export function openLink({ onStatus, onEntry, onLost }: LinkEvents): ManagerLink {
  let lastMs = Date.now();
  let openedMs = Date.now();
  let isAsking = false;
  let isLost = false;

  const heard = (status: Status): void => {
    lastMs = Date.now();
    isLost = false;
    onStatus(status);
  };
  const listen = (): EventSource => {
    openedMs = Date.now();
    const source = new EventSource('/events');
    source.addEventListener('status', ({ data }) => heard(JSON.parse(data)));
    source.addEventListener('log', ({ data }) => onEntry(JSON.parse(data)));
    source.addEventListener('error', () => void ask());
    return source;
  };
  /** After a break the old stream may be dead without knowing it. */
  const reopen = (): void => {
    if (Date.now() - openedMs < REOPEN_MS) return;
    stream.close();
    stream = listen();
  };
  const ask = async (): Promise<void> => {
    if (isAsking) return;
    isAsking = true;
    const beforeMs = lastMs;
    try {
      const status = await askStatus();
      if (isLost || stream.readyState === EventSource.CLOSED) reopen();
      // What the stream has said meanwhile is newer.
      if (lastMs === beforeMs) heard(status);
    } catch (error) {
      lastMs = Date.now();
      isLost = true;
      onLost(reasonOf(error));
    }
    isAsking = false;
  };
  let stream = listen();
  return {
    tick: () => {
      if (Date.now() - lastMs >= (isLost ? RETRY_MS : SILENT_MS)) void ask();
    },
  };
}

async function askStatus(): Promise<Status> {
  const signal = AbortSignal.timeout(LIMIT_MS);
  const reply = await fetch('/status', { signal });
  const body = await reply.json();
  if (reply.ok) return body;
  throw new Refusal(`it refuses (${reply.status}): ${body?.error?.message}`);
}

class Refusal extends Error {}

/** The browser's own words for a broken connection say little. */
function reasonOf(error: unknown): string {
  if (error instanceof Refusal) return error.message;
  return (error as Error).name === 'TimeoutError' ? 'it does not answer' : 'it can’t be reached';
}
