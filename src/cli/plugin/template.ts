import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { installedFrom, PACKAGE_ROOT, packageVersion } from '../../package-root.js';

/** What is wrong with a plugin's name, which is that of its folder too; undefined: nothing. */
export function nameFault(name: string): string | undefined {
  if (!/^[a-z][a-z0-9-]*$/.test(name)) {
    return 'a name begins with a small letter, and has small letters, digits and dashes';
  }
  return existsSync(name) ? 'there is such a folder or file already' : undefined;
}

/** Writes the template into a new folder of that name; gives what has to be typed to run its test. */
export function writeTemplate(name: string): string[] {
  mkdirSync(name);
  const write = (file: string, text: string): void => writeFileSync(join(name, file), text);
  for (const file of ['index.js', 'test.js']) {
    const text = readFileSync(join(PACKAGE_ROOT, 'assets/plugin', file), 'utf8');
    write(file, text.replaceAll('my-plugin', name).replaceAll('MyPlugin', classOf(name)));
  }
  write('package.json', `${JSON.stringify(manifestOf(name), undefined, 2)}\n`);
  const commands = [`cd ${name}`];
  if (!installedFrom(resolve(name))) commands.push(`npm install --no-save ${PACKAGE_ROOT}`);
  return [...commands, 'npm test'];
}

function classOf(name: string): string {
  const words = name.split('-').map((word) => word.charAt(0).toUpperCase() + word.slice(1));
  return `${words.join('').replace(/Plugin$/, '')}Plugin`;
}

function manifestOf(name: string): object {
  return {
    name,
    version: '0.1.0',
    type: 'module',
    exports: './index.js',
    keywords: ['pm2-envoy-plugin'],
    scripts: { test: 'node --test test.js' },
    peerDependencies: { 'pm2-envoy': `^${packageVersion()}` },
  };
}
