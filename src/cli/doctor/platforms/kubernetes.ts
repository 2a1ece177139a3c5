import type { Action, Mount, Probe, StoppedContainer } from '../container.js';
import {
  createFieldReader,
  type FieldReader,
  type Fields,
  isTemplate,
  listOf,
  objectOf,
  textOf,
  variablesOf,
} from '../fields.js';
import { problem, warning } from '../finding.js';

/** How a platform that takes Kubernetes' fields stops a container. */
export interface PodRules {
  /** For messages: `the kubelet`. */
  platform: string;
  /** In seconds, where a manifest says nothing. */
  graceSeconds: number;
  /** No manifest gets more. */
  mostSeconds?: number;
}

const KUBERNETES: PodRules = { platform: 'the kubelet', graceSeconds: 30 };
/** Of Kubernetes, where a probe says nothing. */
const PROBE = {
  initialDelaySeconds: 0,
  timeoutSeconds: 1,
  periodSeconds: 10,
  failureThreshold: 3,
};
const ROLES = { startupProbe: 'startup', readinessProbe: 'ready', livenessProbe: 'alive' } as const;

/** Every container of every pod template, however deep it is: of a workload, in a List, or a Pod itself. */
export function readKubernetes(value: unknown, outer = 'the manifest'): StoppedContainer[] {
  if (typeof value !== 'object' || value === null) return [];
  const { kind, metadata } = objectOf(value);
  const name = textOf(objectOf(metadata)['name']);
  const where = typeof kind === 'string' && name ? `${kind} ${name}` : outer;
  const inside = Object.values(value).flatMap((one) => readKubernetes(one, where));
  return 'containers' in value ? [...readPod(objectOf(value), where), ...inside] : inside;
}

/** The containers of a pod, and its sidecars. */
export function readPod(
  pod: Fields,
  where: string,
  rules: PodRules = KUBERNETES,
): StoppedContainer[] {
  // An init container that is always restarted is a sidecar: it runs next to the others, and ends after them.
  const sidecars = listOf(pod['initContainers'])
    .map(objectOf)
    .filter((container) => container['restartPolicy'] === 'Always');
  return [...listOf(pod['containers']).map(objectOf), ...sidecars].map((container) =>
    readContainer({ pod, container, where, rules }),
  );
}

interface Place {
  pod: Fields;
  container: Fields;
  where: string;
  rules: PodRules;
}

function readContainer({ pod, container, where, rules }: Place): StoppedContainer {
  const fields = createFieldReader();
  const ports = new Map(
    listOf(container['ports'])
      .map(objectOf)
      .map((port) => [textOf(port['name']) ?? '', Number(port['containerPort'] ?? 0)]),
  );
  const { preStop, stopSignal } = objectOf(container['lifecycle']);
  const entries = listOf(container['env']).map(objectOf);
  checkTemplate([pod['terminationGracePeriodSeconds'], container], fields);
  return {
    where,
    platform: rules.platform,
    gracePeriodMs: graceOf(pod, rules, fields),
    stopSignal: textOf(stopSignal),
    isHostNetwork: pod['hostNetwork'] === true,
    image: textOf(container['image']) ?? '',
    command: [container['command'], container['args']].flatMap((part) => listOf(part).map(String)),
    variables: variablesOf(
      entries.map((entry) => [
        String(entry['name']),
        // Neither value nor source is an empty value.
        'valueFrom' in entry || 'secretRef' in entry ? undefined : (entry['value'] ?? ''),
      ]),
    ),
    unseen: listOf(container['envFrom']).length > 0 ? ['envFrom'] : [],
    ports,
    preStop: preStop ? actionOf(objectOf(preStop), ports, fields) : undefined,
    probes: probesOf(container, ports, fields),
    isReadOnlyRoot: objectOf(container['securityContext'])['readOnlyRootFilesystem'] === true,
    mounts: mountsOf(pod, container, fields),
    findings: fields.findings,
  };
}

function graceOf(pod: Fields, rules: PodRules, fields: FieldReader): number | undefined {
  const { graceSeconds, mostSeconds = Number.POSITIVE_INFINITY, platform } = rules;
  const seconds = fields.seconds(pod, 'terminationGracePeriodSeconds', graceSeconds);
  if (seconds === undefined) return undefined;
  if (seconds > mostSeconds) {
    fields.findings.push(
      problem(
        'timers',
        `terminationGracePeriodSeconds ${seconds} is more than ${platform} allows: ${mostSeconds}`,
        `set it to ${mostSeconds}, and grace-period to ${mostSeconds}s`,
      ),
    );
  }
  return Math.min(seconds, mostSeconds) * 1_000;
}

/** A template that was not rendered is valid YAML: without quotes, `{{ NAME }}` is a map in a map. */
function checkTemplate(parts: readonly unknown[], { findings }: FieldReader): void {
  if (!parts.some(isTemplate)) return;
  findings.push(
    problem(
      'manifest',
      'it is a template that was not rendered: the content of {{ }} is unknown',
      'pass what is applied, such as the output of `helm template`',
    ),
  );
}

function probesOf(container: Fields, ports: StoppedContainer['ports'], fields: FieldReader) {
  return (['startupProbe', 'readinessProbe', 'livenessProbe'] as const).flatMap((name): Probe[] => {
    if (!container[name]) return [];
    const probe = objectOf(container[name]);
    const number = (key: keyof typeof PROBE): number =>
      fields.seconds({ [`${name}.${key}`]: probe[key] }, `${name}.${key}`, PROBE[key]) ??
      PROBE[key];
    const own = probe['terminationGracePeriodSeconds'];
    return [
      {
        name,
        role: ROLES[name],
        action: actionOf(probe, ports, fields),
        timeoutSeconds: number('timeoutSeconds'),
        patienceMs:
          (number('initialDelaySeconds') + number('periodSeconds') * number('failureThreshold')) *
          1_000,
        ...(own === undefined ? {} : { gracePeriodMs: Number(own) * 1_000 }),
      },
    ];
  });
}

function actionOf(
  fields: Fields,
  ports: StoppedContainer['ports'],
  { findings }: FieldReader,
): Action {
  const portOf = (port: unknown): number => ports.get(String(port)) ?? Number(port);
  if (fields['exec']) {
    const { command } = objectOf(fields['exec']);
    if (!Array.isArray(command)) {
      findings.push(
        problem(
          'manifest',
          'exec.command is not a list',
          'write it as a list: [pm2-envoy, shutdown]',
        ),
      );
    }
    return { kind: 'exec', command: listOf(command).map(String) };
  }
  if (fields['httpGet']) {
    const { host, path, port, scheme, httpHeaders } = objectOf(fields['httpGet']);
    const authorization = listOf(httpHeaders)
      .map(objectOf)
      .find((header) => String(header['name']).toLowerCase() === 'authorization');
    return {
      kind: 'http',
      ...(typeof host === 'string' && host !== '' ? { host } : {}),
      path: textOf(path) ?? '/',
      port: portOf(port),
      isHttps: String(scheme ?? 'HTTP').toUpperCase() !== 'HTTP',
      ...(authorization ? { authorization: String(authorization['value'] ?? '') } : {}),
    };
  }
  if (fields['sleep']) {
    return { kind: 'sleep', ms: Number(objectOf(fields['sleep'])['seconds']) * 1_000 };
  }
  const other = fields['tcpSocket'] ?? fields['grpc'];
  return other ? { kind: 'port', port: portOf(objectOf(other)['port']) } : { kind: 'other' };
}

function mountsOf(pod: Fields, container: Fields, { findings }: FieldReader): Mount[] {
  const volumes = new Map(
    listOf(pod['volumes'])
      .map(objectOf)
      .map((volume) => [String(volume['name'] ?? ''), volume]),
  );
  return listOf(container['volumeMounts']).map((entry) => {
    const { name, mountPath, readOnly, subPath, subPathExpr } = objectOf(entry);
    const volume = volumes.get(String(name));
    // A StatefulSet has its own in volumeClaimTemplates.
    if (!volume && volumes.size > 0 && !('volumeClaimTemplates' in pod)) {
      findings.push(
        warning(
          'manifest',
          `a volume ${String(name)} is mounted that the pod does not have`,
          'add it to volumes, unless volumeClaimTemplates has it',
        ),
      );
    }
    // These are never written, whatever a mount says.
    const isFixed = ['configMap', 'secret', 'projected', 'downwardAPI'].some(
      (kind) => volume && kind in volume,
    );
    return {
      path: textOf(mountPath) ?? '',
      isWritable: readOnly !== true && !isFixed,
      isPart: typeof (subPath ?? subPathExpr) === 'string' && (subPath ?? subPathExpr) !== '',
    };
  });
}
