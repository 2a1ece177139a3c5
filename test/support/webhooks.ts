import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';

/** A request that came to a test's HTTP server. */
export interface Call {
  method: string;
  url: string;
  headers: IncomingHttpHeaders;
  /** Undefined: there was no body. */
  body: unknown;
}

/** An HTTP server on loopback that keeps what it is told. */
export interface WebhookServer {
  url: string;
  calls: readonly Call[];
  close(): void;
}

/** Starts one; `answer` is handed each request's number, from 1, and answers 200 if left out. */
export async function startWebhookServer(
  answer: (response: ServerResponse, count: number) => void = (response) => response.end('ok'),
): Promise<WebhookServer> {
  const calls: Call[] = [];
  const server = createServer(async (request, response) => {
    const { method = '', url = '', headers } = request;
    const body = await json(request).catch(() => undefined);
    calls.push({ method, url, headers, body });
    answer(response, calls.length);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    calls,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
