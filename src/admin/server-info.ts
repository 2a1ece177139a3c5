/** What `/server_info` tells of an Envoy. */
export interface ServerInfo {
  /** `1.40.0` */
  version: string;
  state: string;
  /** Whole seconds since this Envoy started. */
  uptimeSeconds: number;
  /** Worker threads. */
  concurrency: number;
  /** `--drain-time-s` that it was started with; undefined: it does not tell. */
  drainTimeMs: number | undefined;
}

/** Reads the JSON of `/server_info`; throws a TypeError when it is something else. */
export function parseServerInfo(json: unknown): ServerInfo {
  if (typeof json !== 'object' || json === null) throw new TypeError('not an object');
  const { version, state, uptime_current_epoch, command_line_options } = json as {
    version?: unknown;
    state?: unknown;
    uptime_current_epoch?: unknown;
    command_line_options?: { concurrency?: unknown; drain_time?: unknown };
  };
  const uptimeSeconds = Number.parseInt(String(uptime_current_epoch), 10);
  if (typeof version !== 'string' || typeof state !== 'string' || !Number.isFinite(uptimeSeconds)) {
    throw new TypeError('version, state or uptime is missing');
  }
  return {
    // "<commit>/1.40.0/Clean/RELEASE/BoringSSL"
    version: version.split('/')[1] ?? version,
    state,
    uptimeSeconds,
    concurrency: Number(command_line_options?.concurrency ?? 0),
    drainTimeMs: durationOf(command_line_options?.drain_time),
  };
}

/** Protobuf writes a duration as `600s` or `0.500s`. */
function durationOf(text: unknown): number | undefined {
  const seconds = /^(\d+(?:\.\d+)?)s$/.exec(String(text))?.[1];
  return seconds === undefined ? undefined : Number(seconds) * 1_000;
}

/** `/server_info` tells an Envoy's start to the second, and answers late when it is busy. */
const SAME_START_MS = 3_000;

/** When the Envoy started, on the clock that `nowMs` was read from. */
export function startOf({ uptimeSeconds }: ServerInfo, nowMs: number): number {
  return nowMs - uptimeSeconds * 1_000;
}

/** Whether two starts, each from a `/server_info` of its own, are of the same Envoy. */
export function isSameStart(aMs: number, bMs: number): boolean {
  return Math.abs(aMs - bMs) <= SAME_START_MS;
}
