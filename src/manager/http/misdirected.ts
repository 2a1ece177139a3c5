import type { RequestHandler } from 'express';
import { HOST_HEADER, hostNames } from '../../host/instance.js';
import { sendError } from './answers.js';

/**
 * Refuses, with 421, what a command line means for another host: the manager of another project may serve
 * where its own would. A caller that names no host means this one.
 *
 * @param adminAddress as it is shown, if pm2-envoy did not start Envoy
 */
export function refuseMisdirected(
  runDir: string | undefined,
  adminAddress: string | undefined,
): RequestHandler {
  return (request, response, next) => {
    const named = request.get(HOST_HEADER);
    if (named === undefined || runDir === undefined) return next();
    if (hostNames(runDir, adminAddress).includes(named)) return next();
    const whose = adminAddress ?? `the Envoy of the run directory ${runDir}`;
    sendError(response, 421, {
      code: 'another-host',
      message: `it drains ${whose}; give each project a serve-port of its own`,
    });
  };
}
