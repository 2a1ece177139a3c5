import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';

/** A stand-in of Slack: chat.postMessage and chat.update of its Web API, with their refusals. */
export interface Slack {
  api: string;
  /** The texts in the channel, oldest first, as they read now. */
  texts(): string[];
  /** Methods in the order of their calls. */
  calls: readonly string[];
  close(): void;
}

/** Starts one with one channel that wants this token; docs.slack.dev/reference/methods. */
export async function startSlack(token: string, channel: string): Promise<Slack> {
  const messages = new Map<string, string>();
  const calls: string[] = [];
  const handle = (method: string, body: Record<string, string>): object => {
    if (body['channel'] !== channel) return { ok: false, error: 'channel_not_found' };
    if (!body['text']) return { ok: false, error: 'no_text' };
    const isUpdate = method === 'chat.update';
    const ts = isUpdate
      ? (body['ts'] ?? '')
      : `1503435956.${String(messages.size).padStart(6, '0')}`;
    if (isUpdate && !messages.has(ts)) return { ok: false, error: 'message_not_found' };
    messages.set(ts, body['text']);
    return { ok: true, channel, ts, message: { text: body['text'] } };
  };
  const server = createServer(async (request, response) => {
    const { method, url = '', headers } = request;
    const body = (await json(request).catch(() => ({}))) as Record<string, string>;
    const name = url.replace('/api/', '');
    calls.push(name);
    const isKnown = method === 'POST' && ['chat.postMessage', 'chat.update'].includes(name);
    const isJson = headers['content-type']?.startsWith('application/json') === true;
    response.setHeader('content-type', 'application/json; charset=utf-8');
    const answer = !isKnown
      ? { ok: false, error: 'unknown_method' }
      : headers.authorization !== `Bearer ${token}`
        ? { ok: false, error: 'invalid_auth' }
        : isJson
          ? handle(name, body)
          : { ok: false, error: 'invalid_post_type' };
    response.end(JSON.stringify(answer));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    api: `http://127.0.0.1:${(server.address() as AddressInfo).port}/api/`,
    texts: () => [...messages.values()],
    calls,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
