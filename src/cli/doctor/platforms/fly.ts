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

/** `kill_timeout` where fly.toml says nothing. */
const GRACE_MS = 5_000;
const LIMIT = {
  ms: 300_000,
  message: 'kill_timeout is more than 5 minutes, the limit of machines with shared CPUs',
  remedy: 'set it to 300, and grace-period to 5m; or use dedicated CPUs',
};

/** The machines of an app of Fly.io, from its fly.toml. */
export function readFly(app: unknown): StoppedContainer[] {
  const fly = objectOf(app);
  const fields = createFieldReader();
  const gracePeriodMs = fields.durationOrSecondsMs(fly, 'kill_timeout', GRACE_MS);
  const processes = objectOf(fly['processes']);
  return [
    {
      where: `app ${textOf(fly['app']) ?? ''}`.trim(),
      platform: 'Fly.io',
      gracePeriodMs,
      limit: LIMIT,
      stopSignal: textOf(fly['kill_signal']) ?? 'SIGINT',
      isHostNetwork: false,
      image: textOf(objectOf(fly['build'])['image']) ?? '',
      command: [
        ...textsOf(objectOf(fly['experimental'])['cmd']),
        ...Object.values(processes).flatMap(textsOf),
      ],
      variables: variablesOf(Object.entries(objectOf(fly['env']))),
      unseen: [],
      ports: new Map(),
      preStop: undefined,
      probes: probesOf(fly, fields),
      isReadOnlyRoot: false,
      mounts: [...listOf(fly['mounts']), fly['mounts']]
        .map((mount) => textOf(objectOf(mount)['destination']))
        .filter((path) => path !== undefined)
        .map((path) => ({ path, isWritable: true, isPart: false })),
      findings: fields.findings,
    },
  ];
}

/** Those of a service go to its port; those of `[checks]` say theirs. */
function probesOf(fly: Fields, fields: FieldReader): Probe[] {
  const services = [fly['http_service'], ...listOf(fly['services'])].map(objectOf);
  const ofServices = services.flatMap((service) =>
    [...listOf(service['checks']), ...listOf(service['http_checks'])].map(
      (check) => [objectOf(check), Number(service['internal_port'])] as const,
    ),
  );
  const named = Object.values(objectOf(fly['checks'])).map((check) => {
    const { port } = objectOf(check);
    return [objectOf(check), Number(port)] as const;
  });
  return [...ofServices, ...named].map(([check, port]) => ({
    name: `check ${textOf(check['path']) ?? `port ${port}`}`,
    role: 'ready',
    action:
      textOf(check['path']) === undefined
        ? { kind: 'port', port }
        : {
            kind: 'http',
            path: textOf(check['path']) ?? '/',
            port,
            isHttps: check['protocol'] === 'https',
          },
    timeoutSeconds: (fields.durationOrSecondsMs(check, 'timeout', 2_000) ?? 2_000) / 1_000,
    patienceMs: fields.durationOrSecondsMs(check, 'interval', 15_000) ?? 15_000,
  }));
}
