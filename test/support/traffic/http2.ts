import { type ClientHttp2Session, connect } from 'node:http2';
import type { Exchange } from './http1.js';
import { waitAtMost } from './patience.js';

/** An HTTP/2 client that opens another session once it is told to leave the one it has. */
export interface Http2Client {
  /** Asks on a stream of its own; never rejects. */
  get(path: string, limitMs: number): Promise<Exchange>;
  close(): void;
}

/** Creates a client; `port` is asked before each session. */
export function createHttp2Client(port: () => number): Http2Client {
  let current: ClientHttp2Session | undefined;
  const session = (): ClientHttp2Session => {
    // Node closes a session, for new streams, as soon as it has read GOAWAY.
    if (!current || current.closed || current.destroyed) {
      current = connect(`http://127.0.0.1:${port()}`);
      // Each stream under way is told by an error of its own.
      current.on('error', () => undefined);
    }
    return current;
  };
  return {
    get: async (path, limitMs) => {
      for (;;) {
        const asked = session();
        const answer = await ask(asked, path, limitMs);
        if (answer !== 'not sent') return answer;
        asked.close();
      }
    },
    close: () => current?.close(),
  };
}

/**
 * One request. `not sent`: GOAWAY came when the request was still in this process. Node then says
 * 'frameError', and closes the stream with REFUSED_STREAM as if the server had.
 */
function ask(
  session: ClientHttp2Session,
  path: string,
  limitMs: number,
): Promise<Exchange | 'not sent'> {
  return new Promise((resolve) => {
    const stream = session.request({ ':path': path });
    let status = 0;
    let body = '';
    let isWhole = false;
    let error: string | undefined;
    const isOver = waitAtMost(limitMs, () => {
      error = `no answer within ${limitMs} ms`;
      stream.close();
    });
    stream.setEncoding('utf8');
    stream.on('response', (headers) => {
      status = headers[':status'] ?? 0;
    });
    stream.on('data', (chunk: string) => {
      body += chunk;
    });
    stream.on('end', () => {
      isWhole = true;
    });
    stream.on('frameError', () => resolve('not sent'));
    stream.on('error', (cause: NodeJS.ErrnoException) => {
      error ??= `${cause.code}: ${cause.message}`;
    });
    stream.on('close', () => {
      isOver();
      if (error === undefined && isWhole && status > 0) resolve({ ok: true, status, body });
      else resolve({ ok: false, error: error ?? `the stream ended (status ${status})` });
    });
  });
}
