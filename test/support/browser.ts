import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Browser, chromium } from 'playwright-core';

/** The name of someone else's site; the test's browser finds it on this host. */
export const ATTACKER = 'attacker.example';

const ARGUMENTS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  `--host-resolver-rules=MAP ${ATTACKER} 127.0.0.1`,
];

/** Starts the system's Chromium; there is no going without. */
export async function startBrowser(): Promise<Browser> {
  const executablePath = process.env['CHROMIUM_BIN'] ?? '/usr/bin/chromium';
  return await chromium
    .launch({ executablePath, args: ARGUMENTS, timeout: 60_000 })
    .catch((cause: unknown) => {
      throw new Error(
        `Chromium can't be started (${executablePath}): install Debian's package chromium, or set CHROMIUM_BIN`,
        { cause },
      );
    });
}

/** Someone else's site: `/` is a page, `/to?URL` redirects there. */
export async function startSite(): Promise<{ port: number; close(): void }> {
  const server = createServer((request, response) => {
    const [, to] = /^\/to\?(.*)$/.exec(request.url ?? '') ?? [];
    if (to !== undefined) response.writeHead(302, { location: decodeURIComponent(to) }).end();
    else response.setHeader('content-type', 'text/html').end('<!doctype html><body>a page</body>');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
