import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { rest, seconds } from './measure.js';
import type { Round } from './peers.js';

/** A keep-alive connection with nothing under way: every peer counts it. */
export async function holdIdle(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.write('GET / HTTP/1.1\r\nhost: bench\r\n\r\n');
  await once(socket, 'data');
  return socket;
}

/** Last connection closed → it says drained, in seconds. It closes anywhere between two polls. */
export async function detect(round: Round): Promise<number> {
  const held = await holdIdle(round.httpPort);
  const done = round.drain();
  await rest(1_500 + Math.random() * 2_000);
  return seconds(async () => {
    held.destroy();
    await done;
  });
}
