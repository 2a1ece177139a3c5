import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A folder for one test, with a short path: unix sockets lie in it. */
export function makeFolder(): { path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'pe-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}
