import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A folder for one test, with a short path: unix sockets lie in it. */
export function makeFolder(): { path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'pe-'));
  // A process that is just being killed may still write there.
  const how = { recursive: true, force: true, maxRetries: 10 };
  return { path, remove: () => rmSync(path, how) };
}
