import { connect, type Socket } from 'node:net';
import { eventually } from './wait.js';

/** A raw connection to a server. */
export interface Dialled {
  socket: Socket;
  send(text: string | Uint8Array): void;
  /** Everything that has come back so far. */
  received(): string;
  isClosed(): boolean;
  /** Resolves once the server has closed the connection. */
  closed(withinMs?: number): Promise<void>;
}

/** Connects, and sends what is given. */
export async function dial(port: number, text: string | Uint8Array = ''): Promise<Dialled> {
  const socket = connect({ port, host: '127.0.0.1' });
  let received = '';
  let isClosed = false;
  socket.on('data', (chunk: Buffer) => {
    received += chunk.toString('latin1');
  });
  // A reset is a close.
  socket.on('error', () => undefined);
  socket.on('close', () => {
    isClosed = true;
  });
  await new Promise((resolve) => socket.once('connect', resolve));
  if (text.length > 0) socket.write(text);
  return {
    socket,
    send: (more) => void socket.write(more),
    received: () => received,
    isClosed: () => isClosed,
    closed: async (withinMs = 5_000) => {
      await eventually('the server to close the connection', () => isClosed, withinMs);
    },
  };
}
