import type { Mount, Probe, StoppedContainer } from '../container.js';
import { createFieldReader, type FieldReader, textsOf, variablesOf } from '../fields.js';
import { problem } from '../finding.js';

/** Of Podman, and of systemd, where a unit says nothing. */
const GRACE_S = 10;
const SYSTEMD_MS = 90_000;

/** Values by section and key; a key may be there again and again. */
type Unit = ReadonlyMap<string, readonly string[]>;

/** The container of a .container unit, podman-systemd.unit(5). */
export function readQuadlet(text: string): StoppedContainer[] {
  const unit = parseUnit(text);
  const all = (key: string): readonly string[] => unit.get(key) ?? [];
  const last = (key: string): string | undefined => unit.get(`Container.${key}`)?.at(-1);
  const fields = createFieldReader();
  const args = all('Container.PodmanArgs').join(' ');
  return [
    {
      where: `container ${last('ContainerName') ?? ''}`.trim(),
      platform: 'Podman',
      gracePeriodMs: graceOf(unit, args, fields),
      stopSignal: last('StopSignal') ?? /--stop-signal[= ](\S+)/.exec(args)?.[1],
      isHostNetwork: all('Container.Network').includes('host'),
      image: last('Image') ?? '',
      command: [...textsOf(last('Entrypoint')), ...textsOf(last('Exec'))],
      variables: variablesOf(all('Container.Environment').flatMap(assignments)),
      unseen: unit.has('Container.EnvironmentFile') ? ['EnvironmentFile'] : [],
      ports: new Map(),
      preStop: undefined,
      probes: probesOf(last('HealthCmd'), last('HealthOnFailure')),
      isReadOnlyRoot: last('ReadOnly') === 'true',
      mounts: mountsOf(unit, last('ReadOnlyTmpfs'), last('ReadOnly')),
      findings: fields.findings,
    },
  ];
}

/** Sections, keys, lines that continue after a backslash; an empty value resets what was set before. */
function parseUnit(text: string): Unit {
  const unit = new Map<string, string[]>();
  let section = '';
  for (const line of text.replaceAll(/\\\n/g, ' ').split('\n')) {
    if (/^\s*([#;]|$)/.test(line)) continue;
    const [, name] = /^\s*\[(.+)\]\s*$/.exec(line) ?? [];
    if (name !== undefined) {
      section = name;
      continue;
    }
    const at = line.indexOf('=');
    const key = `${section}.${line.slice(0, at).trim()}`;
    const value = line.slice(at + 1).trim();
    unit.set(key, value === '' ? [] : [...(unit.get(key) ?? []), value]);
  }
  return unit;
}

/** `A=b "C=d e"`, as systemd reads it. */
function assignments(line: string): [string, string][] {
  const words = line.match(/"[^"]*"|'[^']*'|\S+/g) ?? [];
  return words.map((word) => {
    const [name = '', ...value] = word.replaceAll(/^["']|["']$/g, '').split('=');
    return [name, value.join('=')];
  });
}

function graceOf(unit: Unit, args: string, fields: FieldReader): number | undefined {
  const said =
    unit.get('Container.StopTimeout')?.at(-1) ?? /--stop-timeout[= ](\S+)/.exec(args)?.[1];
  // Podman refuses a unit of time here, which systemd takes.
  const seconds = fields.seconds({ StopTimeout: said }, 'StopTimeout', GRACE_S);
  if (seconds === undefined) return undefined;
  const graceMs = seconds * 1_000;
  const stop = unit.get('Service.TimeoutStopSec')?.at(-1) ?? unit.get('Service.TimeoutSec')?.at(-1);
  if (stop === 'infinity') return graceMs;
  const stopMs = fields.durationOrSecondsMs(
    { TimeoutStopSec: stop?.replaceAll(/min\b/g, 'm').replaceAll(' ', '') },
    'TimeoutStopSec',
    SYSTEMD_MS,
  );
  if (stopMs === undefined || stopMs > graceMs) return graceMs;
  fields.findings.push(
    problem(
      'timers',
      `systemd kills the unit after TimeoutStopSec ${stopMs / 1_000} s${stop === undefined ? ', its default' : ''}, and Podman waits for ${graceMs / 1_000}`,
      `TimeoutStopSec=${Math.ceil(graceMs / 1_000) + 15} in [Service]`,
    ),
  );
  return Math.min(stopMs, graceMs);
}

function probesOf(command: string | undefined, onFailure: string | undefined): Probe[] {
  if (command === undefined || command === 'none') return [];
  const isActing = onFailure !== undefined && onFailure !== 'none';
  return [
    {
      name: 'HealthCmd',
      role: isActing ? 'alive' : 'startup',
      action: { kind: 'exec', command: [command] },
      timeoutSeconds: 30,
      patienceMs: Number.POSITIVE_INFINITY,
    },
  ];
}

function mountsOf(unit: Unit, readOnlyTmpfs: string | undefined, readOnly: string | undefined) {
  const volumes = (unit.get('Container.Volume') ?? []).map((entry): Mount => {
    const [source = '', path = source, mode = ''] = entry.split(':');
    return {
      path,
      isWritable: !mode.split(',').includes('ro'),
      isPart: /\.(ya?ml|json)$/.test(source),
    };
  });
  const tmpfs = (unit.get('Container.Tmpfs') ?? []).map(
    (entry): Mount => ({
      path: entry.split(':')[0] ?? '',
      isWritable: true,
      isPart: false,
    }),
  );
  // Podman has a tmpfs at these places on its own.
  const own = readOnly === 'true' && readOnlyTmpfs !== 'false' ? ['/tmp', '/run', '/var/tmp'] : [];
  return [
    ...volumes,
    ...tmpfs,
    ...own.map((path): Mount => ({ path, isWritable: true, isPart: false })),
  ];
}
