import type { Mount, Probe, StoppedContainer } from '../container.js';
import {
  createFieldReader,
  type FieldReader,
  type Fields,
  listOf,
  objectOf,
  textOf,
  textsOf,
  variablesOf,
} from '../fields.js';
import { warning } from '../finding.js';

/** Of Docker and of the Compose specification, `stop_grace_period`. */
const GRACE_MS = 10_000;
/** `${NAME:-default}`: what Compose puts there unless the environment says otherwise. */
const WITH_DEFAULT = /\$\{(\w+):?-([^}]*)\}/g;

/** The services of a Compose file, also of a Swarm stack; undefined: it is none. */
export function readCompose(document: unknown): StoppedContainer[] | undefined {
  const { services, apiVersion, kind } = objectOf(document);
  if (typeof services !== 'object' || services === null || apiVersion || kind) return undefined;
  return Object.entries(services).map(([name, service]) => readService(name, objectOf(service)));
}

function readService(name: string, raw: Fields): StoppedContainer {
  const fields = createFieldReader();
  const service = filled(raw, fields);
  const hooks = listOf(service['pre_stop']).map(objectOf);
  if (hooks.length > 0) {
    fields.findings.push(
      warning(
        'preStop',
        'pre_stop runs for `docker compose` only, not when Docker itself stops or restarts the container',
        'leave it out: the signal starts the drain',
      ),
    );
  }
  const isExtended = service['extends'] !== undefined;
  if (isExtended) {
    fields.findings.push(
      warning(
        'manifest',
        'it extends another service, whose settings are not read',
        'pass what `docker compose config` prints',
      ),
    );
  }
  // Where the other service may set it, nothing is the default.
  const isGraceUnseen = isExtended && service['stop_grace_period'] === undefined;
  return {
    where: `service ${name}`,
    platform: 'Docker',
    gracePeriodMs: isGraceUnseen
      ? undefined
      : fields.durationMs(service, 'stop_grace_period', GRACE_MS),
    stopSignal: service['stop_signal'] === undefined ? undefined : String(service['stop_signal']),
    isHostNetwork: service['network_mode'] === 'host',
    image: textOf(service['image']) ?? '',
    command: [...textsOf(service['entrypoint']), ...textsOf(service['command'])],
    variables: variablesOf(environmentOf(service['environment'])),
    unseen: ['env_file', 'extends'].filter((key) => service[key] !== undefined),
    ports: new Map(),
    preStop: undefined,
    probes: probesOf(objectOf(service['healthcheck']), fields),
    isReadOnlyRoot: service['read_only'] === true,
    mounts: mountsOf(service),
    findings: fields.findings,
  };
}

/** The service with the defaults of its variables, and a word on those that have none. */
function filled(service: Fields, fields: FieldReader): Fields {
  const assumed: string[] = [];
  const fill = (value: unknown): unknown => {
    if (typeof value === 'string') {
      return value.replaceAll(WITH_DEFAULT, (_, name: string, fallback: string) => {
        assumed.push(`${name}=${fallback}`);
        return fallback;
      });
    }
    if (Array.isArray(value)) return value.map(fill);
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, fill(one)]));
  };
  // Where the image comes from makes no difference.
  const { image, ...rest } = service;
  const made = objectOf(fill(rest));
  if (assumed.length > 0) {
    fields.findings.push(
      warning(
        'manifest',
        `the environment may set other values: ${assumed.join(', ')} are assumed`,
        'pass what `docker compose config` prints',
      ),
    );
  }
  return { ...made, image };
}

/** A map, or a list of `NAME=value`; a name alone is taken from the environment. */
function environmentOf(environment: unknown): [string, unknown][] {
  if (!Array.isArray(environment)) {
    return Object.entries(objectOf(environment)).map(([name, value]) => [name, value ?? undefined]);
  }
  return environment.map((entry) => {
    const [name = '', ...value] = String(entry).split('=');
    return [name, value.length > 0 ? value.join('=') : undefined];
  });
}

/** Swarm replaces a container that is unhealthy; Docker alone only shows it. */
function probesOf(healthcheck: Fields, fields: FieldReader): Probe[] {
  const { test } = healthcheck;
  if (test === undefined || healthcheck['disable'] === true) return [];
  const interval = fields.durationMs(healthcheck, 'interval', 30_000) ?? 30_000;
  const retries = fields.seconds(healthcheck, 'retries', 3) ?? 3;
  const timeout = fields.durationMs(healthcheck, 'timeout', 30_000) ?? 30_000;
  return [
    {
      name: 'healthcheck',
      role: 'alive',
      action: { kind: 'exec', command: textsOf(test).filter((word) => !/^CMD/.test(word)) },
      timeoutSeconds: timeout / 1_000,
      patienceMs: interval * retries,
    },
  ];
}

function mountsOf(service: Fields): Mount[] {
  const volumes = listOf(service['volumes']).map((entry): Mount => {
    if (typeof entry === 'string') {
      const [source = '', target = source, mode = ''] = entry.split(':');
      return { path: target, isWritable: !mode.split(',').includes('ro'), isPart: isFile(source) };
    }
    const { target, source, read_only: readOnly } = objectOf(entry);
    return {
      path: textOf(target) ?? '',
      isWritable: readOnly !== true,
      isPart: isFile(textOf(source) ?? ''),
    };
  });
  const tmpfs = [service['tmpfs']].flat().filter((entry) => entry !== undefined);
  const files = [...listOf(service['configs']), ...listOf(service['secrets'])].map(
    (entry): Mount => {
      const { target, source } = objectOf(entry);
      return {
        path: textOf(target) ?? `/${String(source ?? entry)}`,
        isWritable: false,
        isPart: true,
      };
    },
  );
  return [
    ...volumes,
    ...files,
    ...tmpfs.map(
      (entry): Mount => ({
        path: String(entry).split(':')[0] ?? '',
        isWritable: true,
        isPart: false,
      }),
    ),
  ];
}

/** A bootstrap that is mounted by itself: an editor puts another file in its place. */
function isFile(source: string): boolean {
  return /\.(ya?ml|json|pb|pb_text)$/.test(source);
}
