import type { Request, Response } from 'express';
import type { HostDrain } from '../drain/host-drain.js';
import type { DrainOutcome, DrainResult } from '../drain/state.js';
import { unreachable } from '../errors.js';
import { sendError } from './answers.js';

/** What `/shutdown` does for each method. */
export interface ShutdownHandlers {
  /** Starts or joins the drain, and answers at its end. */
  drain(request: Request, response: Response): Promise<void>;
  /** Takes the drain back. */
  resume(request: Request, response: Response): Promise<void>;
}

/** Creates the handlers of `/shutdown`. */
export function createShutdownHandlers(hostDrain: HostDrain): ShutdownHandlers {
  return {
    drain: async (_request, response) => {
      const result = await hostDrain.drain();
      // A caller whose body never ended has been refused in the meantime.
      if (response.headersSent) return;
      response.status(statusOf(result.outcome)).json(result);
    },
    resume: async (_request, response) => {
      const result = await hostDrain.resume();
      switch (result.kind) {
        case 'resumed':
          response.json({ resumed: true, drain: result.drain });
          return;
        case 'nothing':
          response.json({ resumed: false, drain: null });
          return;
        case 'too-late': {
          const message = `${result.reason}: it can't be taken back; \`pm2 reload envoy\` brings up a new Envoy`;
          sendError(response, 409, { code: 'not-resumable', message });
          return;
        }
        case 'unreachable':
          sendError(response, 502, { code: 'admin-failed', message: result.reason });
          return;
        default:
          unreachable(result);
      }
    },
  };
}

/** The HTTP status that stands for an outcome. */
export function statusOf(outcome: DrainOutcome): number {
  switch (outcome) {
    case 'drained':
    case 'envoy-gone':
      return 200;
    case 'cancelled':
      return 409;
    case 'admin-unreachable':
      return 502;
    case 'timeout':
      return 504;
    default:
      return unreachable(outcome);
  }
}

/** Whether a body is that of `/shutdown`. */
export function isDrainResult(body: unknown): body is DrainResult {
  return typeof body === 'object' && body !== null && 'outcome' in body && 'durationMs' in body;
}
