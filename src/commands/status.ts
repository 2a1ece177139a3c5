import type { CliContext } from '../cli/context.js';
import { counted } from '../cli/io.js';
import { createManagerClient } from '../cli/manager-client.js';
import { formatDuration } from '../config/duration.js';
import { createHostDrain } from '../drain/host-drain.js';
import { createEnvoyLocator } from '../drain/locate.js';
import { findRunDir } from '../envoy/run-dir.js';
import { isPm2EnvoyError, Pm2EnvoyError } from '../errors.js';
import { silentLog } from '../log.js';
import {
  createStatusReader,
  type EnvoyStatus,
  type GenerationStatus,
  type Status,
} from '../manager/status.js';
import type { CommandSpec, HookFunction, Plugin, PluginHost } from '../plugins/types.js';

/** `pm2-envoy status`: what the manager knows, or what Envoy itself says when the manager is down. */
export class StatusPlugin implements Plugin {
  readonly commands: Readonly<Record<string, CommandSpec>> = {
    status: {
      usage: 'Show Envoy, its open connections and the drain under way',
      lifecycleEvents: ['show'],
    },
  };
  readonly hooks: Readonly<Record<string, HookFunction>>;

  constructor(host: PluginHost, { cli }: { cli: CliContext }) {
    this.hooks = { 'status:show': () => showStatus(cli, host) };
  }
}

async function showStatus(cli: CliContext, host: PluginHost): Promise<void> {
  const status = await readSomehow(cli, host);
  cli.io.out(cli.json ? JSON.stringify(status, undefined, 2) : describeStatus(status));
}

async function readSomehow(cli: CliContext, host: PluginHost): Promise<Status> {
  const { config } = cli.load();
  const runDir = findRunDir(config.runDir);
  try {
    return await createManagerClient(config, runDir).status();
  } catch (error) {
    if (!isPm2EnvoyError(error, 'manager-unreachable')) throw error;
    const locator = createEnvoyLocator({ config, runDir, log: silentLog });
    const hostDrain = createHostDrain({ locator, config, host, log: silentLog });
    const status = await createStatusReader({ config, locator, hostDrain }).read();
    if (!status.envoy || status.envoy.state === null) {
      const found = status.envoy ? status.lastError : `there is no Envoy in ${runDir}`;
      throw new Pm2EnvoyError('manager-unreachable', `${error.message}, and ${found}`, {
        cause: error,
      });
    }
    cli.io.note(`${error.message}: asked Envoy directly`);
    return status;
  }
}

/** A status as people read it. */
export function describeStatus(status: Status): string {
  return [
    `phase        ${describePhase(status)}`,
    `envoy        ${status.envoy ? describeEnvoy(status.envoy) : 'there is none'}`,
    ...describeGenerations(status),
    ...describeConnections(status),
    ...(status.lastError ? [`last error   ${status.lastError}`] : []),
  ].join('\n');
}

function describePhase({ phase, outcome, timeLeftMs, startedAt, orphanedDrain }: Status): string {
  if (orphanedDrain)
    return 'idle, but somebody has failed Envoy’s health check (`pm2-envoy resume`)';
  if (phase === 'idle') return 'idle';
  if (outcome !== null) return `${outcome} (drain of ${startedAt})`;
  return `${phase}, at most ${formatDuration(Math.round((timeLeftMs ?? 0) / 1_000) * 1_000)} left`;
}

function describeEnvoy(envoy: EnvoyStatus): string {
  const parts = [
    envoy.version === null ? 'does not answer' : `${envoy.version} ${envoy.state}`,
    envoy.generation === null ? envoy.admin : `generation ${envoy.generation}`,
    ...(envoy.pid === null ? [] : [`pid ${envoy.pid}`]),
    ...(envoy.uptimeSeconds === null ? [] : [`up ${formatDuration(envoy.uptimeSeconds * 1_000)}`]),
    ...(envoy.concurrency ? [counted(envoy.concurrency, 'worker')] : []),
  ];
  return parts.join(', ');
}

/** Only where there is more to say than that one generation serves under its runner. */
function describeGenerations({ generations }: Status): string[] {
  const isPlain = generations.every(
    ({ runnerPid }) => generations.length === 1 && runnerPid !== null,
  );
  const rows = isPlain ? [] : ['generations', ...generations.map(describeGeneration)];
  const failed = generations.findLast(({ state }) => state === 'serving')?.failedReload;
  const lines = failed ? [`last reload  failed at ${failed.at}: ${failed.reason}`] : [];
  return [...rows, ...lines];
}

function describeGeneration(one: GenerationStatus): string {
  const parts = [
    one.state,
    one.version ?? 'version not known yet',
    `pid ${one.pid}`,
    one.connections === null
      ? 'connections unknown'
      : `${counted(one.connections, 'connection')} open`,
    ...(one.deadline === null ? [] : [`until ${one.deadline} at the latest`]),
    ...(one.runnerPid === null && one.state !== 'handing-over' ? ['without a runner'] : []),
  ];
  return `  ${String(one.number).padStart(6)}  ${parts.join(', ')}`;
}

function describeConnections({ connections, activeRequests }: Status): string[] {
  if (!connections) return ['connections  unknown'];
  const kinds = Object.entries(connections.byKind)
    .filter(([, count]) => count > 0)
    .map(([kind, count]) => `${count} ${kind}`);
  const detail = kinds.length > 0 ? ` (${kinds.join(', ')})` : '';
  const requests = activeRequests === null ? '' : `, ${counted(activeRequests, 'active request')}`;
  const rows = Object.entries(connections.byListener)
    .filter(([, count]) => count > 0)
    .sort(([, a], [, b]) => b - a)
    .map(([name, count]) => `  ${String(count).padStart(6)}  ${name}`);
  return [`connections  ${connections.open} open${detail}${requests}`, ...rows];
}
