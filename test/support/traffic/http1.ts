import { connect } from 'node:net';
import { waitAtMost } from './patience.js';

/** How one request went. */
export type Exchange =
  | { ok: true; status: number; body: string }
  /** There was no whole answer. */
  | { ok: false; error: string };

/**
 * One HTTP/1.1 connection, on which requests follow each other. It is written on a bare socket, so
 * that nothing is tried again, and no request goes out on a connection that was announced to close.
 */
export interface Http1Connection {
  /** Asks; never rejects. One at a time. */
  get(path: string, limitMs: number): Promise<Exchange>;
  /** Another request may be sent. */
  isOpen(): boolean;
  /** The server has closed it between two requests, without `Connection: close` before. */
  wasClosedUnannounced(): boolean;
  close(): void;
}

/** Opens a connection; what goes wrong comes out with the first request. */
export function openHttp1(port: number): Http1Connection {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  let received = '';
  let done: ((exchange: Exchange) => void) | undefined;
  let end: string | undefined;
  let toldToClose = false;
  let unannounced = false;

  const finish = (exchange: Exchange): void => {
    const caller = done;
    done = undefined;
    received = '';
    caller?.(exchange);
  };
  const onEnd = (why: string): void => {
    if (end !== undefined) return;
    end = why;
    unannounced = done === undefined && !toldToClose;
    finish({ ok: false, error: describe(why, received) });
    socket.destroy();
  };
  socket.on('error', (error: NodeJS.ErrnoException) => onEnd(error.code ?? error.message));
  socket.on('end', () => onEnd('closed by the server'));
  socket.setEncoding('latin1');
  socket.on('data', (chunk: string) => {
    received += chunk;
    const answer = parse(received);
    if (!answer) return;
    toldToClose = answer.close;
    finish(answer.exchange);
  });

  return {
    get: (path, limitMs) =>
      new Promise((resolve) => {
        if (end !== undefined) return resolve({ ok: false, error: end });
        const isOver = waitAtMost(limitMs, () => onEnd(`no answer within ${limitMs} ms`));
        done = (exchange) => {
          isOver();
          resolve(exchange);
        };
        socket.write(`GET ${path} HTTP/1.1\r\nHost: test\r\n\r\n`);
      }),
    isOpen: () => end === undefined && !toldToClose,
    wasClosedUnannounced: () => unannounced,
    close: () => {
      end ??= 'closed by the client';
      socket.destroy();
    },
  };
}

function describe(why: string, received: string): string {
  return received ? `${why} after ${JSON.stringify(received.slice(0, 80))}` : why;
}

/** Reads one answer; undefined while it is not whole. */
function parse(received: string): { exchange: Exchange; close: boolean } | undefined {
  const endOfHead = received.indexOf('\r\n\r\n');
  if (endOfHead < 0) return undefined;
  const head = received.slice(0, endOfHead);
  const status = Number(head.slice(9, 12));
  const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1];
  // The backend always tells a length, and Envoy passes it on.
  if (length === undefined) {
    return { exchange: { ok: false, error: `no content-length: ${head}` }, close: true };
  }
  const body = received.slice(endOfHead + 4);
  if (body.length < Number(length)) return undefined;
  return { exchange: { ok: true, status, body }, close: /\r\nconnection: *close/i.test(head) };
}
