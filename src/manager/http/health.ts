import type { Request, Response } from 'express';
import type { Health } from '../health.js';
import { sendError } from './answers.js';

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
