import assert from 'node:assert/strict';
import { METRICS } from '../../src/manager/metrics/catalogue.js';
import { eventually } from './wait.js';

/** A page of metrics, read. */
export interface Metrics {
  /** The value of the one line of this name with at least these labels; undefined: there is none. */
  value(name: string, labels?: Readonly<Record<string, string>>): number | undefined;
  /** Every metric that has its help there, with or without lines. */
  readonly names: readonly string[];
}

const LINE = /^([a-z0-9_]+)(?:\{(.*)\})? (\S+)$/;

/** Reads the text format of Prometheus; `pm2_envoy_` may be left out of names. */
export function readMetrics(text: string): Metrics {
  const lines = text.split('\n').flatMap((line) => {
    const [, name, labels = '', value] = LINE.exec(line) ?? [];
    return name === undefined ? [] : [{ name, labels, value: Number(value) }];
  });
  return {
    names: [...text.matchAll(/^# HELP (\S+)/gm)].map(([, name]) => String(name)),
    value: (name, labels = {}) => {
      const parts = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
      const found = lines.filter(
        (line) =>
          [name, `pm2_envoy_${name}`].includes(line.name) &&
          parts.every((part) => `,${line.labels},`.includes(`,${part},`)),
      );
      if (found.length > 1) throw new Error(`${name} has ${found.length} lines: name more labels`);
      return found[0]?.value;
    },
  };
}

/** A metric without what its lines have at their ends. */
export function metricOf(name: string): string {
  const isOwn = METRICS.some((one) => one.name === name);
  return isOwn ? name : name.replace(/_(bucket|sum|count)$/, '');
}

/** What can be asked over HTTP. */
export interface Asked {
  http(method: string, path: string): Promise<{ status: number; body: string }>;
}

/** The metrics as they are now. */
export async function scrape(asked: Asked): Promise<Metrics> {
  const { status, body } = await asked.http('GET', '/metrics');
  assert.equal(status, 200, body);
  return readMetrics(body);
}

/** Drains and hand-overs that were counted, as `shutdown drained 1`. */
export async function counted(asked: Asked): Promise<string[]> {
  const metrics = await scrape(asked);
  return ['shutdown', 'handover'].flatMap((command) =>
    ['drained', 'timeout', 'cancelled', 'envoy-gone', 'admin-unreachable'].flatMap((outcome) => {
      const value = metrics.value('drains_total', { command, outcome });
      assert.ok(value !== undefined, `${command} ${outcome} is not there`);
      return value === 0 ? [] : [`${command} ${outcome} ${value}`];
    }),
  );
}

/** Waits until exactly these are counted. */
export const isCounted = (asked: Asked, ...lines: string[]): Promise<true> =>
  eventually(lines.join(), async () => {
    const now = await counted(asked).catch(() => []);
    return now.join() === lines.join() || undefined;
  });
