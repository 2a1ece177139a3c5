import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { extname, join } from 'node:path';
import type { RequestHandler } from 'express';
import { type Clock, systemClock } from '../../clock.js';
import { PACKAGE_ROOT } from '../../package-root.js';
import type { Journal } from '../../status/journal.js';
import type { StatusReader } from '../../status/status.js';

/** The page at `/` and its files. */
export interface Page {
  document: RequestHandler;
  /** `/page/:file` */
  file: RequestHandler;
}

/** `scripts/bundle.js` makes one script and one style sheet of src/manager/page. */
const FILES: ReadonlyMap<string, string> = new Map([
  ['main.js', join(PACKAGE_ROOT, 'dist/manager/page/main.js')],
  ['page.css', join(PACKAGE_ROOT, 'dist/manager/page/page.css')],
  ['icon.svg', join(PACKAGE_ROOT, 'assets/icon.svg')],
]);

/** All that the page needs is here: it works where nothing else can be reached. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self'",
  "form-action 'none'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join('; ');

/** Creates the handlers; what the page is made of is loaded when it is first asked for. */
export function createPage(parts: {
  status: StatusReader;
  journal: Pick<Journal, 'entries'>;
  host?: string;
  clock?: Clock;
}): Page {
  const { status, journal, host = hostname(), clock = systemClock } = parts;
  const readOnce = createReader();
  return {
    document: async (_request, response) => {
      const { renderDocument, spansOf } = await import('../page/document.js');
      const read = await status.read();
      const nowMs = Date.now();
      // The history is on the monotonic clock, the page on that of the wall.
      const spans = spansOf(status.history(), nowMs - clock.nowMs());
      const snapshot = { host, nowMs, spans, log: journal.entries() };
      response.set('content-security-policy', POLICY);
      response.type('html').send(renderDocument(snapshot, read));
    },
    file: async ({ params }, response, next) => {
      const path = FILES.get(String(params['file']));
      if (path === undefined) next('route');
      else response.type(extname(path)).send(await readOnce(path));
    },
  };
}

/** Keeps what it has read: a page and its script must be of the same version, also after an upgrade. */
function createReader(): (path: string) => Promise<string> {
  const known = new Map<string, Promise<string>>();
  return (path) => {
    const text = known.get(path) ?? readFile(path, 'utf8');
    known.set(path, text);
    text.catch(() => known.delete(path));
    return text;
  };
}
