/**
 * `npm run bench`: pm2-envoy and its peers on the same work, in alternation, with a real Envoy, a real pm2 and
 * real sidecars (Go builds them once). Writes bench/RESULTS.md and docs/images/bench.svg. Quote ratios and
 * medians of one run: machines differ, and are shared. `npm run bench:quick` does less, and writes nothing.
 */
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { installEnvoy } from '../src/envoy/install.js';
import { toChart } from './chart.js';
import { CONTAINERS, charted, containerRows, containerSection } from './container.js';
import { detect, holdIdle } from './hold.js';
import { http3Section, http3Table } from './http3.js';
import { manyClusters } from './many-clusters.js';
import { cpuMsPerMinute, residentMiB, rest, seconds } from './measure.js';
import { crashes, holdDrain, manyConnections } from './own.js';
import { contour, gateway, ours, type Round, type Subject } from './peers.js';
import { measureStarts } from './starts.js';
import { type Row, toLine, toMarkdown } from './table.js';

const isQuick = process.argv.includes('--quick');
const ROUNDS = isQuick ? 2 : 8;
const MINUTE_MS = isQuick ? 4_000 : 60_000;
const CALLERS = 1_000;
const CONNECTIONS = 5_000;
const HANDOVERS = 10;
const CLUSTERS = 10_000;
const CONTAINER_ROUNDS = 3;
const rows: Row[] = [];
const startedMs = performance.now();

process.env['ENVOY_BIN'] ??= (await installEnvoy()).path;

const own = await ours();
/** Does nothing until the end: what it takes then is what it takes for good. */
const idle = await ours();
const subjects: Subject[] = [
  own,
  contour('Contour 1.33.8', []),
  ...(isQuick ? [] : [contour('Contour 1.33.8, check-interval 1s', ['--check-interval=1s'])]),
  gateway('Envoy Gateway 1.9.1, min-drain 0', ['--min-drain-duration=0s']),
];
const names = subjects.map(({ name }) => name);

let besides: Row[] = [];
try {
  besides = await besidePeers();
  await alone();
  await withManyClusters();
  await whileIdle();
} finally {
  await own.end();
  await idle.end();
}
if (!isQuick) write(await containerRows(CONTAINER_ROUNDS), await http3Table(HANDOVERS));
process.exit();

/** What peers do as well; gives what the chart shows. */
async function besidePeers(): Promise<Row[]> {
  const last = await compare('last connection closed → it says drained, s', ROUNDS, detect);
  say({ ...last, target: '≤ 0.03, worst ≤ 0.1' });
  const none = await compare('no connections → it says drained, s', ROUNDS / 2, (round) =>
    seconds(() => round.drain()),
  );
  say({ ...none, target: '≤ 0.1' });
  const more: number[][] = subjects.map(() => []);
  const callers = await compare(
    `${CALLERS} callers: last close → all answered, s`,
    isQuick ? 1 : 3,
    async (round, subject) => {
      const { tookS, moreMiB } = await manyCallers(round);
      more[subject]?.push(moreMiB);
      return tookS;
    },
  );
  say({ ...callers, target: '≤ 0.3' });
  say({ what: 'the same: more memory while they wait, MiB', target: '≤ 25', values: more });
  const memory = await compare('manager or sidecar alone: resident, MiB', 1, async (round) => {
    await rest(isQuick ? 1_000 : 5_000);
    return residentMiB(round.managerPid);
  });
  say({ ...memory, target: '≤ 64' });
  return [last, none];
}

/** Measures every subject in turn, again and again, so that what else the machine does meets all of them. */
async function compare(
  what: string,
  rounds: number,
  measure: (round: Round, subject: number) => Promise<number>,
): Promise<Row> {
  const values: number[][] = subjects.map(() => []);
  for (let count = 0; count < rounds; count += 1) {
    for (const [index, subject] of subjects.entries()) {
      const round = await subject.begin();
      values[index]?.push(await measure(round, index));
      await round.stop();
    }
  }
  return { what, target: '–', values };
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
async function alone(): Promise<void> {
  const starts = await measureStarts(ROUNDS);
  sayOwn('manager: start → /healthz, beyond a bare Node server, ms', '≤ 200', starts.manager);
  sayOwn('runner: start → ready, beyond Envoy’s own, ms', '≤ 250', starts.runner);
  sayOwn('Envoy killed → serves again, s', '≤ 0.5', await crashes(own.pm2, ROUNDS / 2));
  const held = await holdDrain(own, { minutes: isQuick ? 1 : 2, minuteMs: MINUTE_MS });
  const [first = Number.NaN, later = Number.NaN] = held.oursMs;
  sayOwn('one connection held in a drain: CPU of ours, first minute, ms', '≤ 900', [first]);
  if (!isQuick) sayOwn('the same, second minute, ms', '≤ 250', [later]);
  sayOwn('the same, Envoy’s main thread above its own, first minute, ms', '–', [held.envoyMs]);
  sayOwn('the same, then closed → drained, s', '≤ 0.1', [held.detectS]);
  const many = await manyConnections(await own.begin(), own.pm2, CONNECTIONS);
  sayOwn(`${CONNECTIONS} connections: last one closed → drained, s`, '≤ 0.1', [many.detectS]);
  sayOwn('the same: /status, ms', '≤ 50', many.statusMs);
}

/** The work that makes a poll expensive. */
async function withManyClusters(): Promise<void> {
  const subject = await ours();
  try {
    await manyClusters(subject.pm2, CLUSTERS);
    const took: number[] = [];
    const rounds = isQuick ? 1 : ROUNDS;
    for (let count = 0; count < rounds; count += 1) took.push(await detect(await subject.begin()));
    const what = `${CLUSTERS} clusters: last connection closed → drained, s`;
    sayOwn(what, '≤ 0.1, worst ≤ 0.3', took);
    if (isQuick) return;
    const held = await holdDrain(subject, { minutes: 1, minuteMs: MINUTE_MS });
    const share = (held.envoyMs / 60_000) * 100;
    sayOwn('the same, Envoy’s main thread above its own in a minute, %', '≤ 2', [share]);
  } finally {
    await subject.end();
  }
}

async function whileIdle(): Promise<void> {
  const runner = idle.pm2.generations()[0]?.runner.pid ?? 0;
  const manager = await idle.pm2.pidOf('envoy-manager');
  const minutes = Math.round((performance.now() - startedMs) / 60_000);
  const used = await cpuMsPerMinute([manager, runner], MINUTE_MS);
  sayOwn('manager and runner idle: CPU a minute, ms', '≤ 20', [used]);
  sayOwn(`manager: resident after ${minutes} idle minutes, MiB`, '≤ 64', [residentMiB(manager)]);
  sayOwn(`runner: resident after ${minutes} idle minutes, MiB`, '≤ 46', [residentMiB(runner)]);
}

function sayOwn(what: string, target: string, values: readonly number[]): void {
  say({ what, target, values: [values] });
}

function say(row: Row): void {
  rows.push(row);
  console.log(toLine(row, subjects.length));
}

function write(containers: readonly Row[], http3: string): void {
  const text = `# Results

One run of \`npm run bench\` on ${new Date().toISOString().slice(0, 10)}: Envoy 1.40.0, Node ${process.version}, ${cpus().length} cores of
${cpus()[0]?.model ?? 'an unknown processor'}, which others may have been using. All on loopback, in alternation; ${ROUNDS} rounds of the first
row, fewer of most others. Median (least – most), and for peers how many times ours that is.

![The medians of the first rows as bars](../docs/images/bench.svg)

${toMarkdown(rows, names)}

- _Missed_ is a row whose goal was not reached.
- A peer's sidecar runs beside an Envoy of its own, and is called as its preStop hooks do; pm2-envoy runs as a
  whole, under pm2. What is held open is an idle keep-alive connection, which all of them count.
- _Beyond_ is the difference of two measurements, one right after the other.
- CPU is what the scheduler counts for all threads. For Envoy's main thread, what it used with nobody asking, right
  before, is taken off.
- A runner is a worker of pm2's cluster: one that does nothing takes some 43 MiB, 48 with V8's optimising compilers.
- Not measured: Istio's agent, the ECS agent, consul-dataplane; an hour's idling.

${containerSection(containers)}
${http3Section(http3)}`;
  writeFileSync(new URL('RESULTS.md', import.meta.url), text);
  const svg = new URL('../docs/images/bench.svg', import.meta.url);
  const whole = { rows: charted(containers), names: CONTAINERS };
  writeFileSync(svg, toChart([{ rows: besides, names }, whole]));
}
