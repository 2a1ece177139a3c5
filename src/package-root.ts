import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Folder of pm2-envoy's own package.json: src/ and dist/ both lie directly below it. */
export const PACKAGE_ROOT: string = fileURLToPath(new URL('..', import.meta.url));

/** pm2-envoy's own version. */
export function packageVersion(): string {
  const manifest: unknown = JSON.parse(
    readFileSync(new URL('../package.json', import.meta.url), 'utf8'),
  );
  return String((manifest as { version: unknown }).version);
}
