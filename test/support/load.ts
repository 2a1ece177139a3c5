import assert from 'node:assert/strict';
import { type Held, holdTcp, holdWebSocket, request } from './clients.js';
import { eventually } from './wait.js';

/** What is under way through Envoy while a test stops something. */
export interface Load {
  /** Resolves when every request has been answered whole; fails when one was cut. */
  allAnswered(): Promise<void>;
  /** Fails when one of the held connections was cut. */
  heldAreAlive(): Promise<void>;
  /** Ends the held connections, so that a drain can end. */
  letGo(): void;
}

/** How long each of the slow requests and the stream takes. */
export const SLOW_MS = 6_000;

/** Starts 20 slow requests and a stream, and opens a TCP connection and a WebSocket; all are under way then. */
export async function startLoad(ports: { http: number; tcp: number }): Promise<Load> {
  const held: Held[] = [await holdTcp(ports.tcp), await holdWebSocket(ports.http)];
  let begun = 0;
  let answered = 0;
  const begins = (): void => {
    begun += 1;
  };
  const slow = Array.from({ length: 20 }, async () => {
    const reply = await request(ports.http, `/slow?ms=${SLOW_MS}&early`, begins);
    assert.deepEqual(reply, { status: 200, body: 'slow and whole' });
    answered += 1;
  });
  const stream = request(ports.http, `/stream?ms=${SLOW_MS}`, begins).then((reply) => {
    assert.equal(reply.status, 200);
    assert.ok(reply.body.endsWith('end'), 'the stream is whole');
  });
  const all = Promise.all([...slow, stream]);
  all.catch(() => undefined);
  // Envoy has accepted each: what waits in an accept queue is reset when the listener closes.
  await Promise.race([eventually('all to be under way', () => begun === 21), all]);
  assert.equal(answered, 0, 'the slow requests are still under way');
  return {
    allAnswered: async () => {
      await all;
    },
    heldAreAlive: async () => {
      for (const connection of held) {
        assert.equal(connection.isCut(), false, 'a held connection was cut');
        await connection.echo('still here');
      }
    },
    letGo: () => {
      for (const connection of held) connection.close();
    },
  };
}
