import { join } from 'node:path';
import { readJson, writeJson } from './files.js';
import type { ProcessIdentity } from './process-identity.js';
import { isAlive, ownIdentity } from './process-identity.js';

/** Where a running manager serves, for the command line (serve-port may be 0) and for its successor. */
export interface ManagerEndpoint {
  process: ProcessIdentity;
  address: string;
  port: number;
}

/** Records where this manager serves. */
export function writeEndpoint(runDir: string, at: { address: string; port: number }): void {
  writeJson(fileOf(runDir), { process: ownIdentity(), ...at });
}

/** The manager that runs now, if one has written itself down. */
export function readEndpoint(runDir: string): ManagerEndpoint | undefined {
  const json = readJson(fileOf(runDir)) as Partial<ManagerEndpoint> | undefined;
  const { process, address, port } = json ?? {};
  if (!process || typeof address !== 'string' || typeof port !== 'number') return undefined;
  return isAlive(process) ? { process, address, port } : undefined;
}

function fileOf(runDir: string): string {
  return join(runDir, 'manager.json');
}
