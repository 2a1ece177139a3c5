// What `npm ci` and `npm pack` run here: the build. npm also runs it when this folder is installed into a
// project of theirs, which must not take away what may be running from here.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');
const prefix = process.env.npm_config_local_prefix;
const isElsewhere = prefix !== undefined && prefix !== root;
if (!isElsewhere || !existsSync(`${root}/dist/index.js`)) {
  const { status } = spawnSync('npm', ['run', 'build'], { cwd: root, stdio: 'inherit' });
  process.exitCode = status ?? 1;
}
