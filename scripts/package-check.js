// Looks at the package as its users get it: npm run package:check, after a build. publint reads what package.json
// promises, arethetypeswrong whether each way to import it finds the types that belong to what is loaded.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
/**
 * Not looked at: TypeScript's resolution of before 2020, which does not read `exports`, and Node 20.19 has no part in.
 */
const NOT_SUPPORTED = 'node10';
/** A CommonJS file gets ES modules: Node 20.19 and later require() them. */
const MEANT = 'CJSResolvesToESM';

/** What is wrong with a packed package, one line each. */
export async function packageProblems(tarball) {
  const data = readFileSync(tarball);
  return [...(await lint(data)), ...(await typeProblems(data))];
}

/** Packs this package, as it is built, into the folder. */
export function pack(folder) {
  const words = ['pack', '--json', '--ignore-scripts', '--pack-destination', folder];
  const packed = JSON.parse(execFileSync('npm', words, { cwd: ROOT, encoding: 'utf8' }));
  const [{ filename }] = Object.values(packed).flat();
  return join(folder, filename);
}

/** The problems of this package as it is built. */
export async function ownProblems() {
  const folder = mkdtempSync(join(tmpdir(), 'pe-'));
  try {
    return await packageProblems(pack(folder));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function lint(data) {
  const tarball = data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
  const { messages, pkg } = await publint({ pack: { tarball }, strict: true });
  return messages.map((message) => `publint: ${formatMessage(message, pkg, { color: false })}`);
}

async function typeProblems(data) {
  const { types, problems = [] } = await checkPackage(createPackageFromTarballData(data));
  if (!types) return ['arethetypeswrong: it has no types'];
  return problems
    .filter(({ kind, resolutionKind }) => kind !== MEANT && resolutionKind !== NOT_SUPPORTED)
    .map(({ kind, ...where }) => `arethetypeswrong: ${kind} ${JSON.stringify(where)}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const problems = await ownProblems();
  for (const problem of problems) console.error(problem);
  if (problems.length > 0) process.exitCode = 1;
}
