import type { NextFunction, Request, RequestHandler, Response } from 'express';
import type { ErrorCode } from '../../errors.js';
import type { Log } from '../../log.js';

/** Why a request was not answered with what it asked for; one code is one row of docs/errors.md. */
export type HttpErrorCode =
  | 'refused'
  | 'not-found'
  | 'method-not-allowed'
  | 'bad-request'
  | 'too-many-callers'
  | 'too-many-watchers'
  | 'internal'
  | 'envoy-lost'
  | 'draining'
  | 'drained'
  | 'envoy-gone'
  | 'not-live'
  | 'no-listeners'
  | 'listeners-closed'
  | 'orphaned-drain'
  | 'not-resumable'
  | 'another-host';

/** The body of an error. */
export interface HttpError {
  code: HttpErrorCode | ErrorCode;
  message: string;
}

/** Answers with an error in the one form that all errors over HTTP have. */
export function sendError(response: Response, status: number, error: HttpError): void {
  response.status(status).json({ error });
}

/** Answers 405 with the methods that are allowed. */
export function methodNotAllowed(allow: string): RequestHandler {
  return (request, response) => {
    response.set('allow', allow);
    const message = `${request.method} is not allowed on ${request.path}; allowed: ${allow}`;
    sendError(response, 405, { code: 'method-not-allowed', message });
  };
}

/** The last handler: what a handler before it threw becomes 500, and a request that can't be read 4xx. */
export function failed(log: Log) {
  // Express knows an error handler by its four parameters.
  return (error: unknown, request: Request, response: Response, _next: NextFunction): void => {
    if (response.headersSent) {
      // It was refused before it was answered, or its answer broke off. Express would print a stack.
      request.socket.destroy();
      return;
    }
    const status = Number((error as { status?: unknown } | null)?.status);
    if (status >= 400 && status < 500) {
      sendError(response, status, { code: 'bad-request', message: 'the request can’t be read' });
      return;
    }
    log.error({ err: error, path: request.path }, 'a request failed');
    sendError(response, 500, {
      code: 'internal',
      message: 'this is a bug in pm2-envoy; its log says more',
    });
  };
}
