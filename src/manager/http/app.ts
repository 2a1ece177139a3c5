import express, { type Express, type RequestHandler } from 'express';
import helmet from 'helmet';
import { formatAdminAddress } from '../../admin/address.js';
import type { Config } from '../../config/config.js';
import { createTokenSource } from '../../config/token.js';
import type { HostDrain } from '../../drain/host-drain.js';
import type { Log } from '../../log.js';
import type { Status } from '../../status/status.js';
import type { RefusalKind } from './access.js';
import { failed, methodNotAllowed, sendError } from './answers.js';
import type { EventStream } from './events.js';
import { createHealthHandlers, type Health } from './health.js';
import { createLimits, dropBody, type Limits, limitHeaders, limitWaiters } from './limits.js';
import { createMetricsHandler, type Scrape } from './metrics.js';
import { refuseMisdirected } from './misdirected.js';
import type { Page } from './page.js';
import { createShutdownHandlers } from './shutdown.js';
import { createTrust } from './trust.js';

/** What the endpoints are made of. */
export interface AppParts {
  config: Pick<Config, 'shutdownToken' | 'shutdownTokenFile'> &
    Partial<Pick<Config, 'adminAddress'>>;
  /** The run directory: what a command line means for another one is refused. */
  runDir?: string;
  hostDrain: HostDrain;
  health: Health;
  readStatus(): Promise<Status>;
  scrape(): Promise<Scrape>;
  events: Pick<EventStream, 'handler'>;
  page: Page;
  /** Told what each request is refused for. */
  onRefused?: (kind: RefusalKind) => void;
  log: Log;
  limits?: Limits;
}

/** Creates the manager's endpoints (docs/http.md). */
export function createApp(parts: AppParts): Express {
  const { config, hostDrain, health, readStatus, scrape, events, page, log } = parts;
  const { limits = createLimits(), onRefused = () => undefined } = parts;
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.use(securityHeaders(), noStore, limitHeaders(limits), dropBody(limits));
  const trusted = createTrust({ readToken: createTokenSource(config, log), log, onRefused });
  const { healthz, readyz } = createHealthHandlers(health);
  const { drain, resume } = createShutdownHandlers(hostDrain);
  const waiter = limitWaiters(limits);
  const { adminAddress } = config;
  const ours = refuseMisdirected(parts.runDir, adminAddress && formatAdminAddress(adminAddress));
  const only = (methods: string): RequestHandler => methodNotAllowed(methods);

  app.route('/healthz').get(healthz).all(only('GET, HEAD'));
  app.route('/readyz').get(readyz).all(only('GET, HEAD'));
  app
    .route('/shutdown')
    // Express answers HEAD with the GET handler: looking must not drain.
    .head(only('GET, POST, DELETE'))
    .get(trusted.toChange, ours, waiter, drain)
    .post(trusted.toChange, ours, waiter, drain)
    .delete(trusted.toChange, ours, resume)
    .all(only('GET, POST, DELETE'));
  app
    .route('/status')
    .get(trusted.toLook, ours, async (_request, response) => {
      response.json(await readStatus());
    })
    .all(only('GET, HEAD'));
  app.route('/metrics').get(createMetricsHandler(scrape)).all(only('GET, HEAD'));
  app.route('/events').head(only('GET')).get(trusted.toLook, events.handler).all(only('GET'));
  app.route('/').get(trusted.toLook, page.document).all(only('GET, HEAD'));
  app.route('/page/:file').get(trusted.toLook, page.file).all(only('GET, HEAD'));

  app.use((request, response) => {
    sendError(response, 404, {
      code: 'not-found',
      message: `there is no ${request.path}; there are /, /healthz, /readyz, /shutdown, /status, /events and /metrics`,
    });
  });
  app.use(failed(log));
  return app;
}

const noStore: RequestHandler = (_request, response, next) => {
  response.set('cache-control', 'no-store');
  next();
};

/** Our pages and data must not be framed, scripted or cached; HTTPS is the job of a proxy in front. */
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
