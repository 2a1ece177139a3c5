import type { Request, Response } from 'express';
import type { HostDrain } from '../../drain/host-drain.js';
import {
  CALLER_HEADER,
  type DrainOrigin,
  type DrainOutcome,
  describeTooLate,
  type ResumeResult,
} from '../../drain/state.js';
import { unreachable } from '../../errors.js';
import type { HttpError } from './answers.js';

/** What `/shutdown` does for each method. */
export interface ShutdownHandlers {
  /** Starts or joins the drain, and answers at its end. */
  drain(request: Request, response: Response): Promise<void>;
  /** Cancels the drain. */
  resume(request: Request, response: Response): Promise<void>;
}

/** Creates the handlers of `/shutdown`. */
export function createShutdownHandlers(hostDrain: HostDrain): ShutdownHandlers {
  return {
    drain: async (request, response) => {
      const result = await hostDrain.drain(originOf(request));
      // A caller whose body never ended has been refused in the meantime.
      if (response.headersSent) return;
      response.status(statusOf(result.outcome)).json(result);
    },
    resume: async (_request, response) => {
      const { status, body } = answerResume(await hostDrain.resume());
      response.status(status).json(body);
    },
  };
}

/** Who asks: the command line says so itself, for people only. */
function originOf(request: Request): DrainOrigin {
  const caller = String(request.headers[CALLER_HEADER] ?? '');
  if (caller === 'stop') return { kind: 'stop' };
  const user = /^cli ([\w.@-]{1,64})$/.exec(caller)?.[1];
  if (user !== undefined) return { kind: 'cli', detail: user };
  const from = request.socket.remoteAddress?.replace(/^::ffff:/, '');
  return from === undefined ? { kind: 'http' } : { kind: 'http', detail: from };
}

/** The answer of `DELETE /shutdown`; pm2's action `resume` has the same body. */
export function answerResume(result: ResumeResult): { status: number; body: object } {
  switch (result.kind) {
    case 'resumed':
      return { status: 200, body: { resumed: true, drain: result.drain } };
    case 'nothing':
      return { status: 200, body: { resumed: false, drain: null } };
    case 'too-late':
      return errorOf(409, { code: 'not-resumable', message: describeTooLate(result.reason) });
    case 'unreachable':
      return errorOf(502, { code: 'admin-failed', message: result.reason });
    default:
      return unreachable(result);
  }
}

function errorOf(status: number, error: HttpError): { status: number; body: object } {
  return { status, body: { error } };
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
