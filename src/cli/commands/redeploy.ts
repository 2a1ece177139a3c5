import type { Config } from '../../config/config.js';
import { formatDuration } from '../../config/duration.js';
import type { LoadedConfig } from '../../config/load.js';
import { isKey, type Key, variableOf } from '../../config/schema.js';
import type { DrainResult } from '../../drain/state.js';
import { pinnedVersions } from '../../envoy/binary.js';
import { installEnvoy } from '../../envoy/install.js';
import { Pm2EnvoyError } from '../../errors.js';
import { EXIT, exitCodeOfCode } from '../../exit-codes.js';
import { migratesAcceptQueues } from '../../host/accept-queue.js';
import { acceptRemovals, forgetAcceptance } from '../../host/acceptance.js';
import type { CommandSpec, HookFunction, Plugin, PluginHost } from '../../plugins/api/types.js';
import { shellWord } from '../../text.js';
import { findIdleApp, planRedeploy, type RedeployPlan } from '../redeploy/plan.js';
import {
  leftBeside,
  type RedeployProgress,
  type RedeployResult,
  runReload,
  type Served,
} from '../redeploy/reload.js';
import type { CliContext } from '../terminal/context.js';
import { createDownload } from '../view/download.js';
import { counted } from '../view/words.js';
import { refuseForeign } from './refuse-foreign.js';

/** `pm2-envoy redeploy`: validate, reload through pm2, report. */
export class RedeployPlugin implements Plugin {
  readonly commands: Readonly<Record<string, CommandSpec>> = {
    redeploy: {
      usage: 'Put a new Envoy or bootstrap into service with pm2 reload, without losing a request',
      lifecycleEvents: ['validate', 'reload', 'report'],
      options: {
        '--envoy <version>': `install this pinned Envoy first (${Object.keys(pinnedVersions().versions).join(', ')}), and use it from now on`,
        '--yes': 'do not ask for confirmation when listeners are removed',
        '--force':
          'continue when Envoy could not check the bootstrap for lack of memory or time, or when the app is another version of pm2-envoy',
        '--dry-run': 'validate and show what would change, without reloading',
      },
    },
  };
  readonly hooks: Readonly<Record<string, HookFunction>>;

  constructor(_host: PluginHost, { cli }: { cli: CliContext }) {
    let plan: RedeployPlan | undefined;
    let result: RedeployResult | undefined;
    this.hooks = {
      'redeploy:validate': async ({ invocation: { options } }) => {
        plan = await validate(cli, options['envoy'], options['force'] === true);
      },
      'redeploy:reload': async ({ invocation: { options } }) => {
        if (!plan || options['dryRun'] === true) return;
        const isAccepted = options['yes'] === true || (await acceptsRemovals(cli, plan));
        result = await reload(cli, plan, isAccepted);
      },
      'redeploy:report': () => {
        if (plan) report(cli, plan, result);
      },
    };
  }
}

/** Flags that change the next generation; the others would be the manager's too. */
const CHANGEABLE: readonly Key[] = ['envoy-bin', 'envoy-config', 'envoy-args', 'envoy-drain-time'];
/** Flags that only say where to look, and how to log. */
const LOCAL: readonly Key[] = ['run-dir', 'log-level', 'log-format'];

async function validate(
  cli: CliContext,
  version: unknown,
  isForced: boolean,
): Promise<RedeployPlan> {
  const loaded = cli.load();
  const env = changedVariables(loaded);
  if (typeof version === 'string' && env[variableOf('envoy-bin')] !== undefined) {
    throw new Pm2EnvoyError(
      'config-invalid',
      '--envoy and --envoy-bin are both set: leave one out',
    );
  }
  await refuseForeign(cli, 'nothing was reloaded');
  const app = await findIdleApp(loaded);
  if (typeof version === 'string') {
    const installed = await installEnvoy(version, createDownload(cli.io));
    if (installed.fresh) cli.io.note(`Envoy ${version} installed`);
    env[variableOf('envoy-bin')] = installed.path;
  }
  const plan = await planRedeploy(app, env, isForced).catch((error: unknown) => {
    cli.io.note('nothing was reloaded; what is wrong:');
    throw error;
  });
  for (const line of describePlan(plan)) cli.io.note(line);
  return plan;
}

function changedVariables({ settings, config }: LoadedConfig): Record<string, string> {
  const env: Record<string, string> = {};
  for (const [key, { value, source }] of Object.entries(settings)) {
    if (!isKey(key) || source !== `--${key}` || LOCAL.includes(key)) continue;
    if (!CHANGEABLE.includes(key)) {
      throw new Pm2EnvoyError(
        'config-invalid',
        `--${key} can't be changed by a redeploy, which takes ${CHANGEABLE.map((one) => `--${one}`).join(', ')}: set ${key} where both apps read it, and reload them`,
      );
    }
    // Typed in this shell's folder, which is not the app's.
    const paths: Partial<Record<Key, string | undefined>> = {
      'envoy-bin': config.envoyBin,
      'envoy-config': config.envoyConfig,
    };
    env[variableOf(key)] =
      paths[key] ?? (typeof value === 'string' ? value : JSON.stringify(value));
  }
  return env;
}

/**
 * Asks whether listeners may go.
 *
 * @throws Pm2EnvoyError `listeners-removed` when the answer is no, or no one is there to be asked
 */
async function acceptsRemovals(cli: CliContext, { changes }: RedeployPlan): Promise<boolean> {
  const { removed = [] } = changes;
  if (removed.length === 0) return false;
  const all = removed.join(', ');
  const forget = cli.io.onInterrupt(() => 'nothing was reloaded');
  const answer = await cli.io.ask(`Nothing will listen on ${all} after this. Continue? [y/N]`);
  forget();
  if (/^y(es)?$/i.test(answer ?? '')) return true;
  const remedy = answer === undefined ? '; add what is missing again, or pass --yes' : '';
  throw new Pm2EnvoyError(
    'listeners-removed',
    `nothing was reloaded: the bootstrap no longer has ${all}${remedy}`,
  );
}

async function reload(
  cli: CliContext,
  plan: RedeployPlan,
  areRemovalsAccepted: boolean,
): Promise<RedeployResult> {
  const { from } = plan;
  if (from && areRemovalsAccepted) acceptRemovals(from);
  const forget = cli.io.onInterrupt(
    () => 'the reload continues in pm2; `pm2-envoy status` shows where it is',
  );
  let said = '';
  const result = await runReload(plan, (progress) => {
    const { step, text } = describeProgress(progress);
    if (cli.io.isTerminal) cli.io.live(text);
    else if (step !== said) cli.io.note(text);
    said = step;
  });
  if (from && areRemovalsAccepted) forgetAcceptance(from);
  forget();
  return result;
}

function report(cli: CliContext, plan: RedeployPlan, result: RedeployResult | undefined): void {
  const { changes, warnings } = plan;
  if (cli.json)
    cli.io.out(JSON.stringify({ changes, warnings, ...(result ?? { outcome: 'dry-run' }) }));
  if (!result) {
    if (!cli.json) cli.io.say('everything is valid; nothing was reloaded (--dry-run)', 'stdout');
    return;
  }
  if (!cli.json) {
    for (const line of describeResult(result, plan).split('\n')) cli.io.say(line, 'stdout');
  }
  if (result.outcome === 'failed') {
    for (const line of describeKept(plan, result.keeps)) cli.io.note(line);
    cli.endWith(result.code === null ? EXIT.unexpected : exitCodeOfCode(result.code));
    return;
  }
  if (result.outcome === 'timeout') cli.endWith(EXIT.timeout);
  if (result.outcome === 'admin-unreachable') cli.endWith(EXIT.unreachable);
  for (const line of describeAfterwards(plan)) cli.io.say(line);
}

function describePlan(plan: RedeployPlan): string[] {
  const { from, outOfService, version, changes, handover, warnings, app } = plan;
  const { status } = app.process;
  if (!from) return [`no Envoy serves: this starts Envoy ${version} (the app is ${status})`];
  const envoy = `(Envoy ${from.version ?? 'unknown'})`;
  const lines = outOfService
    ? [
        `generation ${from.number} ${envoy}: the host is ${outOfService}; the redeploy brings it back`,
      ]
    : [`generation ${from.number} serves ${envoy}`];
  if (changes.envoy) lines.push(`envoy      ${changes.envoy.from} -> ${changes.envoy.to}`);
  if (changes.arguments) {
    lines.push(`arguments  ${changes.arguments.from} -> ${changes.arguments.to}`);
  }
  if (changes.bootstrap) lines.push('bootstrap', changes.bootstrap.trimEnd());
  for (const one of changes.removed ?? []) lines.push(`removed    ${one}`);
  if (!from.launch) lines.push('what changes is unknown: it was not recorded');
  else if (lines.length === 1) lines.push('nothing changes: the same Envoy, the same bootstrap');
  for (const note of handover?.notes ?? []) lines.push(note);
  if (status !== 'online') lines.push(`the app is ${status}`);
  lines.push(...warnings);
  return lines;
}

function describeProgress(progress: RedeployProgress): { step: string; text: string } {
  const { step } = progress;
  switch (step) {
    case 'starting':
      return { step, text: 'the new generation is starting' };
    case 'live': {
      const { number, version } = progress.generation;
      return { step, text: `generation ${number} is LIVE (Envoy ${version})` };
    }
    case 'handing-over': {
      const open =
        progress.connections === null
          ? 'connections unknown'
          : `${counted(progress.connections, 'connection')} open`;
      const left = formatDuration(Math.round(progress.timeLeftMs / 1_000) * 1_000);
      return {
        step,
        text: `handing over from generation ${progress.from.number}: ${open}, at most ${left} left`,
      };
    }
  }
}

function describeResult(result: RedeployResult, { app, config }: RedeployPlan): string {
  const took = formatDuration(Math.round(result.tookMs));
  if (result.outcome === 'failed') {
    const failed = `the redeploy failed after ${took}: ${result.reason}`;
    if (result.isBeingDrained) return failed;
    const serves = result.serves ? `${named(result.serves)} keeps serving` : 'no Envoy serves now';
    return `${failed}\n${serves}`;
  }
  const { from, to, handover, silent } = result;
  const isUp =
    silent === null
      ? `${named(to)} serves after ${took}`
      : `${named(to)} took over after ${took}, but does not answer (${silent}): \`pm2-envoy doctor\` says more, \`pm2 restart ${app.process.name}\` starts another one`;
  if (!from) return isUp;
  const cut =
    handover === null
      ? 'how its hand-over ended is unknown'
      : `${handover.outcome}, ${describeLeft(handover, config)}`;
  return `${isUp}; ${named(from)} has ended: ${cut}`;
}

/** Idle connections of a drain that waits for requests alone lose nothing. */
function describeLeft(
  { outcome, connectionsLeft: left }: Pick<DrainResult, 'outcome' | 'connectionsLeft'>,
  { drainUntil }: Pick<Config, 'drainUntil'>,
): string {
  if (left === null) return 'an unknown number of connections cut';
  return outcome === 'drained' && drainUntil === 'requests'
    ? `${counted(left, 'idle connection')} closed`
    : `${counted(left, 'connection')} cut`;
}

function describeAfterwards({ env, app }: RedeployPlan): string[] {
  const lines = Object.entries(env).map(
    ([name, value]) =>
      `pm2 keeps ${name}=${value} until the app is deleted: set it in the ecosystem file too, and \`pm2 save\` if you use that`,
  );
  for (const { number } of leftBeside(app.runDir)) {
    lines.push(`generation ${number} still waits for its connections (\`pm2-envoy status\`)`);
  }
  if (migratesAcceptQueues() === false) {
    lines.push(
      'net.ipv4.tcp_migrate_req is 0: about one new connection in ten thousand may have been reset',
    );
  }
  return lines;
}

/** The Envoy in service is untouched, but after a crash pm2 would start what has just failed. */
function describeKept(
  { from, env }: RedeployPlan,
  keeps: Readonly<Record<string, string>>,
): string[] {
  const lines = Object.entries(keeps).map(
    ([name, value]) => `pm2 still keeps ${name}=${value}, and uses it at the next start`,
  );
  if (lines.length === 0 || !from?.launch) return lines;
  const { binary, bootstrap, args, drainTimeMs } = from.launch;
  const before: Partial<Record<Key, string>> = {
    'envoy-bin': shellWord(binary),
    'envoy-config': shellWord(bootstrap),
    'envoy-args': `'${JSON.stringify(args)}'`,
    'envoy-drain-time': formatDuration(drainTimeMs),
  };
  const flags = CHANGEABLE.filter((key) => env[variableOf(key)] !== undefined).map(
    (key) => `--${key} ${before[key]}`,
  );
  return [...lines, `to go back: pm2-envoy redeploy ${flags.join(' ')}`];
}

function named({ generation, version }: Served): string {
  return `generation ${generation} (Envoy ${version ?? 'unknown'})`;
}
