import { spawn } from 'node:child_process';
import { bootstrapListeners, type ConfiguredListener } from '../admin/listeners.js';
import { messageOf, Pm2EnvoyError } from '../errors.js';
import type { BootstrapAddress, BootstrapAdmin, PathRule } from '../host/bootstrap-admin.js';
import { startEndedFirst } from '../host/memory.js';
import { boundGroup } from '../host/process-group.js';
import type { EnvoyLaunch } from './arguments.js';
import { createBootstrapFilter } from './bootstrap-filter.js';
import { childEnvironment } from './process.js';
import {
  messageIn,
  parseTextMessage,
  type TextMessage,
  type TextValue,
  textIn,
} from './text-proto.js';

/** Big bootstraps on a slow CPU: 5 MB take 1.6 s of a whole one. */
const READ_LIMIT_MS = 60_000;
/**
 * No Envoy takes it: a bootstrap with it is read, printed and refused before anything comes of it. The node
 * comes first, and 1.36 begins it in the middle of a line.
 */
const REFUSED = JSON.stringify({ node: { id: 'x' }, stats_flush_interval: '0.0001s' });
/** What the bootstrap may not be read without. */
const READING = /^--(allow|reject|ignore)-unknown-/;

/** What is known of a bootstrap file. */
export interface BootstrapFacts {
  admin: BootstrapAdmin;
  /** Its static listeners. */
  listeners: readonly ConfiguredListener[];
}

/**
 * Has Envoy itself read a bootstrap file, and tell what it says of the admin interface and its listeners. So it
 * does not matter how it is written: YAML 1.1 or JSON, either spelling of the keys, anchors, `.pb`, `.pb_text`;
 * and a big one costs this process nothing.
 *
 * Envoy prints a bootstrap that breaks a rule of its API, in protobuf's text format, and ends: one that it
 * would take is broken for this run by `--config-yaml`. It takes 30 ms, and neither sockets nor clusters
 * are made (1.36.4, 1.39.3, 1.40.0). The rest of the bootstrap, in which there may be secrets, is not kept.
 *
 * @param launch `cwd`: where Envoy's relative paths start; this process's folder if left out
 * @param stop ends it
 * @throws Pm2EnvoyError `bootstrap-invalid` when Envoy does not tell
 */
export async function readBootstrap(
  binary: string,
  launch: Pick<EnvoyLaunch, 'bootstrap' | 'args'> & { cwd?: string | undefined },
  stop?: AbortSignal,
): Promise<BootstrapFacts> {
  const { bootstrap, args, cwd } = launch;
  const options = [
    '-c',
    bootstrap,
    '--config-yaml',
    REFUSED,
    ...args.filter((one) => READING.test(one)),
  ];
  const child = startEndedFirst(() =>
    spawn(binary, ['--mode', 'validate', '-l', 'critical', ...options], {
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe'],
      env: childEnvironment(),
      cwd,
    }),
  );
  const bound = boundGroup(child, { limitMs: READ_LIMIT_MS, stop });
  try {
    const found = await new Promise<string | undefined>((resolve, reject) => {
      const filter = createBootstrapFilter();
      child.stderr.setEncoding('utf8').on('data', filter.take);
      child.once('error', reject).once('close', () => resolve(filter.found()));
    });
    if (found !== undefined) {
      const message = parseTextMessage(found);
      const listeners = (message.get('listeners') ?? []).map(listenerFrom);
      return {
        admin: adminFrom(messageIn(message, 'admin')),
        listeners: bootstrapListeners({ static_resources: { listeners } }),
      };
    }
  } catch (error) {
    throw notRead(bootstrap, messageOf(error), error);
  } finally {
    bound.release();
  }
  throw notRead(bootstrap, 'Envoy does not report its content');
}

/** Reads the block `admin { … }` of the text format; empty where there is none. Pure. */
export function adminFrom(admin: TextMessage): BootstrapAdmin {
  const rules = (admin.get('allow_paths') ?? []).map((rule) =>
    typeof rule === 'string' ? undefined : ruleFrom(rule),
  );
  return {
    address: addressFrom(messageIn(admin, 'address')),
    allowPaths: rules.filter((rule) => rule !== undefined),
  };
}

function addressFrom(address: TextMessage): BootstrapAddress | undefined {
  const pipe = messageIn(address, 'pipe');
  const path = textIn(pipe, 'path');
  if (path) return { path, mode: Number(textIn(pipe, 'mode') ?? 0) || undefined };
  const socket = messageIn(address, 'socket_address');
  const host = textIn(socket, 'address');
  const port = Number(textIn(socket, 'port_value'));
  if (!host || !Number.isInteger(port) || port === 0) return undefined;
  return { host, port, ipv6Only: textIn(socket, 'ipv4_compat') !== 'true' };
}

function ruleFrom(rule: TextMessage): PathRule {
  const ignoreCase = textIn(rule, 'ignore_case') === 'true';
  for (const kind of ['exact', 'prefix', 'suffix', 'contains'] as const) {
    const text = textIn(rule, kind);
    if (text !== undefined) return { kind, text, ignoreCase };
  }
  const regex = textIn(messageIn(rule, 'safe_regex'), 'regex');
  // What we don't know allows nothing.
  return { kind: 'regex', text: regex ?? '(?!)', ignoreCase: false };
}

/** As JSON has it. */
function listenerFrom(listener: TextValue): Record<string, unknown> {
  if (typeof listener === 'string') return {};
  const { enable_reuse_port: reuses, additional_addresses: more, ...rest } = plainOf(listener);
  return {
    ...rest,
    additional_addresses: (listener.get('additional_addresses') ?? []).map(plainOf),
    // A value of false is left out.
    ...(reuses === undefined ? {} : { enable_reuse_port: 'value' in Object(reuses) }),
  };
}

/** The first value of each field. */
function plainOf(value: TextValue): Record<string, unknown> {
  if (typeof value === 'string') return {};
  const entries = [...value].map(([field, [first]]) => [
    field,
    typeof first === 'object' ? plainOf(first) : first,
  ]);
  return Object.fromEntries(entries);
}

function notRead(file: string, reason: string, cause?: unknown): Pm2EnvoyError {
  return new Pm2EnvoyError(
    'bootstrap-invalid',
    `what the bootstrap file ${file} (envoy-config) contains is unknown: ${reason.split('\n')[0]}`,
    { cause },
  );
}
