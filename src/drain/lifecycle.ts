import type { DrainSteps } from './run.js';

/** Takes a command through its lifecycle events; the plugins' host is one. */
export interface DrainLifecycle {
  /** Never rejects in a drain. */
  run(command: string, call: DrainCall): Promise<void>;
}

/** The part of a drain's lifecycle that is to run. */
export interface DrainCall {
  drain: DrainSteps;
  /** The event to begin with, when an earlier process has done the others; the first if left out. */
  from?: string;
  /** Told before each event's first hook. */
  onEvent?(event: string): void;
  /** Asked before each event whether to pass over it. */
  skips?(event: string): boolean;
}
