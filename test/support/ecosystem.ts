import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const INDEX = pathToFileURL(resolve(import.meta.dirname, '../../dist/index.js')).href;

/**
 * Writes an ecosystem file as a user's own project has it.
 *
 * @param apps JavaScript: the list of apps
 * @returns its path
 */
export function writeEcosystem(folder: string, apps: string): string {
  const file = join(folder, 'ecosystem.config.mjs');
  writeFileSync(
    file,
    `import { behindEnvoy, envoyApps } from '${INDEX}';\nexport const apps = ${apps};\n`,
  );
  return file;
}
