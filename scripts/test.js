// Runs test suites: node scripts/test.js unit property integration e2e
// Suites that need an Envoy get one: ENVOY_BIN if set, else the pinned one, fetched once. There is no
// skipping: without an Envoy they fail.
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const suites = process.argv.slice(2);
const files = suites.flatMap((suite) =>
  readdirSync(`${root}test/${suite}`)
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => `test/${suite}/${name}`),
);
// These take minutes, and the whole machine.
const isLong = suites.includes('soak') || suites.includes('deploy');
if (files.length === 0) throw new Error(`no tests in ${suites.join(', ')}`);

const reporter = ['--test-reporter', 'spec'];
const env = { ...process.env };
// Settings of the caller's own must not leak into what is tested.
for (const name of Object.keys(env)) if (name.startsWith('PM2_ENVOY_')) delete env[name];
if (suites.some((suite) => suite !== 'unit' && suite !== 'property')) {
  const install = (version) =>
    execFileSync(process.execPath, ['bin/pm2-envoy.js', 'envoy', 'install', version], {
      cwd: root,
      encoding: 'utf8',
    }).trim();
  env.ENVOY_BIN ||= install('1.40.0');
  env.OLDER_ENVOY_BIN ||= install('1.39.3');
}

// What keeps every core busy, or counts what a busy Envoy loses, runs by itself, after the rest.
const isLoad = (file) => isLong || /(under-load|traffic)/.test(file);
const codes = [
  run(
    files.filter((file) => !isLoad(file)),
    3,
  ),
  run(files.filter(isLoad), 1),
];
process.exitCode = codes.find((code) => code !== 0) ?? 0;

function run(some, concurrency) {
  if (some.length === 0) return 0;
  const { status } = spawnSync(
    process.execPath,
    // A test that fails may leave a server open: its file must end all the same. (--test-force-exit would
    // do, but loses results on Node 24.)
    [
      '--import',
      'tsx',
      '--test',
      '--test-timeout',
      String((isLong ? 15 : 5) * 60_000),
      ...reporter,
      '--test-concurrency',
      String(concurrency),
      ...some,
    ],
    { cwd: root, env, stdio: 'inherit' },
  );
  return status ?? 1;
}
