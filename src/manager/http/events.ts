import type { Request, RequestHandler, Response } from 'express';
import type { Journal, JournalEntry } from '../../status/journal.js';
import type { Observer } from '../../status/observer.js';
import type { Status } from '../../status/status.js';
import { sendError } from './answers.js';

/** The stream of server-sent events. */
export interface EventStream {
  handler: RequestHandler;
  /** Ends every stream, so that the server can close. */
  close(): void;
}

/** How many may watch at a time; a page is one. */
const MOST_STREAMS = 100;
/** Below the idle limit of a connection, and of most proxies. */
const HEARTBEAT_MS = 15_000;
const RECONNECT_MS = 2_000;
/** A client that does not read at all is disconnected: it reconnects with the last id that it has seen. */
const MOST_UNREAD_BYTES = 1024 * 1024;

/**
 * Creates `GET /events`: `status` is the body of /status, immediately and at each change; `log` is an entry
 * of the journal, with an id. A client that comes back with `Last-Event-ID` gets what it has missed.
 */
export function createEventStream(parts: { observer: Observer; journal: Journal }): EventStream {
  const { observer, journal } = parts;
  const open = new Set<Response>();

  const handler = (request: Request, response: Response): void => {
    if (open.size >= MOST_STREAMS) {
      response.set('retry-after', String(HEARTBEAT_MS / 1_000));
      const message = `${MOST_STREAMS} callers are already watching, which is the limit: close one, or use /status`;
      sendError(response, 503, { code: 'too-many-watchers', message });
      return;
    }
    open.add(response);
    response.status(200).set({
      'content-type': 'text/event-stream; charset=utf-8',
      // nginx would hold events back.
      'x-accel-buffering': 'no',
    });
    response.write(`retry: ${RECONNECT_MS}\n\n`);
    const missed = journal.entries(request.get('last-event-id'));
    for (const entry of missed) sendEntry(response, entry);
    const stops = [
      journal.onEntry((entry) => sendEntry(response, entry)),
      observer.watch(createStatusSender(response)),
      every(HEARTBEAT_MS, () => response.write(': still here\n\n')),
    ];
    response.once('close', () => {
      open.delete(response);
      for (const stop of stops) stop();
    });
  };
  return {
    handler,
    close: () => {
      for (const response of open) response.end();
    },
  };
}

function sendEntry(response: Response, entry: JournalEntry): void {
  if (response.writableLength > MOST_UNREAD_BYTES) response.destroy();
  response.write(`event: log\nid: ${entry.id}\ndata: ${JSON.stringify(entry)}\n\n`);
}

/** A client that reads slowly gets only the latest status, once there is room. */
function createStatusSender(response: Response): (status: Status) => void {
  let waiting: Status | undefined;
  const send = (status: Status): void => {
    response.write(`event: status\ndata: ${JSON.stringify(status)}\n\n`);
  };
  response.on('drain', () => {
    if (waiting) send(waiting);
    waiting = undefined;
  });
  return (status) => {
    if (response.writableNeedDrain) waiting = status;
    else send(status);
  };
}

function every(ms: number, action: () => void): () => void {
  const timer = setInterval(action, ms);
  return () => clearInterval(timer);
}
