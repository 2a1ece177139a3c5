import type { RequestHandler } from 'express';
import { type Clock, systemClock } from '../../clock.js';
import type { Log } from '../../log.js';
import { html } from '../page/html.js';
import { checkAccess, type RefusalKind } from './access.js';
import { sendError } from './answers.js';

/** More refusals than this in a minute are only counted: refused callers must not fill the disk. */
const LINES_PER_MINUTE = 100;
const MINUTE_MS = 60_000;

/** The trust rule as middleware. */
export interface Trust {
  /** Passes on who may look; anyone else gets 403. */
  toLook: RequestHandler;
  /** Passes on who may change something; anyone else gets 403. */
  toChange: RequestHandler;
}

/** Creates the middleware; `readToken` is the token as it is now, undefined: there is none. */
export function createTrust(options: {
  readToken(): string | undefined;
  log: Log;
  /** Told of each refusal, those that are no longer logged too. */
  onRefused?: (kind: RefusalKind) => void;
  clock?: Clock;
}): Trust {
  const { readToken, onRefused } = options;
  const logRefusal = createRefusalLog(options);
  const trust = (changes: boolean): RequestHandler => {
    return (request, response, next) => {
      const { headers, method, path } = request;
      const { remoteAddress } = request.socket;
      const token = headers.authorization === undefined ? undefined : readToken();
      const access = checkAccess({ remoteAddress, headers, changes }, token);
      if (access.trusted) {
        next();
        return;
      }
      onRefused?.(access.kind);
      logRefusal({ remoteAddress, path: path.slice(0, 100), method }, access.reason);
      if (path === '/' && headers.accept?.includes('text/html')) {
        const { localPort = 8090 } = request.socket;
        response.status(403).type('html').send(refusalPage(access.reason, localPort));
        return;
      }
      sendError(response, 403, {
        code: 'refused',
        message: `${path} is for this host only, and ${access.reason}: call it on a loopback address, or send the shutdown token as "Authorization: Bearer TOKEN"`,
      });
    };
  };
  return { toLook: trust(false), toChange: trust(true) };
}

/** For a person, who has opened it in a browser. */
function refusalPage(reason: string, port: number): string {
  return String(html`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Refused · pm2-envoy</title>
<h1>Refused</h1>
<p>This page is for the host only, and ${reason}.</p>
<p>On the host, open it at <code>http://127.0.0.1:${port}/</code>. From another machine, forward the port, and open it at
<code>http://127.0.0.1:${port}/</code> here:</p>
<pre>ssh -L ${port}:127.0.0.1:${port} HOST</pre>
<p><code>pm2-envoy status</code> on the host shows the same.</p>
</html>
`);
}

function createRefusalLog({ log, clock = systemClock }: { log: Log; clock?: Clock }) {
  let sinceMs = Number.NEGATIVE_INFINITY;
  let count = 0;
  return (request: object, reason: string): void => {
    if (clock.nowMs() - sinceMs >= MINUTE_MS) {
      if (count > LINES_PER_MINUTE) log.warn(`refused ${count - LINES_PER_MINUTE} more requests`);
      sinceMs = clock.nowMs();
      count = 0;
    }
    count += 1;
    if (count <= LINES_PER_MINUTE) log.warn(request, `refused: ${reason}`);
    if (count === LINES_PER_MINUTE)
      log.warn('more requests are refused: for a minute, they are only counted');
  };
}
