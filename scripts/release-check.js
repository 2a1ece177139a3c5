// What a release still lacks: npm run release:check -- v1.2.3, after a build. With --notes before the tag: the
// changelog's section of that version.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Where users of the package find the project. */
const MUST_BE_KNOWN = ['repository', 'bugs', 'homepage', 'author'];

/** What is missing for a release of this tag, one line each. */
export function releaseProblems(tag, manifest, changelog) {
  const problems = MUST_BE_KNOWN.filter((field) => !manifest[field]).map(
    (field) => `package.json has no ${field}: fill it in, see docs/releasing.md`,
  );
  if (tag !== `v${manifest.version}`) {
    problems.push(`the tag is ${tag}, and package.json says ${manifest.version}`);
  }
  if (!notesOf(tag, changelog)) {
    problems.push(`CHANGELOG.md has no section "## [${tag.slice(1)}] - YYYY-MM-DD" with an entry`);
  }
  return problems;
}

/** The section of that version, without its headline; undefined: there is none with a date and an entry. */
export function notesOf(tag, changelog) {
  const section = changelog.split(/^## /m).find((text) => text.startsWith(`[${tag.slice(1)}] - `));
  const [headline = '', ...lines] = section?.split('\n') ?? [];
  const hasEntry = lines.some((line) => line.startsWith('- '));
  return /\] - \d{4}-\d{2}-\d{2}$/.test(headline) && hasEntry ? lines.join('\n').trim() : undefined;
}

async function main([first = '', second = '']) {
  const read = (name) => readFileSync(new URL(`../${name}`, import.meta.url), 'utf8');
  const changelog = read('CHANGELOG.md');
  if (first === '--notes') {
    console.log(notesOf(second, changelog) ?? '');
    return;
  }
  // Not at the top: `--notes` needs no packages.
  const { ownProblems } = await import('./package-check.js');
  const problems = [
    ...releaseProblems(first, JSON.parse(read('package.json')), changelog),
    ...(await ownProblems()),
  ];
  for (const problem of problems) console.error(problem);
  if (problems.length > 0) process.exitCode = 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(process.argv.slice(2));
