import { readFileSync } from 'node:fs';
import { text as readAll } from 'node:stream/consumers';
import { parseAllDocuments } from 'yaml';
import { messageOf, Pm2EnvoyError } from '../../errors.js';

/** A container with pm2-envoy, and what of its pod a drain depends on. */
export interface EnvoyPod {
  /** For messages: `Deployment edge`. */
  where: string;
  gracePeriodMs: number;
  isHostNetwork: boolean;
  image: string;
  /** command and args. */
  command: readonly string[];
  /** Variables of pm2-envoy; undefined: the value is somewhere else (`valueFrom`, `$(NAME)`). */
  variables: ReadonlyMap<string, string | undefined>;
  /** Has `envFrom`, which may set any variable. */
  hasEnvFrom: boolean;
  /** Ports by their names. */
  ports: ReadonlyMap<string, number>;
  preStop: Action | undefined;
  probes: readonly Probe[];
}

/** What the kubelet does for a hook or a probe. */
export type Action =
  | { kind: 'exec'; command: readonly string[] }
  | { kind: 'http'; host?: string; path: string; port: number; hasAuthorization: boolean }
  | { kind: 'port'; port: number }
  | { kind: 'other' };

/** One probe of a container. */
export interface Probe {
  name: 'startupProbe' | 'readinessProbe' | 'livenessProbe';
  action: Action;
  timeoutSeconds: number;
}

/** Of Kubernetes, where a manifest says nothing. */
const DEFAULT = { gracePeriodSeconds: 30, timeoutSeconds: 1 };

/**
 * Reads a manifest: YAML or JSON, of any number of documents.
 *
 * @param file its path; `-`: stdin
 * @throws Pm2EnvoyError `config-invalid` when it can't be read
 */
export async function readManifest(file: string): Promise<string> {
  if (file === '-' && process.stdin.isTTY) {
    throw unreadable('stdin is a terminal: pipe the manifest into it');
  }
  try {
    return file === '-' ? await readAll(process.stdin) : readFileSync(file, 'utf8');
  } catch (error) {
    throw unreadable(`${file} can't be read: ${messageOf(error)}`, error);
  }
}

/**
 * Finds every container with pm2-envoy in a manifest: one that has its variables, its command, its preStop, or
 * an image that is named after it.
 *
 * @throws Pm2EnvoyError `config-invalid` when it is no YAML, with the place
 */
export function findEnvoyPods(manifest: string): EnvoyPod[] {
  return documentsOf(manifest).flatMap((document) => podsIn(document, 'the manifest'));
}

function documentsOf(manifest: string): unknown[] {
  // Its warnings would go to stderr. kubectl takes merge keys (`<<: *base`), which YAML 1.2 has no more.
  const documents = [...parseAllDocuments(manifest, { logLevel: 'error', merge: true })];
  const [fault] = documents.flatMap(({ errors }) => errors);
  // A template has no place of a fault that would help.
  const hint = manifest.includes('{{') ? '; render a template first (`helm template`)' : '';
  if (fault) {
    const [line = ''] = fault.message.split('\n');
    throw unreadable(`it is not valid YAML: ${line.replace(/:$/, '')}${hint}`, fault);
  }
  try {
    return documents.map((document): unknown => document.toJS());
  } catch (error) {
    throw unreadable(`it is not valid YAML: ${messageOf(error)}${hint}`, error);
  }
}

function unreadable(reason: string, cause?: unknown): Pm2EnvoyError {
  return new Pm2EnvoyError('config-invalid', `--manifest: ${reason}`, { cause });
}

/** Every pod template, however deep it is: of a workload, in a List, or a Pod itself. */
function podsIn(value: unknown, outer: string): EnvoyPod[] {
  if (typeof value !== 'object' || value === null) return [];
  const { kind, metadata } = objectOf(value);
  const name = textOf(objectOf(metadata)['name']);
  const where = typeof kind === 'string' && name ? `${kind} ${name}` : outer;
  const inside = Object.values(value).flatMap((one) => podsIn(one, where));
  return 'containers' in value ? [...envoyPodsOf(objectOf(value), where), ...inside] : inside;
}

type Fields = Readonly<Record<string, unknown>>;

function envoyPodsOf(pod: Fields, where: string): EnvoyPod[] {
  // An init container that is always restarted is a sidecar: it runs beside the others, and ends after them.
  const sidecars = listOf(pod['initContainers'])
    .map(objectOf)
    .filter((container) => container['restartPolicy'] === 'Always');
  return [...listOf(pod['containers']).map(objectOf), ...sidecars]
    .map((container) => envoyPodOf(pod, container, where))
    .filter(isOurs);
}

function isOurs({ image, command, variables, preStop }: EnvoyPod): boolean {
  const words = [image, ...command, ...(preStop?.kind === 'exec' ? preStop.command : [])];
  return variables.size > 0 || words.some((word) => /\bpm2-(envoy|runtime)\b/.test(word));
}

function envoyPodOf(pod: Fields, container: Fields, where: string): EnvoyPod {
  const seconds = numberOf(pod['terminationGracePeriodSeconds']) ?? DEFAULT.gracePeriodSeconds;
  const ports = new Map(
    listOf(container['ports'])
      .map(objectOf)
      .map((port) => [textOf(port['name']) ?? '', numberOf(port['containerPort']) ?? 0]),
  );
  const preStop = objectOf(container['lifecycle'])['preStop'];
  return {
    where,
    gracePeriodMs: seconds * 1_000,
    isHostNetwork: pod['hostNetwork'] === true,
    image: textOf(container['image']) ?? '',
    command: [...textsOf(container['command']), ...textsOf(container['args'])],
    variables: variablesOf(container),
    hasEnvFrom: listOf(container['envFrom']).length > 0,
    ports,
    preStop: preStop ? actionOf(objectOf(preStop), ports) : undefined,
    probes: probesOf(container, ports),
  };
}

function variablesOf(container: Fields): Map<string, string | undefined> {
  const ours = listOf(container['env'])
    .map(objectOf)
    .map((entry) => [String(entry['name']), entry] as const)
    .filter(([name]) => name.startsWith('PM2_ENVOY_'));
  return new Map(ours.map(([name, entry]) => [name, textValueOf(entry)]));
}

function textValueOf(entry: Fields): string | undefined {
  if ('valueFrom' in entry) return undefined;
  // Neither of both is an empty value. The kubelet puts another variable in place of `$(NAME)`.
  const value = String(entry['value'] ?? '');
  return /\$\([^)]+\)/.test(value) ? undefined : value;
}

function probesOf(container: Fields, ports: EnvoyPod['ports']): Probe[] {
  return (['startupProbe', 'readinessProbe', 'livenessProbe'] as const).flatMap((name) => {
    if (!container[name]) return [];
    const probe = objectOf(container[name]);
    const timeoutSeconds = numberOf(probe['timeoutSeconds']) ?? DEFAULT.timeoutSeconds;
    return [{ name, action: actionOf(probe, ports), timeoutSeconds }];
  });
}

function actionOf(fields: Fields, ports: EnvoyPod['ports']): Action {
  const portOf = (port: unknown): number => ports.get(String(port)) ?? Number(port);
  if (fields['exec'])
    return { kind: 'exec', command: textsOf(objectOf(fields['exec'])['command']) };
  if (fields['httpGet']) {
    const { host, path, port, httpHeaders } = objectOf(fields['httpGet']);
    const names = listOf(httpHeaders).map((header) => String(objectOf(header)['name']));
    return {
      kind: 'http',
      ...(typeof host === 'string' && host !== '' ? { host } : {}),
      path: textOf(path) ?? '/',
      port: portOf(port),
      hasAuthorization: names.some((name) => name.toLowerCase() === 'authorization'),
    };
  }
  const other = fields['tcpSocket'] ?? fields['grpc'];
  return other ? { kind: 'port', port: portOf(objectOf(other)['port']) } : { kind: 'other' };
}

function objectOf(value: unknown): Fields {
  return typeof value === 'object' && value !== null ? (value as Fields) : {};
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function textsOf(value: unknown): string[] {
  return listOf(value).map(String);
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

/** Kubernetes refuses a number in quotes by itself, and means that number. */
function numberOf(value: unknown): number | undefined {
  if (typeof value === 'string' && /^\d+$/.test(value)) return Number(value);
  return typeof value === 'number' ? value : undefined;
}
