// Checks what npm installs: node scripts/audit.js (npm run audit). Offline, that the lock file pins every
// package by hash and takes it from the registry; then npm's own list of known holes, where the registry
// has one.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const ROOT = new URL('..', import.meta.url);
const REGISTRY = 'https://registry.npmjs.org/';
/**
 * Packages that may run a script of their own when they are installed. Both only look whether their binary for
 * this platform, a package of its own, is there; without the script they work as well.
 */
const INSTALL_SCRIPTS = ['node_modules/esbuild', 'node_modules/koffi'];

/** What is wrong with a lock file, one line each. */
export function lockProblems(lock, manifest) {
  const { '': root, ...packages } = lock.packages;
  const all = (of) => ({
    ...of?.dependencies,
    ...of?.optionalDependencies,
    ...of?.devDependencies,
  });
  const wanted = all(manifest);
  const locked = all(root);
  return [
    ...Object.entries(wanted).flatMap(([name, range]) => [
      ...(isRange(range) ? [] : [`${name}: ${range} is no version of the registry`]),
      ...(locked[name] === range ? [] : [`${name}: the lock file has another range`]),
    ]),
    ...Object.entries(packages).flatMap(([path, entry]) =>
      entryProblems(path, entry).map((problem) => `${path}: ${problem}`),
    ),
  ];
}

/** What npm says of known holes: their number by severity, or why it does not say. */
export function readAudit(output) {
  try {
    const report = JSON.parse(output);
    const counts = report.metadata?.vulnerabilities;
    return counts ? { counts } : { silent: report.message ?? report.error?.summary ?? 'no report' };
  } catch {
    return { silent: 'it said nothing that can be read' };
  }
}

function entryProblems(path, { link, version, resolved, integrity, hasInstallScript }) {
  return [
    ...(link ? ['it is a link'] : []),
    ...(/^\d+\.\d+\.\d+/.test(version ?? '') ? [] : ['it has no version']),
    ...(/^sha512-[\w+/]{86}==$/.test(integrity ?? '') ? [] : ['it has no sha512']),
    ...(resolved === undefined || resolved.startsWith(REGISTRY) ? [] : [`it is from ${resolved}`]),
    ...(hasInstallScript && !INSTALL_SCRIPTS.includes(path) ? ['it runs an install script'] : []),
  ];
}

/** `^1.2.3`, `1.2.3`, and nothing that npm would fetch from elsewhere. */
function isRange(range) {
  return /^[~^]?\d+\.\d+\.\d+$/.test(range);
}

function audit() {
  const npm = spawnSync('npm', ['audit', '--omit=dev', '--json'], {
    cwd: fileURLToPath(ROOT),
    encoding: 'utf8',
    timeout: 120_000,
  });
  const { counts, silent } = readAudit(npm.stdout);
  if (silent) console.log(`known holes: not asked, as the registry does not tell: ${silent}`);
  else console.log(`known holes: ${JSON.stringify(counts)}`);
  return (counts?.high ?? 0) + (counts?.critical ?? 0) === 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const read = (name) => JSON.parse(readFileSync(new URL(name, ROOT), 'utf8'));
  const lock = read('package-lock.json');
  const problems = lockProblems(lock, read('package.json'));
  for (const problem of problems) console.error(problem);
  console.log(
    `lock file: ${Object.keys(lock.packages).length - 1} packages, ${problems.length} problems`,
  );
  if (problems.length > 0 || !audit()) process.exitCode = 1;
}
