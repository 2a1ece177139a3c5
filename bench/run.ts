/**
 * `npm run bench`: pm2-envoy and its peers on the same work, in alternation, with a real Envoy, a real pm2 and
 * real sidecars (Go builds them once). Writes bench/RESULTS.md. Quote ratios and medians of one run: machines
 * differ, and are shared. `npm run bench:quick` does fewer rounds and writes nothing.
 */
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { cpus } from 'node:os';
import { installEnvoy } from '../src/envoy/install.js';
import { isAlive } from '../src/envoy/process-identity.js';
import type { TestPm2 } from '../test/support/pm2.js';
import { eventually } from '../test/support/wait.js';
import { manyClusters } from './many-clusters.js';
import { contour, gateway, ours, type Round, type Subject } from './peers.js';

const isQuick = process.argv.includes('--quick');
const ROUNDS = isQuick ? 3 : 8;
const CALLERS = 1_000;
const rows: string[] = [];

process.env['ENVOY_BIN'] ??= (await installEnvoy()).path;

const own = await ours();
const subjects: Subject[] = [
  own,
  contour('Contour 1.33.8', []),
  contour('Contour 1.33.8, check-interval 1s', ['--check-interval=1s']),
  gateway('Envoy Gateway 1.9.1, min-drain 0', ['--min-drain-duration=0s']),
];
try {
  await compare('last connection closed → it says drained, s', ROUNDS, detect);
  await compare('no connections → it says drained, s', Math.ceil(ROUNDS / 2), async (round) =>
    seconds(() => round.drain()),
  );
  await compare(
    `${CALLERS} callers: last close → all answered, s`,
    Math.ceil(ROUNDS / 4),
    (round) => manyCallers(round).then(({ tookS }) => tookS),
  );
  await compare('the same: more memory while they wait, MiB', Math.ceil(ROUNDS / 4), (round) =>
    manyCallers(round).then(({ moreMiB }) => moreMiB),
  );
  await compare('resident memory beside Envoy, 5 s after start, MiB', 1, async (round) => {
    await rest(5_000);
    return residentMiB(round.managerPid);
  });
  await ourOwn(own.pm2);
} finally {
  await own.end();
}
await withManyClusters();
write();
process.exit();

/** Measures every subject in turn, again and again, so that what else the machine does meets all of them. */
async function compare(
  what: string,
  rounds: number,
  measure: (round: Round) => Promise<number>,
): Promise<void> {
  const values = new Map<Subject, number[]>(subjects.map((subject) => [subject, []]));
  for (let count = 0; count < rounds; count += 1) {
    for (const [subject, list] of values) {
      const round = await subject.begin();
      list.push(await measure(round));
      await round.stop();
    }
  }
  const cells = [...values.values()].map(summary);
  say(`| ${what} | ${cells.join(' | ')} |`);
}

/** The connection closes anywhere between two polls. */
async function detect(round: Round): Promise<number> {
  const held = await holdIdle(round.httpPort);
  const done = round.drain();
  await rest(1_500 + Math.random() * 2_000);
  return seconds(async () => {
    held.destroy();
    await done;
  });
}

/** A keep-alive connection with nothing under way: every peer counts it. */
async function holdIdle(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.write('GET / HTTP/1.1\r\nhost: bench\r\n\r\n');
  await once(socket, 'data');
  return socket;
}

async function manyCallers(round: Round): Promise<{ tookS: number; moreMiB: number }> {
  const held = await holdIdle(round.httpPort);
  const before = residentMiB(round.managerPid);
  const done = Promise.all(round.wait(CALLERS));
  await rest(3_000);
  const moreMiB = residentMiB(round.managerPid) - before;
  const tookS = await seconds(async () => {
    held.destroy();
    await done;
  });
  return { tookS, moreMiB };
}

/** What no peer does, or does in another process. */
async function ourOwn(pm2: TestPm2): Promise<void> {
  const [generation] = pm2.generations();
  const runner = generation?.runner.pid ?? 0;
  const manager = await pm2.pidOf('envoy-manager');
  say(`| runner: resident memory, MiB | ${residentMiB(runner)} | – | – | – |`);
  say(`| Envoy killed → serves again, s | ${summary(await crashes(pm2))} | – | – | – |`);
  // What V8 tidies up after a start is over by then.
  await rest(isQuick ? 1_000 : 60_000);
  const minute = isQuick ? 5_000 : 60_000;
  const used = await cpuMs([manager, pm2.generations()[0]?.runner.pid ?? 0], minute);
  say(`| manager and runner idle: CPU a minute, ms | ${used.toFixed(1)} | – | – | – |`);
}

async function crashes(pm2: TestPm2): Promise<number[]> {
  const took: number[] = [];
  for (let count = 0; count < Math.ceil(ROUNDS / 3); count += 1) {
    const [generation] = pm2.generations();
    if (!generation) throw new Error('no Envoy runs');
    took.push(
      await seconds(async () => {
        process.kill(generation.envoy.pid, 'SIGKILL');
        await eventually('another one', () => {
          return !isAlive(generation.envoy) && pm2.generations().some(({ ready }) => ready);
        });
      }),
    );
    await pm2.untilReady();
  }
  return took;
}

/** The work that makes a poll dear. */
async function withManyClusters(): Promise<void> {
  const clusters = 10_000;
  const subject = await ours();
  await manyClusters(subject.pm2, clusters);
  const took: number[] = [];
  for (let count = 0; count < Math.ceil(ROUNDS / 2); count += 1) {
    took.push(await detect(await subject.begin()));
  }
  await subject.end();
  say(
    `| ${clusters} clusters: last connection closed → drained, s | ${summary(took)} | – | – | – |`,
  );
}

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return (performance.now() - startedMs) / 1_000;
}

function residentMiB(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1_024);
}

/** CPU time of every thread, as the scheduler counts it. */
async function cpuMs(pids: readonly number[], forMs: number): Promise<number> {
  const now = (): number =>
    pids
      .flatMap((pid) => readdirSync(`/proc/${pid}/task`).map((task) => `/proc/${pid}/task/${task}`))
      .map((task) => Number(readFileSync(`${task}/schedstat`, 'utf8').split(' ')[0]) / 1e6)
      .reduce((sum, ms) => sum + ms, 0);
  const before = now();
  await rest(forMs);
  return ((now() - before) * 60_000) / forMs;
}

function rest(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Median (least – most). */
function summary(values: readonly number[]): string {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (index: number): string => String(Number((sorted[index] ?? Number.NaN).toFixed(3)));
  if (sorted.length === 1) return at(0);
  return `${at(Math.floor(sorted.length / 2))} (${at(0)} – ${at(sorted.length - 1)})`;
}

function say(row: string): void {
  rows.push(row);
  console.log(row);
}

function write(): void {
  if (isQuick) return;
  const names = subjects.map(({ name }) => name);
  const text = `# Results

One run of \`npm run bench\` on ${new Date().toISOString().slice(0, 10)}: Envoy 1.40.0, Node ${process.version}, ${cpus().length} cores of
${cpus()[0]?.model ?? 'an unknown processor'}, which others may have been using. All on loopback, in alternation; ${ROUNDS} rounds of the first
row, fewer of the others. Median (least – most).

| | ${names.join(' | ')} |
| --- | ${names.map(() => '---').join(' | ')} |
${rows.join('\n')}

- A peer's sidecar runs beside an Envoy of its own, and is called as its preStop hooks do; pm2-envoy runs as a
  whole, under pm2. What is held open is an idle keep-alive connection, which all of them count.
- Not measured: Istio's agent, the ECS agent, consul-dataplane; an hour's idling; 5,000 connections; CPU in a
  drain.
`;
  writeFileSync(new URL('RESULTS.md', import.meta.url), text);
}
