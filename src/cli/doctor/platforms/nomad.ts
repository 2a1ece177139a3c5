import type { Probe, StoppedContainer } from '../container.js';
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
import { problem } from '../finding.js';

/** `kill_timeout` of a task where no one says anything. */
const GRACE_MS = 5_000;
const LIMIT = {
  ms: 30_000,
  message:
    'kill_timeout is more than 30s: the clients cut it to their max_kill_timeout, which is 30s unless their configuration says more',
  remedy: 'set max_kill_timeout in the configuration of the clients',
};
/** Their drivers send the image's own signal where `kill_signal` says nothing. */
const OF_CONTAINERS = ['docker', 'podman'];

/**
 * The tasks of a job that run a container.
 *
 * @param job as @cdktn/hcl2json reads it: blocks are lists, labels are keys, expressions are `${…}`
 */
export function readNomad(job: unknown): StoppedContainer[] {
  return labelled(objectOf(job)['job']).flatMap(([, one]) =>
    labelled(one['group']).flatMap(([, group]) =>
      labelled(group['task']).map(([name, task]) => readTask({ name, group, task })),
    ),
  );
}

function labelled(blocks: unknown): [string, Fields][] {
  return Object.entries(objectOf(blocks)).flatMap(([label, list]) =>
    listOf(list).map((one): [string, Fields] => [label, objectOf(one)]),
  );
}

interface Place {
  name: string;
  group: Fields;
  task: Fields;
}

function readTask({ name, group, task }: Place): StoppedContainer {
  const fields = createFieldReader();
  const config = first(task['config']);
  const driver = textOf(task['driver']) ?? '';
  const signal = textOf(task['kill_signal']);
  return {
    where: `task ${name}`,
    platform: 'Nomad',
    gracePeriodMs: fields.durationMs(task, 'kill_timeout', GRACE_MS),
    limit: LIMIT,
    // Only programs without a container are stopped by SIGINT.
    stopSignal: signal ?? (OF_CONTAINERS.includes(driver) ? undefined : 'SIGINT'),
    isHostNetwork: config['network_mode'] === 'host',
    image: textOf(config['image']) ?? '',
    command: [
      ...textsOf(config['entrypoint']),
      ...textsOf(config['command']),
      ...textsOf(config['args']),
    ],
    variables: variablesOf(Object.entries(first(task['env']))),
    unseen: listOf(task['template']).some((one) => objectOf(one)['env'] === true)
      ? ['template']
      : [],
    ports: portsOf(group),
    preStop: undefined,
    probes: [...listOf(group['service']), ...listOf(task['service'])].flatMap((service) =>
      probesOf(objectOf(service), portsOf(group), fields),
    ),
    isReadOnlyRoot: config['readonly_rootfs'] === true,
    mounts: mountsOf(config),
    findings: fields.findings,
  };
}

function first(blocks: unknown): Fields {
  return objectOf(listOf(blocks)[0]);
}

function portsOf(group: Fields): Map<string, number> {
  const { port } = first(group['network']);
  return new Map(
    labelled(port).map(([name, { to, static: fixed }]) => [
      name,
      Number(to ?? fixed ?? Number.NaN),
    ]),
  );
}

function probesOf(
  service: Fields,
  ports: ReadonlyMap<string, number>,
  fields: FieldReader,
): Probe[] {
  const restart = first(service['check_restart']);
  return listOf(service['check'])
    .map(objectOf)
    .map((check): Probe => {
      const own = first(check['check_restart']);
      const limit = Number(own['limit'] ?? restart['limit'] ?? 0);
      const interval = fields.durationMs(check, 'interval', 10_000) ?? 10_000;
      const timeout = fields.durationMs(check, 'timeout', 2_000) ?? 2_000;
      const label = String(check['port'] ?? service['port'] ?? '');
      const port = ports.get(label) ?? Number(label);
      const isHttp = check['type'] === 'http';
      if (check['type'] === undefined) {
        fields.findings.push(
          problem('probes', 'a check has no type', 'type = "http", path = "/readyz"'),
        );
      }
      return {
        name: `check ${textOf(check['name']) ?? textOf(check['path']) ?? label}`,
        role: limit > 0 ? 'alive' : 'ready',
        action: isHttp
          ? {
              kind: 'http',
              path: textOf(check['path']) ?? '/',
              port,
              isHttps: check['protocol'] === 'https',
            }
          : { kind: 'port', port },
        timeoutSeconds: timeout / 1_000,
        patienceMs: interval * Math.max(1, limit),
      };
    });
}

function mountsOf(config: Fields): StoppedContainer['mounts'] {
  const volumes = textsOf(config['volumes']).map((entry) => {
    const [, path = '', mode = ''] = entry.split(':');
    return { path, isWritable: mode !== 'ro', isPart: false };
  });
  const mounts = listOf(config['mount'])
    .map(objectOf)
    .map((mount) => ({
      path: textOf(mount['target']) ?? '',
      isWritable: mount['readonly'] !== true,
      isPart: false,
    }));
  return [...volumes, ...mounts];
}
