import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { Pm2EnvoyError } from '../../errors.js';

/**
 * Runs pm2's own command line; resolves once it has done what it was asked for.
 *
 * @throws Pm2EnvoyError `pm2-unreachable` with pm2's own words
 */
export type Pm2Command = (...words: readonly string[]) => Promise<void>;

/**
 * The command line of the pm2 that runs this process, so that command and daemon are of one version. A command that is
 * under way goes on when this process ends.
 *
 * @param folder working directory, and where pm2's words are kept
 */
export function createPm2Command(folder: string, home: string): Pm2Command {
  const script = commandScript();
  const { PATH = '', HOME = '' } = process.env;
  const env = { PATH, HOME, PM2_HOME: home, NO_COLOR: '1' };
  return async (...words) => {
    const said = join(folder, 'command.log');
    const output = openSync(said, 'w', 0o600);
    const child = spawn(process.execPath, [script, ...words], {
      cwd: folder,
      env,
      stdio: ['ignore', output, output],
    });
    closeSync(output);
    const [code] = await once(child, 'close');
    if (code === 0) return;
    throw new Pm2EnvoyError(
      'pm2-unreachable',
      `pm2 ${words[0]}: ${errorIn(said) || `exit code ${code}`}`,
    );
  };
}

/** pm2 runs an app in its own lib/ProcessContainerFork.js. */
function commandScript(): string {
  const container = process.mainModule?.filename ?? '';
  if (container.endsWith('/lib/ProcessContainerFork.js')) {
    return join(dirname(dirname(container)), 'bin/pm2');
  }
  return createRequire(import.meta.url).resolve('pm2/bin/pm2');
}

function errorIn(file: string): string {
  const lines = readFileSync(file, 'utf8').split('\n');
  return lines
    .filter((line) => line.includes('[ERROR]'))
    .map((line) => line.replaceAll(/\[PM2\]|\[ERROR\]/g, '').trim())
    .join('; ');
}
