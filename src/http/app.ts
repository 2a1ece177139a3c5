import express, { type Express, type Request, type RequestHandler, type Response } from 'express';
import helmet from 'helmet';
import type { Config } from '../config/config.js';
import { createTokenSource } from '../config/token.js';
import type { HostDrain } from '../drain/host-drain.js';
import type { DrainOutcome, DrainResult } from '../drain/state.js';
import { unreachable } from '../errors.js';
import type { Log } from '../log.js';
import type { Health } from '../manager/health.js';
import type { Status } from '../manager/status.js';
import { failed, methodNotAllowed, sendError } from './answers.js';
import { createLimits, dropBody, type Limits, limitHeaders, limitWaiters } from './limits.js';
import { createTrust } from './trust.js';

/** What the endpoints are made of. */
export interface AppParts {
  config: Pick<Config, 'shutdownToken' | 'shutdownTokenFile'>;
  hostDrain: HostDrain;
  health: Health;
  readStatus(): Promise<Status>;
  log: Log;
  limits?: Limits;
}

/** Creates the manager's endpoints (contract 4). */
export function createApp(parts: AppParts): Express {
  const { config, hostDrain, health, readStatus, log, limits = createLimits() } = parts;
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.use(securityHeaders());
  app.use((_request, response, next) => {
    response.set('cache-control', 'no-store');
    next();
  });
  app.use(limitHeaders(limits), dropBody(limits));
  const trusted = createTrust({ readToken: createTokenSource(config, log), log });
  const waiter = limitWaiters(limits);
  const shutdown = async (_request: Request, response: Response): Promise<void> => {
    const result = await hostDrain.drain();
    // A caller whose body never ended has been refused in the meantime.
    if (response.headersSent) return;
    response.status(statusOf(result.outcome)).json(result);
  };

  const resume = async (_request: Request, response: Response): Promise<void> => {
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
  };

  app
    .route('/healthz')
    .get((_request, response) => {
      const reason = health.unhealthy();
      if (reason === undefined) response.type('text/plain').send('ok\n');
      else sendError(response, 503, { code: 'envoy-lost', message: reason });
    })
    .all(methodNotAllowed('GET, HEAD'));
  app
    .route('/readyz')
    .get(async (_request, response) => {
      const reason = await health.unready();
      if (reason === undefined) response.type('text/plain').send('ready\n');
      else sendError(response, 503, reason);
    })
    .all(methodNotAllowed('GET, HEAD'));
  app
    .route('/shutdown')
    // Express answers HEAD with the GET handler: looking must not drain.
    .head(methodNotAllowed('GET, POST, DELETE'))
    .get(trusted.toChange, waiter, shutdown)
    .post(trusted.toChange, waiter, shutdown)
    .delete(trusted.toChange, resume)
    .all(methodNotAllowed('GET, POST, DELETE'));
  app
    .route('/status')
    .get(trusted.toLook, async (_request, response) => {
      response.json(await readStatus());
    })
    .all(methodNotAllowed('GET, HEAD'));

  app.use((request, response) => {
    sendError(response, 404, {
      code: 'not-found',
      message: `there is no ${request.path}; there are /healthz, /readyz, /shutdown and /status`,
    });
  });
  app.use(failed(log));
  return app;
}

/** Pages and data of ours are for nobody's frame, script or cache; HTTPS is for whoever is in front. */
function securityHeaders(): RequestHandler {
  return helmet({
    contentSecurityPolicy: {
      useDefaults: false,
      directives: { defaultSrc: ["'none'"], baseUri: ["'none'"], frameAncestors: ["'none'"] },
    },
    frameguard: { action: 'deny' },
    hsts: false,
  });
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
