/**
 * The public API of pm2-envoy: the apps for an ecosystem file, and the types for plugins.
 *
 * @packageDocumentation
 */
export type { Config, PluginEntry } from './config/config.js';
export type { DrainRun } from './drain/run.js';
export type { DrainCommand, DrainOutcome, DrainPhase, DrainResult } from './drain/state.js';
export { type ErrorCode, Pm2EnvoyError } from './errors.js';
export type {
  CommandSpec,
  HookContext,
  HookFunction,
  HookSpec,
  Invocation,
  OptionFormat,
  OptionSpec,
  Plugin,
  PluginClass,
  PluginHost,
  PluginSchema,
} from './plugins/api/types.js';
export { type EnvoyAppsOptions, envoyApps, type Pm2App } from './pm2/apps.js';
export { type BackendApp, behindEnvoy, type HeldApp } from './pm2/behind-envoy.js';
export type { Status } from './status/status.js';
