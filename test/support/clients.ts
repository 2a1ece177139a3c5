import type { EventEmitter } from 'node:events';
import { type ClientRequest, get, request as openRequest } from 'node:http';
import { connect } from 'node:net';
import { WebSocket } from 'ws';

/** A connection that a test holds open. */
export interface Held {
  /** Whether the other side has ended or reset it. */
  isCut(): boolean;
  /** Sends something and resolves once it has come back. */
  echo(text: string): Promise<void>;
  close(): void;
}

/** What a request was answered. */
interface Answer {
  status: number;
  body: string;
}

/** One request on a connection of its own; rejects when it is cut. `onHeaders`: its answer has begun. */
export function request(
  port: number,
  path = '/',
  onHeaders: () => void = () => undefined,
): Promise<Answer> {
  return answerTo(get({ host: '127.0.0.1', port, path, agent: false }), onHeaders);
}

function answerTo(call: ClientRequest, onHeaders: () => void): Promise<Answer> {
  return new Promise((resolve, reject) => {
    call.on('response', (response) => {
      onHeaders();
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        body += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
      response.on('error', reject);
    });
    call.on('error', reject);
  });
}

/** A request that Envoy works on until the test finishes it. */
export interface HeldRequest {
  /** Sends the rest of it, and resolves to its answer; rejects when it was cut. */
  finish(): Promise<Answer>;
}

/** Sends a request but for its last byte, and resolves once Envoy works on it. `onHeaders`: its answer has begun. */
export async function holdRequest(
  port: number,
  path = '/whole',
  onHeaders: () => void = () => undefined,
): Promise<HeldRequest> {
  const headers = { expect: '100-continue' };
  const call = openRequest({
    ...{ host: '127.0.0.1', port, path, method: 'POST', agent: false, headers },
  });
  const answer = answerTo(call, onHeaders);
  // Who holds it asks for the answer later.
  answer.catch(() => undefined);
  call.flushHeaders();
  const goesOn = new Promise((resolve) => call.once('continue', resolve));
  await Promise.race([goesOn, answer]);
  return {
    finish: () => {
      call.end('.');
      return answer;
    },
  };
}

/** Opens a connection to a TCP echo behind Envoy. */
export async function holdTcp(port: number): Promise<Held> {
  const socket = connect({ port, host: '127.0.0.1' });
  const end = watchEnd(socket);
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  const held: Held = {
    isCut: end.isCut,
    echo: (text) =>
      new Promise((resolve, reject) => {
        if (end.isCut()) reject(new Error('the TCP connection was cut before it could echo'));
        socket.once('data', (data) =>
          String(data) === text ? resolve() : reject(new Error(`not an echo: ${String(data)}`)),
        );
        socket.once('close', () =>
          reject(new Error(`the TCP connection was cut before it echoed ${text}`)),
        );
        socket.write(text);
      }),
    close: () => {
      end.isOurs();
      socket.destroy();
    },
  };
  await held.echo('hello');
  return held;
}

/** Opens a WebSocket echo behind Envoy. */
export async function holdWebSocket(port: number): Promise<Held> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/`);
  const end = watchEnd(socket);
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject));
  const held: Held = {
    isCut: end.isCut,
    echo: (text) =>
      new Promise((resolve, reject) => {
        if (end.isCut()) reject(new Error('the WebSocket was cut before it could echo'));
        socket.once('message', (data) =>
          String(data) === text ? resolve() : reject(new Error('not an echo')),
        );
        socket.once('close', () =>
          reject(new Error(`the WebSocket was cut before it echoed ${text}`)),
        );
        socket.send(text);
      }),
    close: () => {
      end.isOurs();
      socket.terminate();
    },
  };
  await held.echo('hello');
  return held;
}

/** Opens three TCP connections and a WebSocket. */
export function holdFour({ tcp, http }: { tcp: number; http: number }): Promise<Held[]> {
  return Promise.all([holdTcp(tcp), holdTcp(tcp), holdTcp(tcp), holdWebSocket(http)]);
}

/** An idle HTTP keep-alive connection: one request was answered on it. */
export async function holdIdle(port: number): Promise<Held> {
  const socket = connect({ port, host: '127.0.0.1' });
  const end = watchEnd(socket);
  const ask = (): Promise<void> =>
    new Promise((resolve, reject) => {
      socket.once('data', () => resolve());
      socket.once('close', () => reject(new Error('the idle connection was cut')));
      socket.write('GET / HTTP/1.1\r\nHost: test\r\n\r\n');
    });
  await ask();
  return {
    isCut: end.isCut,
    echo: ask,
    close: () => {
      end.isOurs();
      socket.destroy();
    },
  };
}

/** Tells an end that the other side made from our own. */
function watchEnd(socket: EventEmitter): { isCut(): boolean; isOurs(): void } {
  let cut = false;
  let ours = false;
  for (const event of ['error', 'close']) {
    socket.on(event, () => {
      cut = !ours;
    });
  }
  return {
    isCut: () => cut,
    isOurs: () => {
      ours = true;
    },
  };
}
