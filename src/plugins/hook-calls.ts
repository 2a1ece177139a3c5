import { readOnlyProgress } from '../drain/run.js';
import { messageOf } from '../errors.js';
import type { Log } from '../log.js';
import type { HookContext, HostCall } from './api/types.js';
import { HOOK_TIMEOUT_MS, type RegisteredHook } from './registry.js';

/** When a hook runs. */
export interface HookCall {
  /** `before:shutdown:close` */
  name: string;
  command: string;
  event: string;
  call: HostCall;
}

/** Runs hooks, each within its time limit. */
export interface HookCalls {
  /** To its end; rejects when it fails. */
  run(hook: RegisteredHook, at: HookCall): Promise<void>;
  /**
   * Beside a command that must not fail or wait for a plugin. Resolves to false when what pm2-envoy does itself
   * at this event has failed.
   */
  runBeside(hook: RegisteredHook, at: HookCall): Promise<boolean>;
  /** Failures so far, by the hook's name; of those beside a command. */
  readonly failures: ReadonlyMap<string, number>;
  /** Resolves once none is under way, or the limit of hooks is over. */
  settled(): Promise<void>;
}

/** Creates the calls of one process. */
export function createHookCalls(by: { readonly log: Log }): HookCalls {
  const failures = new Map<string, number>();
  const underWay = new Set<Promise<void>>();
  const run: HookCalls['run'] = (hook, at) => runHook(hook, at, by.log);
  return {
    run,
    failures,
    runBeside: async (hook, at) => {
      let hasFailed = false;
      const running = run(hook, at).catch((error: unknown) => {
        hasFailed = true;
        failures.set(at.name, (failures.get(at.name) ?? 0) + 1);
        by.log.error({ hook: at.name, plugin: hook.plugin }, messageOf(error));
      });
      // What pm2-envoy does itself is waited for right here, and in its own drain only.
      if (!hook.builtIn) {
        underWay.add(running);
        void running.finally(() => underWay.delete(running));
      }
      if (hook.builtIn || isWaitedFor(hook, at)) await running;
      return !(hook.builtIn && hasFailed);
    },
    settled: async () => {
      let timer: NodeJS.Timeout | undefined;
      const limit = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, HOOK_TIMEOUT_MS);
      });
      await Promise.race([Promise.all(underWay), limit]);
      clearTimeout(timer);
    },
  };
}

async function runHook(hook: RegisteredHook, at: HookCall, log: Log): Promise<void> {
  const { limitMs, why } = limitOf(hook, at);
  const abort = new AbortController();
  const context: HookContext = {
    command: at.command,
    event: at.event,
    invocation: at.call.invocation ?? { args: [], options: {} },
    // Only what pm2-envoy does itself gets the steps.
    drain: at.call.drain && (hook.builtIn ? at.call.drain : readOnlyProgress(at.call.drain)),
    log,
    signal: abort.signal,
  };
  let timer: NodeJS.Timeout | undefined;
  const overdue = new Promise<never>((_, reject) => {
    if (limitMs === undefined) return;
    timer = setTimeout(() => {
      abort.abort();
      reject(
        new Error(
          `hook ${at.name} of plugin ${hook.plugin} did not end within ${limitMs} ms${why}`,
        ),
      );
    }, limitMs);
  });
  try {
    await Promise.race([(async () => hook.run(context))(), overdue]);
  } catch (error) {
    if (hook.builtIn || abort.signal.aborted) throw error;
    const message = `hook ${at.name} of plugin ${hook.plugin} failed: ${messageOf(error)}`;
    throw new Error(message, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

function isWaitedFor(hook: RegisteredHook, { name }: HookCall): boolean {
  return hook.required === true && name.startsWith('before:');
}

/** Undefined: what is built in is bounded by itself. What a drain waits for must not outlast it. */
function limitOf(hook: RegisteredHook, at: HookCall): { limitMs: number | undefined; why: string } {
  if (hook.builtIn) return { limitMs: undefined, why: '' };
  const limitMs = hook.timeoutMs ?? HOOK_TIMEOUT_MS;
  const leftMs = isWaitedFor(hook, at) ? at.call.drain?.timeLeftMs() : undefined;
  if (leftMs === undefined || leftMs >= limitMs) return { limitMs, why: '' };
  return { limitMs: Math.ceil(leftMs), why: ', the rest of the drain’s time' };
}
