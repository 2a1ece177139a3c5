/**
 * `npm run bench`: what the main job costs on this machine, with a real Envoy and a real pm2. Prints one
 * JSON document. Quote ratios and medians of one run: machines differ, and are shared.
 */
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { installEnvoy } from '../src/envoy/install.js';
import { holdTcp } from '../test/support/clients.js';
import { preparePm2, type TestPm2 } from '../test/support/pm2.js';
import { eventually } from '../test/support/wait.js';

const ROUNDS = 20;

process.env['ENVOY_BIN'] ??= (await installEnvoy()).path;
const pm2 = await preparePm2();
try {
  await pm2.start();
  const residentMb = await residentMemory(pm2);
  const lastCloseToAnswerMs: number[] = [];
  const emptyDrainMs: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    lastCloseToAnswerMs.push(await detect(pm2));
    await anew(pm2);
    const startedAt = performance.now();
    await pm2.http('POST', '/shutdown');
    emptyDrainMs.push(performance.now() - startedAt);
    await anew(pm2);
  }
  const report = {
    machine: { cpu: cpus()[0]?.model, cores: cpus().length, node: process.version },
    rounds: ROUNDS,
    'last connection closed → /shutdown answered, ms': summary(lastCloseToAnswerMs),
    'no connections → /shutdown answered, ms': summary(emptyDrainMs),
    'resident memory after start, MiB': residentMb,
  };
  console.log(JSON.stringify(report, undefined, 2));
} finally {
  await pm2.stop();
}
process.exit();

async function detect({ ports, http }: TestPm2): Promise<number> {
  const held = await holdTcp(ports.tcp);
  const answer = http('POST', '/shutdown').then(() => performance.now());
  await eventually('the drain to wait', async () => {
    return JSON.parse((await http('GET', '/status')).body).phase === 'wait';
  });
  // Anywhere between two polls.
  await new Promise((resolve) => setTimeout(resolve, 200 + Math.random() * 300));
  const closedAt = performance.now();
  held.close();
  return (await answer) - closedAt;
}

async function anew(used: TestPm2): Promise<void> {
  await used.pm2('restart', 'envoy');
  await used.untilReady();
}

async function residentMemory(used: TestPm2): Promise<Record<string, number>> {
  const [generation] = used.generations();
  const pids = {
    manager: await used.pidOf('envoy-manager'),
    runner: generation?.runner.pid ?? 0,
    envoy: generation?.envoy.pid ?? 0,
    'pm2 daemon': used.daemonPid(),
  };
  return Object.fromEntries(
    Object.entries(pids).map(([name, pid]) => {
      const kb = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
      return [name, Math.round(Number(kb) / 1_024)];
    }),
  );
}

function summary(values: number[]): { median: number; min: number; max: number } {
  const sorted = values.map((value) => Math.round(value)).sort((a, b) => a - b);
  const at = (index: number): number => sorted[index] ?? Number.NaN;
  return { median: at(Math.floor(sorted.length / 2)), min: at(0), max: at(sorted.length - 1) };
}
