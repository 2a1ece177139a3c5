import { readFileSync } from 'node:fs';
import { type AdminClient, createAdminClient } from '../../admin/client.js';
import { DETAIL_FILTER, readConnections } from '../../admin/stats.js';
import type { Config } from '../../config/config.js';
import { formatDuration } from '../../config/duration.js';
import { openGenerationLedger } from '../../drain/locate.js';
import { drainTimeSeconds } from '../../envoy/arguments.js';
import { messageOf } from '../../errors.js';
import { type Generation, isAttended, openGenerations } from '../../host/generations.js';
import { silentLog } from '../../log.js';
import { type Finding, ok, problem, warning } from './finding.js';
import { checkDrainTime } from './timers.js';

/** Fewer open files than this, and a busy Envoy runs out of them. */
const FEW_FILES = 4_096;

/** Looks at every Envoy of this host: does it answer, is it LIVE, with which options, who watches over it. */
export async function checkEnvoys(runDir: string, config: Config): Promise<Finding[]> {
  if (config.adminAddress) {
    const admin = createAdminClient(config.adminAddress);
    const findings = await checkEnvoy(`Envoy at ${admin.address}`, admin, config);
    admin.close();
    return findings;
  }
  const live = openGenerations(runDir).live();
  if (live.length === 0) {
    return [
      problem('envoy', `no Envoy runs (looked in ${runDir})`, '`pm2 start ecosystem.config.js`'),
    ];
  }
  const findings = await Promise.all(live.map((one) => checkGeneration(one, config)));
  return findings.flat();
}

async function checkGeneration(generation: Generation, config: Config): Promise<Finding[]> {
  const name = `generation ${generation.number}`;
  const admin = createAdminClient({ kind: 'unix', path: generation.adminSocket });
  const findings = await checkEnvoy(name, admin, config);
  admin.close();
  const isEnding = openGenerationLedger(generation, 'handover', silentLog).read() !== undefined;
  if (!isAttended(generation) && !isEnding) {
    findings.push(
      warning(
        'envoy',
        `${name} has no runner: nobody restarts it when it crashes`,
        '`pm2 restart envoy` takes over from it, with nothing lost',
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

const FOR_DRAINING =
  '`pm2-envoy status` says whether a drain runs: `pm2-envoy resume` takes it back while its listeners are open, and after that `pm2-envoy redeploy` brings up a new Envoy';
const FOR_STARTING =
  'it waits for its configuration or its first health checks: see its log, and whether its control plane (xDS) and clusters answer';

async function checkEnvoy(name: string, admin: AdminClient, config: Config): Promise<Finding[]> {
  try {
    const { version, state, drainTimeMs } = await admin.serverInfo();
    const { stats } = await admin.stats({ type: 'Gauges', filter: DETAIL_FILTER });
    const findings =
      state === 'LIVE'
        ? [ok('envoy', `${name} is LIVE (${version}), and its admin interface answers`)]
        : [
            warning(
              'envoy',
              `${name} is ${state}`,
              state === 'DRAINING' ? FOR_DRAINING : FOR_STARTING,
            ),
          ];
    findings.push(...checkRunningDrainTime(name, drainTimeMs, config));
    if (readConnections(stats).kind === 'unknown') {
      findings.push(
        warning(
          'envoy',
          `${name} shows no listener gauges: its connections are counted in a coarser way`,
          'allow listener.* in the bootstrap’s stats_config.stats_matcher',
        ),
      );
    }
    return findings;
  } catch (error) {
    return [
      problem(
        'envoy',
        `${name} does not answer: ${messageOf(error)}`,
        'see its log, and `pm2 restart envoy`',
      ),
    ];
  }
}

/** What it was started with may not be what the configuration says now, or is somebody else's choice. */
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
      '`pm2-envoy redeploy` puts it into effect, with nothing lost',
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
