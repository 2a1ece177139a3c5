import type { RequestHandler } from 'express';

/** An answer of `/metrics`. */
export interface Scrape {
  contentType: string;
  text: string;
}

/** Creates the handler of `/metrics`. */
export function createMetricsHandler(scrape: () => Promise<Scrape>): RequestHandler {
  return async (_request, response) => {
    const { contentType, text } = await scrape();
    response.set('content-type', contentType).send(text);
  };
}
