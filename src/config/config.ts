import type { AdminAddress } from '../admin/address.js';

/** A plugin as it is configured: its module and the options for its constructor. */
export interface PluginEntry {
  path: string;
  options: Readonly<Record<string, unknown>>;
}

/** The effective configuration, validated; times in milliseconds, paths absolute. */
export interface Config {
  readonly checkIntervalMs: number;
  readonly checkIntervalMinMs: number;
  readonly checkDelayMs: number;
  /** 0: check-delay is never ended early. */
  readonly quietPeriodMs: number;
  readonly minOpenConnections: number;
  readonly servePort: number;
  readonly serveAddress: string;
  readonly drainTimeoutMs: number;
  /** Undefined: no one has said how long the platform waits before SIGKILL. */
  readonly gracePeriodMs: number | undefined;
  readonly drainUntil: 'connections' | 'requests';
  /** What a drain of the host closes first. */
  readonly drainListeners: 'all' | 'inbound';
  /** Stat names of listeners, or globs with `*` and `?`. */
  readonly ignoreListeners: readonly string[];
  /** As it was when the configuration was loaded; see `createTokenSource`. */
  readonly shutdownToken: string | undefined;
  /** Where the token came from, unless it was set itself. */
  readonly shutdownTokenFile: string | undefined;
  readonly envoyBin: string | undefined;
  readonly envoyConfig: string;
  readonly envoyArgs: readonly string[];
  readonly envoyDrainTimeMs: number;
  /** 0: `/healthz` never fails for a lost Envoy. */
  readonly envoyLostAfterMs: number;
  /** 0: an Envoy that hangs is never ended. */
  readonly envoyStuckAfterMs: number;
  readonly orphanedDrain: 'report' | 'resume' | 'shutdown';
  /** Set only for an Envoy that pm2-envoy did not start. */
  readonly adminAddress: AdminAddress | undefined;
  /** Undefined: the first usable one of the default places. */
  readonly runDir: string | undefined;
  readonly plugins: readonly PluginEntry[];
  readonly logLevel: string;
  readonly logFormat: string;
}
