import { createServer, type Server } from 'node:net';

/** Below the range that the system hands out by itself. */
const FIRST = 10_240;
const BLOCKS = 1_375;
/** The first port of a block is the claim on the others. */
const BLOCK_SIZE = 16;

/** What this process has claimed and not given away. */
const claimed: number[] = [];

/**
 * Free TCP ports, each given once. Two Envoys would share a port in silence (SO_REUSEPORT), and a test's Envoy listens
 * seconds after its port was chosen. So no other process chooses from a block of ports in which this one listens.
 */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) {
    const port = claimed.pop();
    if (port === undefined) claimed.push(...(await claimBlock()));
    else if (await isFree(port)) ports.push(port);
  }
  return ports;
}

async function claimBlock(): Promise<number[]> {
  for (;;) {
    const first = FIRST + BLOCK_SIZE * Math.floor(Math.random() * BLOCKS);
    const claim = await listenOn(first);
    // It is held for as long as this process lives.
    claim?.unref();
    if (claim) return Array.from({ length: BLOCK_SIZE - 1 }, (_, at) => first + 1 + at);
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = await listenOn(port);
  if (!server) return false;
  await new Promise((done) => server.close(done));
  return true;
}

function listenOn(port: number): Promise<Server | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(undefined));
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
}
