import type { RequestHandler } from 'express';
import type { Scrape } from '../metrics/scrape.js';

/** Creates the handler of `/metrics`. */
export function createMetricsHandler(scrape: () => Promise<Scrape>): RequestHandler {
  return async (_request, response) => {
    const { contentType, text } = await scrape();
    response.set('content-type', contentType).send(text);
  };
}
