import type { Request, Response } from 'express';
import { type HttpError, sendError } from './answers.js';

/** Answers of the two health endpoints: undefined is well, else the reason. */
export interface Health {
  /** Why the manager should be restarted: Envoy has been lost for longer than `envoy-lost-after`. */
  unhealthy(): string | undefined;
  /** Why no traffic should come here: a drain, or an Envoy that is not LIVE. */
  unready(): Promise<HttpError | undefined>;
}

/** What the two probes answer. */
export interface HealthHandlers {
  healthz(request: Request, response: Response): void;
  readyz(request: Request, response: Response): Promise<void>;
}

/** Creates the handlers of `/healthz` and `/readyz`. */
export function createHealthHandlers(health: Health): HealthHandlers {
  return {
    healthz: (_request, response) => {
      const reason = health.unhealthy();
      if (reason === undefined) response.type('text/plain').send('ok\n');
      else sendError(response, 503, { code: 'envoy-lost', message: reason });
    },
    readyz: async (_request, response) => {
      const reason = await health.unready();
      if (reason === undefined) response.type('text/plain').send('ready\n');
      else sendError(response, 503, reason);
    },
  };
}
