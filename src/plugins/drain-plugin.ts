import type { DrainSteps } from '../drain/run.js';
import { HANDOVER_EVENTS, RESUME_EVENTS, SHUTDOWN_EVENTS, START_EVENTS } from '../drain/state.js';
import type {
  CommandMain,
  CommandSpec,
  HookContext,
  HookFunction,
  Plugin,
  PluginHost,
} from './api/types.js';

/**
 * The plugin that drains: it declares the lifecycle events of `shutdown`, `resume` and `handover`, and does
 * what each event is for. Everything that can start a drain (HTTP, signals, the command line) goes
 * through these events. `start` is there for hooks alone.
 */
export class DrainPlugin implements Plugin {
  readonly commands: Readonly<Record<string, CommandSpec>>;

  /** @param options what the command line does for `shutdown` and `resume` */
  constructor(_host: PluginHost, options: { shutdown?: CommandMain; resume?: CommandMain }) {
    this.commands = {
      shutdown: {
        usage: 'Drain Envoy: fail its health check, close its listeners, wait for its connections',
        lifecycleEvents: SHUTDOWN_EVENTS,
        ...(options.shutdown ? { main: options.shutdown } : {}),
      },
      resume: {
        usage:
          'Cancel a drain before the listeners are closed: Envoy passes its health check again',
        lifecycleEvents: RESUME_EVENTS,
        ...(options.resume ? { main: options.resume } : {}),
      },
      handover: {
        usage: 'Drain an older generation while a newer one keeps the host in service',
        lifecycleEvents: HANDOVER_EVENTS,
        internal: true,
      },
      start: {
        usage: 'A new generation has come into service',
        lifecycleEvents: START_EVENTS,
        internal: true,
      },
    };
  }

  readonly hooks: Readonly<Record<string, HookFunction>> = {
    'shutdown:fail-health': (context) => stepsOf(context)?.failHealth(),
    'shutdown:delay': (context) => stepsOf(context)?.delay(),
    'shutdown:close': (context) => stepsOf(context)?.close(),
    'shutdown:wait': (context) => stepsOf(context)?.wait(),
    'resume:pass-health': (context) => stepsOf(context)?.passHealth(),
    'handover:close': (context) => stepsOf(context)?.close(),
    'handover:wait': (context) => stepsOf(context)?.wait(),
  };
}

/** The host gives them to pm2-envoy's own hooks (hook-calls.ts). */
function stepsOf({ drain }: HookContext): DrainSteps | undefined {
  return drain as DrainSteps | undefined;
}
