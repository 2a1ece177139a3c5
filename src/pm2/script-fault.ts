import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { packageVersion } from '../package-root.js';

/**
 * Why the next start of an app of pm2-envoy's would not run this version: its script is gone, or belongs to another
 * one. pm2 keeps the path that an app was first started with: `pm2 reload FILE` takes over no new one. Undefined:
 * there is nothing wrong.
 */
export function scriptFault(
  app: string,
  script: string,
): { isGone: boolean; message: string; remedy: string } | undefined {
  // Another program of the user's, say a wrapper of their own.
  if (!/[\\/]dist[\\/]apps[\\/](runner|manager|module)\.js$/.test(script)) return undefined;
  const start = `restore that path, for example with a link to the current release; or \`pm2 delete ${app}\`, which drains, and start the ecosystem file again`;
  if (!existsSync(script)) {
    const message = `the app ${app} runs ${script}, which no longer exists`;
    return { isGone: true, message, remedy: start };
  }
  const version = versionAt(dirname(dirname(dirname(script))));
  const own = packageVersion();
  if (version === undefined || version === own) return undefined;
  return {
    isGone: false,
    message: `the app ${app} runs pm2-envoy ${version} (${script}), and this is ${own}`,
    remedy: 'use the command line of that version, or install this one at that path',
  };
}

function versionAt(root: string): string | undefined {
  try {
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    return typeof version === 'string' ? version : undefined;
  } catch {
    return undefined;
  }
}
