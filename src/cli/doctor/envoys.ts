import { readFileSync } from 'node:fs';
import { type AdminClient, createAdminClient } from '../../admin/client.js';
import type { Config } from '../../config/config.js';
import { formatDuration } from '../../config/duration.js';
import { createCounters } from '../../drain/count.js';
import type { EnvoyTarget } from '../../drain/envoys.js';
import { describeHeld } from '../../drain/host-now.js';
import { drainThatHolds, openHandoverLedger, targetOf } from '../../drain/locate.js';
import type { DrainRecord } from '../../drain/record.js';
import { describeOrigin } from '../../drain/state.js';
import { drainTimeSeconds } from '../../envoy/arguments.js';
import { findEnvoy } from '../../envoy/binary.js';
import { planHandover } from '../../envoy/handover.js';
import { freePort, portInUse } from '../../envoy/port-in-use.js';
import { describeGap, gapsOf } from '../../envoy/proof.js';
import { type BootstrapFacts, readBootstrap } from '../../envoy/read-bootstrap.js';
import { readServing } from '../../envoy/serving.js';
import { hasWaited } from '../../envoy/waiting.js';
import { messageOf } from '../../errors.js';
import { EXIT, exitCodeOfCode } from '../../exit-codes.js';
import { generationsElsewhere, runDirOf } from '../../host/elsewhere.js';
import { describeFailedStart, type FailedStart, readFailedStart } from '../../host/failed-start.js';
import { type Generation, isAttended, openGenerations } from '../../host/generations.js';
import { sharedPorts } from '../../host/listeners.js';
import { describeSupervisor } from '../../host/supervisor.js';
import { silentLog } from '../../log.js';
import type { Pm2Process } from '../../pm2/daemon.js';
import { isStarting } from '../../status/status.js';
import { readSteering } from '../../steering/layout.js';
import { unsteeredWarning } from '../../steering/steering.js';
import { shellWord } from '../../text.js';
import { type Finding, ok, problem, warning } from './finding.js';
import { checkDrainTime } from './timers.js';

/** Fewer open files than this, and a busy Envoy runs out of them. */
const FEW_FILES = 4_096;

/** Looks at every Envoy of this host: does it answer, is it LIVE, with which options, who watches over it. */
export async function checkEnvoys(
  runDir: string,
  { config, app, home }: { config: Config; app: Pm2Process | undefined; home: string },
): Promise<Finding[]> {
  if (config.adminAddress) {
    const admin = createAdminClient(config.adminAddress);
    const findings = await checkEnvoy(
      { name: `Envoy at ${admin.address}`, admin, process: undefined },
      config,
    );
    admin.close();
    return findings;
  }
  const live = openGenerations(runDir).live();
  const elsewhere = generationsElsewhere(runDir).filter((one) => one.supervisor?.home === home);
  const left = elsewhere.filter((one) => !isAttended(one)).map(leftElsewhere);
  const serving = live.findLast(({ ready }) => ready);
  // While pm2 tries again and again there is now and then one that is starting.
  const isFailing = !serving && readFailedStart(runDir) !== undefined;
  if (live.length === 0 || isFailing) return [...left, ...checkNone(runDir, app)];
  const findings = await Promise.all(live.map((one) => checkGeneration(one, { config, app })));
  const next = serving ? await checkNextRedeploy(serving, { config, app }) : [];
  return [...findings.flat(), ...left, ...checkPorts(live), ...next];
}

/** No one restarts it, nor ends it: it may take connections for good. */
function leftElsewhere(generation: Generation): Finding {
  const { envoy, supervisor } = generation;
  const runDir = runDirOf(generation);
  const whose = supervisor ? ` (${describeSupervisor(supervisor)})` : '';
  return problem(
    'envoy',
    `an Envoy of another run directory, ${runDir}, serves without a runner: pid ${envoy.pid}${whose}`,
    `\`pm2 restart envoy\` takes over from it where it is of the same app; otherwise \`pm2-envoy shutdown --run-dir ${shellWord(runDir)}\`, then end that pid`,
  );
}

/** Where pm2 has stopped the app, or is not there, that is the finding. */
function checkNone(runDir: string, app: Pm2Process | undefined): Finding[] {
  const failed = readFailedStart(runDir);
  const drain = drainThatHolds(runDir);
  if (drain && !failed) {
    const by = drain.startedBy ? ` by ${describeOrigin(drain.startedBy)}` : '';
    const message = `no Envoy runs: the drain of ${drain.startedAt}${by} keeps the host out of service`;
    return [warning('envoy', message, '`pm2-envoy redeploy` brings it back')];
  }
  if (!failed) {
    const message = `no Envoy runs (looked in ${runDir})`;
    return app?.status === 'online' ? [problem('envoy', message, `\`pm2 logs ${app.name}\``)] : [];
  }
  // pm2 calls its back-off `waiting restart`, and a stop for good as well.
  const isRefused = exitCodeOfCode(failed.code ?? '') === EXIT.configuration;
  const again =
    isRefused || (app && /stopped|errored/.test(app.status))
      ? ', then `pm2-envoy redeploy`'
      : '; pm2 retries by itself';
  return [
    problem(
      'envoy',
      `no Envoy runs: ${describeFailedStart(failed)}`,
      `${remedyFor(failed, app)}${again}`,
    ),
  ];
}

function remedyFor({ reason }: Pick<FailedStart, 'reason'>, app: Pm2Process | undefined): string {
  const port = portInUse(reason);
  if (port !== undefined) return freePort(port);
  const log = `\`pm2 logs ${app?.name ?? 'envoy'}\` has more`;
  if (hasWaited(reason)) {
    return `see whether its control plane (xDS) and clusters can be reached (${log})`;
  }
  return `correct what it names (${log})`;
}

/** pm2 can't restart what it does not have: its daemon was killed, or the app deleted. */
function startAgain(app: Pm2Process | undefined): string {
  return app ? `\`pm2 restart ${app.name}\`` : '`pm2 start ecosystem.config.js`';
}

/** The kernel deals connections out among all that listen: some would go to an Envoy that no one drains here. */
function checkPorts(live: readonly Generation[]): Finding[] {
  return sharedPorts(live.map(({ envoy }) => envoy.pid)).map(({ port, pid }) =>
    problem(
      'envoy',
      `${pid === undefined ? 'another program' : `another program (pid ${pid})`} also listens on port ${port}, and gets some of its connections`,
      'stop it, or give one of the two another port',
    ),
  );
}

async function checkGeneration(
  generation: Generation,
  { config, app }: { config: Config; app: Pm2Process | undefined },
): Promise<Finding[]> {
  const name = `generation ${generation.number}`;
  const admin = createAdminClient({ kind: 'unix', path: generation.adminSocket });
  const drain = drainThatHolds(runDirOf(generation));
  const findings = await checkEnvoy(targetOf(generation, admin), config, drain);
  admin.close();
  const failed = generation.failedReload;
  if (failed) {
    findings.push(
      problem(
        'redeploy',
        `the last reload failed (${failed.at}), and ${name} keeps serving: ${failed.reason}`,
        `${remedyFor(failed, app)}, then \`pm2-envoy redeploy\``,
      ),
    );
  }
  const isEnding = openHandoverLedger(generation, silentLog).read() !== undefined;
  if (!isAttended(generation) && !isEnding) {
    findings.push(
      warning(
        'envoy',
        `${name} has no runner: nothing restarts it when it crashes`,
        `${startAgain(app)} takes over from it without losing a request`,
      ),
    );
  }
  const steering = readSteering(generation);
  if (steering?.state === 'unsteered') {
    findings.push(
      warning(
        'udp',
        `${name}: ${unsteeredWarning(steering.listeners, steering.reason ?? 'unknown')}`,
        'see docs/http3.md; `pm2-envoy redeploy` tries again',
      ),
    );
  }
  const files = openFilesLimit(generation.envoy.pid);
  if (files !== undefined && files < FEW_FILES) {
    findings.push(
      warning(
        'limits',
        `${name} may have ${files} files open, so fewer than half as many connections`,
        'raise LimitNOFILE (systemd), ulimit -n (the shell), or --ulimit nofile (Docker) of pm2, and restart pm2',
      ),
    );
  }
  return findings;
}

/** What would stand in the way of a redeploy, before anyone tries. */
async function checkNextRedeploy(
  serving: Generation,
  { config, app }: { config: Config; app: Pm2Process | undefined },
): Promise<Finding[]> {
  const { envoyConfig: bootstrap, envoyArgs: args } = config;
  const read = async (): Promise<BootstrapFacts> =>
    readBootstrap(findEnvoy(config.envoyBin, app?.env).path, { bootstrap, args, cwd: app?.cwd });
  // Why not is a finding of its own: the check of the configuration.
  const facts = await read().catch(() => undefined);
  const { obstacles, notes, removed } = await planHandover(serving, facts?.listeners);
  const gone = removed.map((one) => `the bootstrap no longer has ${one}`);
  return [
    ...obstacles.map((one) =>
      problem(
        'redeploy',
        one,
        'until then redeploy, reload and restart leave the Envoy in service as it is',
      ),
    ),
    ...[...notes, ...gone].map((one) =>
      warning('redeploy', one, '`pm2-envoy redeploy --dry-run` shows what the next one changes'),
    ),
  ];
}

const FOR_DRAINING =
  '`pm2-envoy status` says whether a drain runs: `pm2-envoy resume` cancels it while its listeners are open; after that `pm2-envoy redeploy` brings up a new Envoy';
const FOR_STARTING =
  'it waits for its configuration or its first health checks: see its log, and whether its control plane (xDS) and clusters answer';

async function checkEnvoy(
  target: EnvoyTarget,
  config: Config,
  drain?: DrainRecord,
): Promise<Finding[]> {
  const { name, admin } = target;
  try {
    const { version, state, drainTimeMs } = await admin.serverInfo();
    const counted = await createCounters(config).of(target).count();
    const findings =
      state === 'LIVE'
        ? [ok('envoy', `${name} is LIVE (${version}), and its admin interface answers`)]
        : [notLive(name, state, drain)];
    findings.push(...(await checkServing(name, admin)));
    findings.push(...checkRunningDrainTime(name, drainTimeMs, config));
    const remedy = 'allow listener.* in the bootstrap’s stats_config.stats_matcher';
    if (counted.kind === 'unknown') findings.push(problem('envoy', counted.reason, remedy));
    else if (counted.note) findings.push(warning('envoy', counted.note, remedy));
    return findings;
  } catch (error) {
    if (isStarting(target)) return [ok('envoy', `${name} is starting`)];
    return [
      problem(
        'envoy',
        `${name} does not answer: ${messageOf(error)}`,
        'see its log, and `pm2 restart envoy`',
      ),
    ];
  }
}

function notLive(name: string, state: string, drain: DrainRecord | undefined): Finding {
  if (state !== 'DRAINING') return warning('envoy', `${name} is ${state}`, FOR_STARTING);
  if (!drain) return warning('envoy', `${name} is DRAINING`, FOR_DRAINING);
  return warning(
    'envoy',
    `${name} is DRAINING: the host is ${describeHeld(drain)}`,
    drain.result ? '`pm2-envoy redeploy` brings it back' : FOR_DRAINING,
  );
}

/** LIVE says nothing about listeners, clusters, routes and secrets (docs/facts/envoy.md). */
async function checkServing(name: string, admin: AdminClient): Promise<Finding[]> {
  const serving = await readServing(admin, { isCompared: false });
  const gaps = gapsOf(serving, undefined);
  return [
    ...(serving.listeners.length === 0
      ? [problem('envoy', `${name} has no listener: it serves nothing`, FOR_SOURCES)]
      : []),
    ...gaps.map((gap) => warning('envoy', `${name} lacks ${describeGap(gap)}`, FOR_SOURCES)),
  ];
}

const FOR_SOURCES =
  'see its log, and whether its control plane or files (LDS, CDS, RDS, SDS) are correct';

/** What it was started with may not be what the configuration says now, or was chosen elsewhere. */
function checkRunningDrainTime(
  name: string,
  drainTimeMs: number | undefined,
  config: Config,
): Finding[] {
  if (drainTimeMs === undefined) return [];
  if (config.adminAddress) return checkDrainTime({ ...config, envoyDrainTimeMs: drainTimeMs });
  if (drainTimeMs === drainTimeSeconds(config.envoyDrainTimeMs) * 1_000) return [];
  return [
    warning(
      'timers',
      `${name} runs with a drain time of ${formatDuration(drainTimeMs)}; envoy-drain-time is ${formatDuration(config.envoyDrainTimeMs)} now`,
      '`pm2-envoy redeploy` applies it without losing a request',
    ),
  ];
}

function openFilesLimit(pid: number): number | undefined {
  try {
    const limits = readFileSync(`/proc/${pid}/limits`, 'utf8');
    const soft = /^Max open files\s+(\d+)/m.exec(limits)?.[1];
    return soft === undefined ? undefined : Number(soft);
  } catch {
    return undefined;
  }
}
