import { connect, type Socket } from 'node:net';
import { isAlive } from '../src/host/process-identity.js';
import type { TestPm2 } from '../test/support/pm2.js';
import { holdIdle } from './hold.js';
import {
  cpuMsPerMinute,
  mainThreadMsPerMinute,
  milliseconds,
  rest,
  seconds,
  soon,
} from './measure.js';
import type { Round, Subject } from './peers.js';

/** Envoy is killed; how long until one serves, in seconds. */
export async function crashes(pm2: TestPm2, rounds: number): Promise<number[]> {
  const took: number[] = [];
  for (let count = 0; count < rounds; count += 1) {
    const { envoy } = servingOf(pm2);
    took.push(
      await seconds(async () => {
        process.kill(envoy.pid, 'SIGKILL');
        await soon('another one', () => {
          return !isAlive(envoy) && pm2.generations().some(({ ready }) => ready);
        });
      }),
    );
    await pm2.untilReady();
  }
  return took;
}

/** What a drain costs while one connection holds it. */
export interface Held {
  /** CPU of manager and runner in the first minute and in the next one, ms. */
  oursMs: number[];
  /** CPU of Envoy's main thread in a minute, above what it used before the drain, ms. */
  envoyMs: number;
  /** Last connection closed → drained, after all that, s. */
  detectS: number;
}

/** Drains while one connection is held for as long as `minutes` say, each of `minuteMs`. */
export async function holdDrain(
  subject: Subject & { pm2: TestPm2 },
  { minutes, minuteMs }: { minutes: number; minuteMs: number },
): Promise<Held> {
  const round = await subject.begin();
  const { envoy, runner } = servingOf(subject.pm2);
  const held = await holdIdle(round.httpPort);
  await rest(1_000);
  const idleMs = await mainThreadMsPerMinute(envoy.pid, Math.min(20_000, minuteMs));
  const done = round.drain();
  const oursMs: number[] = [];
  let envoyMs = Number.NaN;
  for (let count = 0; count < minutes; count += 1) {
    const [ours, main] = await Promise.all([
      cpuMsPerMinute([round.managerPid, runner.pid], minuteMs),
      mainThreadMsPerMinute(envoy.pid, minuteMs),
    ]);
    oursMs.push(ours);
    if (count === 0) envoyMs = main - idleMs;
  }
  const detectS = await untilDrained([held], done);
  return { oursMs, envoyMs, detectS };
}

/** Very many connections: the time that /status takes, and from the last close to the end of the drain. */
export async function manyConnections(
  round: Round,
  pm2: TestPm2,
  count: number,
): Promise<{ statusMs: number[]; detectS: number }> {
  const sockets = await openMany(round.httpPort, count);
  await soon('Envoy to have them all', async () => (await openCount(pm2)) >= count, 30_000);
  const statusMs: number[] = [];
  for (let asked = 0; asked < 7; asked += 1) {
    await rest(500);
    statusMs.push(await milliseconds(() => pm2.http('GET', '/status')));
  }
  const done = round.drain();
  await rest(500);
  const [last, ...others] = sockets;
  for (const [index, socket] of others.entries()) {
    socket.destroy();
    if (index % 100 === 99) await rest(20);
  }
  await rest(500 + Math.random() * 1_000);
  return { statusMs, detectS: await untilDrained(last ? [last] : [], done) };
}

function untilDrained(held: readonly Socket[], done: Promise<void>): Promise<number> {
  return seconds(async () => {
    for (const socket of held) socket.destroy();
    await done;
  });
}

async function openMany(port: number, count: number): Promise<Socket[]> {
  const sockets: Socket[] = [];
  while (sockets.length < count) {
    const batch = Array.from({ length: Math.min(100, count - sockets.length) }, () => open(port));
    sockets.push(...(await Promise.all(batch)));
  }
  return sockets;
}

function open(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => resolve(socket)).once('error', reject);
  });
}

async function openCount(pm2: TestPm2): Promise<number> {
  return JSON.parse((await pm2.http('GET', '/status')).body).connections?.open ?? 0;
}

function servingOf(pm2: TestPm2) {
  const generation = pm2.generations().at(-1);
  if (!generation) throw new Error('no Envoy runs');
  return generation;
}
