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

/** `stopTimeout`, ContainerDefinition in the API reference of Amazon ECS: what is not said, and the most on Fargate. */
const GRACE_S = 30;
const MOST_ON_FARGATE_S = 120;
const LIMIT = {
  ms: MOST_ON_FARGATE_S * 1_000,
  message: 'more than the 120 s that Fargate allows',
  remedy:
    'set it to 120, and grace-period to 120s; or run it on EC2, with requiresCompatibilities: ["EC2"]',
};

/** The containers of a task definition, of `aws ecs` or in CloudFormation; undefined: there is none. */
export function readEcs(document: unknown): StoppedContainer[] | undefined {
  const found = tasksIn(document);
  return found.length > 0 ? found.flatMap(readTask) : undefined;
}

/** CloudFormation writes each name with a capital. */
function tasksIn(value: unknown): Fields[] {
  if (typeof value !== 'object' || value === null) return [];
  const task = lowered(value);
  if (Array.isArray(task['containerDefinitions'])) return [task];
  return Object.values(value).flatMap(tasksIn);
}

function lowered(value: unknown): Fields {
  return Object.fromEntries(
    Object.entries(objectOf(value)).map(([name, one]) => [
      name.charAt(0).toLowerCase() + name.slice(1),
      one,
    ]),
  );
}

function readTask(task: Fields): StoppedContainer[] {
  const family = textOf(task['family']) ?? 'task';
  const needs = listOf(task['requiresCompatibilities']).map(String);
  return listOf(task['containerDefinitions'])
    .map(lowered)
    .map((container) => {
      const fields = createFieldReader();
      const linux = lowered(container['linuxParameters']);
      return {
        where: `${family}/${textOf(container['name']) ?? 'container'}`,
        platform: 'ECS',
        gracePeriodMs: graceOf(container, needs, fields),
        // It may run on either unless it says on which.
        ...(needs.length > 0
          ? {}
          : { limit: { ...LIMIT, message: `stopTimeout may be ${LIMIT.message}` } }),
        stopSignal: undefined,
        isHostNetwork: task['networkMode'] === 'host',
        image: textOf(container['image']) ?? '',
        command: [...textsOf(container['entryPoint']), ...textsOf(container['command'])],
        variables: variablesOf(variables(container)),
        unseen: listOf(container['environmentFiles']).length > 0 ? ['environmentFiles'] : [],
        ports: new Map(),
        preStop: undefined,
        probes: probesOf(lowered(container['healthCheck']), fields),
        isReadOnlyRoot: container['readonlyRootFilesystem'] === true,
        mounts: [
          ...listOf(container['mountPoints'])
            .map(lowered)
            .map((mount) => ({
              path: String(mount['containerPath'] ?? ''),
              isWritable: mount['readOnly'] !== true,
              isPart: false,
            })),
          ...listOf(linux['tmpfs'])
            .map(lowered)
            .map((mount) => ({
              path: String(mount['containerPath'] ?? ''),
              isWritable: true,
              isPart: false,
            })),
        ],
        findings: fields.findings,
      };
    });
}

function graceOf(
  container: Fields,
  needs: readonly string[],
  fields: FieldReader,
): number | undefined {
  const seconds = fields.seconds(container, 'stopTimeout', GRACE_S);
  if (seconds === undefined) return undefined;
  if (seconds <= MOST_ON_FARGATE_S || !needs.includes('FARGATE')) return seconds * 1_000;
  fields.findings.push(
    problem('timers', `stopTimeout is ${seconds}, ${LIMIT.message}`, LIMIT.remedy),
  );
  return MOST_ON_FARGATE_S * 1_000;
}

function variables(container: Fields): [string, unknown][] {
  const pairs = (list: unknown, isThere: boolean): [string, unknown][] =>
    listOf(list)
      .map(lowered)
      .map((entry) => [String(entry['name']), isThere ? (entry['value'] ?? '') : undefined]);
  return [...pairs(container['environment'], true), ...pairs(container['secrets'], false)];
}

/** ECS ends a task with an essential container that is unhealthy. */
function probesOf(check: Fields, fields: FieldReader): Probe[] {
  const command = textsOf(check['command']).filter((word) => !/^CMD/.test(word));
  if (command.length === 0) return [];
  const interval = fields.seconds(check, 'interval', 30) ?? 30;
  const retries = fields.seconds(check, 'retries', 3) ?? 3;
  return [
    {
      name: 'healthCheck',
      role: 'alive',
      action: { kind: 'exec', command },
      timeoutSeconds: fields.seconds(check, 'timeout', 5) ?? 5,
      patienceMs: interval * retries * 1_000,
    },
  ];
}
