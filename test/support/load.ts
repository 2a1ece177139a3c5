import assert from 'node:assert/strict';
import { type Held, holdRequest, holdTcp, holdWebSocket } from './clients.js';
import { eventually } from './wait.js';

/** What is under way through Envoy while a test stops something. */
export interface Load {
  /** Sends the rest of every request; resolves when all were answered whole, fails when one was cut. */
  finish(): Promise<void>;
  /** Fails when one of the held connections was cut. */
  heldAreAlive(): Promise<void>;
  /** Ends the held connections, so that a drain can end. */
  letGo(): void;
}

/** Begins 20 requests and a stream, and opens a TCP connection and a WebSocket; all are under way then. */
export async function startLoad(ports: { http: number; tcp: number }): Promise<Load> {
  const held: Held[] = [await holdTcp(ports.tcp), await holdWebSocket(ports.http)];
  let begun = 0;
  const begins = (): void => {
    begun += 1;
  };
  const paths = [...Array.from({ length: 20 }, () => '/whole?early'), '/stream'];
  const requests = await Promise.all(paths.map((path) => holdRequest(ports.http, path, begins)));
  await eventually('all answers to have begun', () => begun === paths.length);
  return {
    finish: async () => {
      for (const { status, body } of await Promise.all(requests.map(({ finish }) => finish()))) {
        assert.equal(status, 200);
        assert.match(body, /^\.*came whole$/);
      }
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
