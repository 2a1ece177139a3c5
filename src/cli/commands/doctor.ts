import { parseDuration } from '../../config/duration.js';
import { messageOf, Pm2EnvoyError } from '../../errors.js';
import { EXIT } from '../../exit-codes.js';
import type {
  CommandSpec,
  HookFunction,
  Invocation,
  Plugin,
  PluginHost,
} from '../../plugins/api/types.js';
import { examine } from '../doctor/examine.js';
import type { Finding } from '../doctor/finding.js';
import { findContainers, readManifest } from '../doctor/manifest.js';
import { checkContainers } from '../doctor/rules.js';
import type { CliContext } from '../terminal/context.js';
import { clean, foldBeside } from '../terminal/fit.js';
import { counted } from '../view/words.js';

/** `pm2-envoy doctor`: what would go wrong at the next drain or redeploy, and the remedy. */
export class DoctorPlugin implements Plugin {
  readonly commands: Readonly<Record<string, CommandSpec>>;
  readonly hooks: Readonly<Record<string, HookFunction>>;

  constructor(_host: PluginHost, { cli }: { cli: CliContext }) {
    this.commands = {
      doctor: {
        usage:
          'Check timers, pm2, Envoy, the manager and the kernel, and show a remedy for each finding',
        lifecycleEvents: ['examine'],
        options: {
          '--grace-period <duration>':
            'how long the platform waits for a stop (terminationGracePeriodSeconds, `docker stop --time`, TimeoutStopSec, …); with --manifest, the maximum',
          '--manifest <file>':
            'check the containers of a manifest (- for stdin) instead of this host: Kubernetes, Compose, ECS, Nomad, Cloud Run, Fly.io, Azure Container Apps, Quadlet',
          '--validate':
            'let Envoy validate the bootstrap, which needs as much memory as a running Envoy',
        },
        main: ({ options }) => examineManifest(cli, options),
      },
    };
    this.hooks = {
      'doctor:examine': async ({ invocation }) => {
        const { gracePeriod, validate } = invocation.options;
        const options = { gracePeriodMs: durationOf(gracePeriod), validate: validate === true };
        cli.endWith(report(cli, await examine(cli.load(), options)));
      },
    };
  }
}

/** Without this host's configuration, with which the flags may not go together. */
async function examineManifest(
  cli: CliContext,
  { manifest, gracePeriod }: Invocation['options'],
): Promise<number | undefined> {
  if (typeof manifest !== 'string') return undefined;
  const mostMs = durationOf(gracePeriod);
  const containers = await findContainers(await readManifest(manifest));
  return report(cli, checkContainers(containers, cli.load, mostMs));
}

const MARKS: Readonly<Record<Finding['level'], string>> = {
  ok: 'ok      ',
  warning: 'warning ',
  problem: 'PROBLEM ',
};

/** Prints them; returns the exit code. */
function report(cli: CliContext, findings: readonly Finding[]): number {
  const count = (level: Finding['level']): number =>
    findings.filter((finding) => finding.level === level).length;
  const code = count('problem') > 0 ? EXIT.unexpected : EXIT.done;
  if (cli.json) {
    cli.io.out(JSON.stringify({ findings }, undefined, 2));
    return code;
  }
  for (const finding of findings) show(cli, finding);
  cli.io.out(`${counted(count('problem'), 'problem')}, ${counted(count('warning'), 'warning')}`);
  return code;
}

function show({ io }: CliContext, { level, topic, message, remedy }: Finding): void {
  const { live, width, unicode } = io.terminal('stdout');
  const label = `${MARKS[level]}${topic.padEnd(14)}`;
  const arrow = `${' '.repeat(live && label.length > width / 2 ? 2 : label.length)}-> `;
  const beside = (head: string, text: string): string =>
    live ? foldBeside(head, [clean(text, unicode)], width) : head + text;
  io.out(beside(label, message));
  if (remedy) io.out(beside(arrow, remedy));
}

function durationOf(text: unknown): number | undefined {
  if (typeof text !== 'string') return undefined;
  try {
    return parseDuration(text);
  } catch (error) {
    throw new Pm2EnvoyError(
      'config-invalid',
      `--grace-period: ${JSON.stringify(text)} ${messageOf(error)}`,
    );
  }
}
