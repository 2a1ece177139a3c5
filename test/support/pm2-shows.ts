import type { TestPm2 } from './pm2.js';

/** What pm2 knows of an app. */
export interface ShownApp {
  pid: number;
  status: string;
  /** Resident memory that `pm2 ls` shows, in bytes. */
  memoryBytes: number;
  /** The process that this memory is of, if not the app itself. */
  memoryPid: number | undefined;
  /** By their names, as `pm2 show` and `pm2 monit` show them. */
  metrics: Record<string, number | string>;
  /** What `pm2 trigger` can be called with. */
  actions: string[];
}

/** What pm2 knows of an app, from `pm2 jlist`. */
export async function appShown(pm2: TestPm2, name: string): Promise<ShownApp> {
  const list = JSON.parse(await pm2.pm2('jlist')) as RawApp[];
  const app = list.find((one) => one.name === name);
  if (!app) throw new Error(`pm2 has no app ${name}`);
  const { status, axm_monitor, axm_options, axm_actions } = app.pm2_env;
  return {
    pid: app.pid,
    status,
    memoryBytes: app.monit.memory,
    memoryPid: axm_options.pid,
    metrics: Object.fromEntries(
      Object.entries(axm_monitor).map(([metric, { value }]) => [metric, value]),
    ),
    actions: axm_actions.map(({ action_name }) => action_name),
  };
}

/** Calls `pm2 trigger` on the manager; resolves to the answers that it has printed, once it has ended. */
export async function trigger(pm2: TestPm2, ...args: string[]): Promise<Answer[]> {
  return answersIn(await pm2.pm2('trigger', 'envoy-manager', ...args));
}

/** The answers in the output of `pm2 trigger`. */
export function answersIn(output: string): Answer[] {
  return [...output.matchAll(/^\[envoy-manager:\d+:default\]=(.*)$/gm)].map(([, json = '']) =>
    JSON.parse(json),
  );
}

/** Any answer of the manager's actions. */
export interface Answer {
  outcome?: string;
  phase?: string;
  resumed?: boolean;
  drain?: { outcome: string } | null;
  error?: { code: string; message: string };
  [key: string]: unknown;
}

interface RawApp {
  name: string;
  pid: number;
  monit: { memory: number };
  pm2_env: {
    status: string;
    axm_monitor: Record<string, { value: number | string }>;
    axm_options: { pid?: number };
    axm_actions: { action_name: string }[];
  };
}
