// The process that startTraffic forks: it does as it is told, one order after the other.
import type { TrafficAnswer, TrafficOrder } from '../traffic.js';
import { patiently } from '../wait.js';
import { type Clients, type Stage, startClients } from './clients.js';
import { createHeldPair, type HeldPair } from './held.js';
import { createTally, type TrafficKind, type TrafficReport } from './tally.js';

interface Running {
  stage: Stage;
  clients: Clients;
  held: HeldPair;
}

let running: Running | undefined;
let queue = Promise.resolve();

// The test has ended, whatever way.
process.on('disconnect', () => process.exit());
process.on('message', (order: TrafficOrder) => {
  queue = queue.then(async () => {
    const answer = await obey(order).then(
      (report): TrafficAnswer => ({ report }),
      (error: unknown): TrafficAnswer => ({ error: String(error) }),
    );
    process.send?.(answer);
  });
});

async function obey(order: TrafficOrder): Promise<TrafficReport> {
  if (order.do === 'start') {
    const tally = createTally();
    const stage: Stage = { ports: order.ports, options: order.options, tally, isStopping: false };
    running = { stage, clients: startClients(stage), held: createHeldPair(stage) };
    await firstAnswers(stage);
    return tally.report();
  }
  if (!running) throw new Error(`told to ${order.do} before the start`);
  const { stage, clients, held } = running;
  switch (order.do) {
    case 'hold':
      await held.hold();
      break;
    case 'echo':
      await held.echo();
      break;
    case 'letGo':
      held.letGo();
      break;
    case 'moveTo':
      stage.ports = order.ports;
      break;
    case 'stop':
      held.letGo();
      await clients.stop();
      break;
    case 'look':
      break;
    default:
      order satisfies never;
  }
  return stage.tally.report();
}

/** The traffic flows once each kind that is quick has been answered. */
async function firstAnswers({ options, ports, tally }: Stage): Promise<void> {
  const amounts: Partial<Record<TrafficKind, number>> = {
    'keep-alive': options.keepAlive,
    new: options.newPerSecond,
    http2: options.sessions * options.streams,
    readyz: ports.serve === undefined ? 0 : 1,
  };
  const expected = Object.entries(amounts).filter(([, amount]) => amount > 0);
  await patiently('the first answers', () => {
    const { kinds } = tally.report();
    return expected.every(([kind]) => kinds[kind as TrafficKind].requests > 0);
  });
}
