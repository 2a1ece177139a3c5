import type { CliContext } from '../cli/context.js';
import { counted } from '../cli/words.js';
import { parseDuration } from '../config/duration.js';
import { examine } from '../doctor/examine.js';
import type { Finding } from '../doctor/finding.js';
import { messageOf, Pm2EnvoyError } from '../errors.js';
import { EXIT } from '../exit-codes.js';
import type { CommandSpec, HookFunction, Plugin, PluginHost } from '../plugins/types.js';

/** `pm2-envoy doctor`: what would go wrong at the next drain or redeploy, and the remedy. */
export class DoctorPlugin implements Plugin {
  readonly commands: Readonly<Record<string, CommandSpec>> = {
    doctor: {
      usage: 'Check timers, pm2, Envoy, manager and kernel, with a remedy for each finding',
      lifecycleEvents: ['examine'],
      options: {
        '--grace-period <duration>':
          'what Kubernetes (terminationGracePeriodSeconds), Docker or systemd allow for a stop',
      },
    },
  };
  readonly hooks: Readonly<Record<string, HookFunction>>;

  constructor(_host: PluginHost, { cli }: { cli: CliContext }) {
    this.hooks = {
      'doctor:examine': ({ invocation }) => run(cli, invocation.options['gracePeriod']),
    };
  }
}

const MARKS: Readonly<Record<Finding['level'], string>> = {
  ok: 'ok      ',
  warning: 'warning ',
  problem: 'PROBLEM ',
};

async function run(cli: CliContext, gracePeriod: unknown): Promise<void> {
  const gracePeriodMs = typeof gracePeriod === 'string' ? durationOf(gracePeriod) : undefined;
  const findings = await examine(cli.load(), gracePeriodMs);
  const count = (level: Finding['level']): number =>
    findings.filter((finding) => finding.level === level).length;
  if (count('problem') > 0) cli.endWith(EXIT.unexpected);
  if (cli.json) {
    cli.io.out(JSON.stringify({ findings }, undefined, 2));
    return;
  }
  for (const { level, topic, message, remedy } of findings) {
    cli.io.out(`${MARKS[level]}${topic.padEnd(14)}${message}`);
    if (remedy) cli.io.out(`${' '.repeat(22)}-> ${remedy}`);
  }
  cli.io.out(`${counted(count('problem'), 'problem')}, ${counted(count('warning'), 'warning')}`);
}

function durationOf(text: string): number {
  try {
    return parseDuration(text);
  } catch (error) {
    throw new Pm2EnvoyError(
      'config-invalid',
      `--grace-period: ${JSON.stringify(text)} ${messageOf(error)}`,
    );
  }
}
