import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { formatDuration } from '../../config/duration.js';
import { type Finding, ok, problem, warning } from './finding.js';

/** The systemd unit that pm2's daemon is the main process of. */
export interface Unit {
  name: string;
  /** TimeoutStopSec; Infinity: systemd waits for as long as it takes. */
  stopMs: number;
  /** KillMode, systemd.kill(5). */
  killMode: string;
}

const LIMIT_MS = 5_000;
/** As systemd.time(7) writes a time span; the rest are longer than any drain. */
const UNITS_MS: Readonly<Record<string, number>> = {
  us: 1e-3,
  ms: 1,
  s: 1_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** Finds the unit of pm2's daemon; undefined where there is none, or systemd can't be asked. */
export async function findUnit(daemonPid: number): Promise<Unit | undefined> {
  try {
    const name = unitOf(readFileSync(`/proc/${daemonPid}/cgroup`, 'utf8'));
    if (!name) return undefined;
    const { stdout } = await promisify(execFile)(
      'systemctl',
      ['show', '--property=MainPID,TimeoutStopUSec,KillMode', '--', name],
      { timeout: LIMIT_MS },
    );
    const unit = readUnit(name, stdout);
    return unit?.mainPid === daemonPid ? unit : undefined;
  } catch {
    return undefined;
  }
}

/** The service that a /proc/PID/cgroup names; not one of a user's own systemd. Pure. */
export function unitOf(cgroup: string): string | undefined {
  const systemd = cgroup.split('\n').filter((line) => /^(\d+:name=systemd|0:):/.test(line));
  const path = systemd.find((line) => line.endsWith('.service') && !line.includes('/user@'));
  return path?.split('/').at(-1);
}

/** Reads what `systemctl show` prints; undefined when that is not all there. Pure. */
export function readUnit(name: string, shown: string): (Unit & { mainPid: number }) | undefined {
  const values = Object.fromEntries(shown.split('\n').map((line) => line.split('=')));
  const stopMs = parseSpan(values['TimeoutStopUSec'] ?? '');
  const killMode: string | undefined = values['KillMode'];
  if (stopMs === undefined || !killMode) return undefined;
  return { name, stopMs, killMode, mainPid: Number(values['MainPID']) };
}

/** Whether a stop of the unit lets a drain end, and Envoy outlives pm2's daemon. Pure. */
export function checkUnit(unit: Unit, killTimeoutMs: number): Finding[] {
  const { name, stopMs, killMode } = unit;
  const killTimeout = formatDuration(killTimeoutMs);
  const stop = Number.isFinite(stopMs) ? formatDuration(stopMs) : 'infinity';
  const inDropIn = `in a drop-in of ${name}, and \`systemctl daemon-reload\``;
  return [
    stopMs > killTimeoutMs
      ? ok('systemd', `TimeoutStopSec ${stop} of ${name} covers kill_timeout ${killTimeout}`)
      : problem(
          'systemd',
          `TimeoutStopSec ${stop} of ${name} does not cover kill_timeout ${killTimeout}: a stop or a reboot may cut connections that a drain still waits for`,
          `set TimeoutStopSec=${Math.ceil(killTimeoutMs / 1_000) + 30} ${inDropIn}`,
        ),
    killMode === 'process'
      ? ok('systemd', `KillMode process of ${name} lets Envoy outlive pm2's daemon`)
      : warning(
          'systemd',
          `KillMode ${killMode} of ${name}: when pm2's daemon dies, systemd kills Envoy and cuts all its connections`,
          `set KillMode=process ${inDropIn}`,
        ),
  ];
}

function parseSpan(text: string): number | undefined {
  if (text === 'infinity') return Number.POSITIVE_INFINITY;
  const parts = text.split(' ').map((part) => /^([\d.]+)([a-z]+)$/.exec(part));
  const ms = parts.map((part) => Number(part?.[1]) * (UNITS_MS[part?.[2] ?? ''] ?? Number.NaN));
  const sum = ms.reduce((total, one) => total + one, 0);
  return Number.isNaN(sum) ? undefined : sum;
}
