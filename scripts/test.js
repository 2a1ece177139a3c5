// Runs test suites: node scripts/test.js unit property integration e2e [FILE …] [--grep PATTERN] [--watch]
// With files, only those run. Suites that need an Envoy get one: ENVOY_BIN if set, else the pinned one, fetched
// once. There is no skipping: without an Envoy they fail.
import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { endLeftovers } from './leftovers.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const QUICK = ['unit', 'property'];
/** These take the whole machine. */
const LONG = ['soak', 'deploy', 'pm2'];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { grep: { type: 'string', short: 'g' }, watch: { type: 'boolean' } },
});
const given = positionals.filter((name) => name.endsWith('.ts'));
for (const file of given) if (!existsSync(`${root}${file}`)) throw new Error(`there is no ${file}`);
const files = given.length > 0 ? given : positionals.flatMap(filesOf);
const isIn = (suites) => (file) => suites.some((suite) => file.startsWith(`test/${suite}/`));
const isQuick = isIn(QUICK);
const isLong = isIn(LONG);
const takesMinutes = isIn([...LONG, 'outside']);

const env = { ...process.env };
// Settings of the caller's own must not leak into what is tested.
for (const name of Object.keys(env)) if (name.startsWith('PM2_ENVOY_')) delete env[name];
if (!files.every(isQuick)) {
  env.ENVOY_BIN ||= install('1.40.0');
  env.OLDER_ENVOY_BIN ||= install('1.39.3');
  env.OLDEST_ENVOY_BIN ||= install('1.36.4');
}

// What tests start knows its run by this folder, and is ended with it.
const folder = mkdtempSync(join(tmpdir(), 'pe-'));
// Some tests run programs as another user.
chmodSync(folder, 0o755);
env.TMPDIR = folder;
const end = () => {
  const left = endLeftovers(folder);
  if (left.length > 0) console.error(`tests have left these behind:\n${left.join('\n')}`);
  rmSync(folder, { recursive: true, force: true });
};

let child;
let isInterrupted = false;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    isInterrupted = true;
    child?.kill(signal);
  });
}
// The quick ones first: they find most faults in seconds. What keeps every core busy, or counts what a busy
// Envoy loses, runs by itself, after the rest.
const isLoad = (file) => isLong(file) || (!isQuick(file) && /(under-load|traffic)/.test(file));
const rounds = [
  [files.filter(isQuick), 3],
  [files.filter((file) => !isQuick(file) && !isLoad(file)), 3],
  [files.filter(isLoad), 1],
];
const codes = [];
try {
  for (const [some, concurrency] of rounds) codes.push(await run(some, concurrency));
  process.exitCode = codes.find((code) => code !== 0) ?? 0;
} finally {
  end();
}

function filesOf(suite) {
  if (!existsSync(`${root}test/${suite}`)) throw new Error(`there is no suite or file ${suite}`);
  return readdirSync(`${root}test/${suite}`)
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => `test/${suite}/${name}`);
}

function install(version) {
  return execFileSync(process.execPath, ['bin/pm2-envoy.js', 'envoy', 'install', version], {
    cwd: root,
    encoding: 'utf8',
  }).trim();
}

function run(some, concurrency) {
  if (some.length === 0 || isInterrupted) return isInterrupted ? 130 : 0;
  const limitMinutes = some.some(takesMinutes) ? 15 : 5;
  const options = [
    ['--import', 'tsx', '--test', '--test-reporter', 'spec'],
    // A test that fails may leave a server open: its file must end all the same. (--test-force-exit would
    // do, but loses results on Node 24.)
    ['--test-timeout', String(limitMinutes * 60_000), '--test-concurrency', String(concurrency)],
    values.grep === undefined ? [] : ['--test-name-pattern', values.grep],
    values.watch ? ['--watch'] : [],
  ].flat();
  child = spawn(process.execPath, [...options, ...some], { cwd: root, env, stdio: 'inherit' });
  return new Promise((resolve) => {
    child.once('exit', (code) => resolve(code ?? 1));
  });
}
