import type { Config } from '../../config/config.js';
import type { DrainCall } from '../../drain/lifecycle.js';
import type { DrainRun } from '../../drain/run.js';
import type { Log } from '../../log.js';

/** A command of the command line: what it is called with, and the lifecycle events it goes through. */
export interface CommandSpec {
  /** One line for `--help`. */
  usage: string;
  /**
   * Events, in order; hooks are named `before:COMMAND:EVENT`, `COMMAND:EVENT` and
   * `after:COMMAND:EVENT`.
   */
  lifecycleEvents: readonly string[];
  /** Positional arguments in commander's notation, such as `[version]`. */
  arguments?: string;
  /** Options: flags in commander's notation, such as `--watch`, and their usage. */
  options?: Readonly<Record<string, string>>;
  /** Not offered on the command line. */
  internal?: true;
  /**
   * What the command line does before it runs the events: `shutdown` first asks the
   * manager. Resolves to the exit code, or to undefined to run the events.
   */
  main?: CommandMain;
}

/** What a command does on the command line; resolves to the exit code, or to undefined to run its events. */
export type CommandMain = (invocation: Invocation) => Promise<number | undefined>;

/** A command as it was called. */
export interface Invocation {
  /** Positional arguments. */
  readonly args: readonly string[];
  /** Options by their camel-case name. */
  readonly options: Readonly<Record<string, unknown>>;
}

/** The argument of a hook. */
export interface HookContext {
  /** `shutdown` */
  readonly command: string;
  /** `fail-health` */
  readonly event: string;
  readonly invocation: Invocation;
  /** The drain, in the commands `shutdown`, `resume` and `handover`. */
  readonly drain: DrainRun | undefined;
  readonly log: Log;
  /** Aborts when the hook's time limit is over. */
  readonly signal: AbortSignal;
}

/** What runs at a lifecycle event. */
export type HookFunction = (context: HookContext) => void | Promise<void>;

/** A hook with settings. */
export interface HookSpec {
  run: HookFunction;
  /** Time limit in milliseconds; 10,000 if left out. */
  timeoutMs?: number;
  /** Whether a drain waits for it, up to its time limit; only allowed for `before:` hooks. */
  required?: boolean;
}

/** A plugin instance. */
export interface Plugin {
  commands?: Readonly<Record<string, CommandSpec>>;
  hooks?: Readonly<Record<string, HookFunction | HookSpec>>;
}

/** A plugin class, as in the Serverless framework: its constructor gets the host and the plugin's options. */
export interface PluginClass {
  new (host: PluginHost, options: Readonly<Record<string, unknown>>): Plugin;
  /** What its options may be: they are checked against it before the constructor gets them. */
  readonly schema?: PluginSchema;
}

/** The options of a plugin by their names, in the words of pm2-envoy's own configuration. */
export type PluginSchema = Readonly<Record<string, OptionSpec>>;

/** One option of a plugin. */
export interface OptionSpec {
  format: OptionFormat;
  /** Where it is left out; null: it is not set then. Without a default it has to be given. */
  default?: unknown;
  /** One line for `pm2-envoy plugin list`. */
  doc: string;
  /** Its value is never shown. */
  secret?: true;
}

/**
 * What an option may be: one of these texts, or of a kind. `duration` and `positive duration` come as milliseconds, `path`
 * comes absolute. In a `text`, `url`, `path` or `list`, `${NAME}` stands for an environment variable.
 */
export type OptionFormat =
  | readonly string[]
  | 'text'
  | 'url'
  | 'flag'
  | 'list'
  | 'count'
  | 'port'
  | 'path'
  | 'duration'
  | 'positive duration';

/** What runs the plugins. */
export interface PluginHost {
  readonly config: Config;
  readonly log: Log;
  /** Environment variables of the app for which the plugins run, also if another process checks them. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Every command of every plugin, by name; `envoy:install` is typed `envoy install`. */
  readonly commands: ReadonlyMap<string, CommandSpec>;
  /**
   * Takes a command through its lifecycle events, from `from` on, with all hooks.
   *
   * In a drain, and if the call `goesOn`, a hook of a user's plugin never blocks: it is started, and its
   * failure is logged and counted; the call waits only for a `required` hook, at most until its time limit. In
   * any other command, hooks run one after another, and the first failure ends the command.
   */
  run(command: string, call?: HostCall): Promise<void>;
  /** Resolves when all running hooks have ended, at the latest after 10 s. */
  settled(): Promise<void>;
  /** Names of the hooks of all plugins. */
  readonly hookNames: readonly string[];
  /** How many hooks failed or hung, by hook name. */
  readonly failures: ReadonlyMap<string, number>;
}

/** One call of {@link PluginHost.run}. */
export interface HostCall extends Partial<DrainCall> {
  invocation?: Invocation;
  /** Continues after failures of its hooks, as in a drain; then it never rejects. */
  goesOn?: true;
}
