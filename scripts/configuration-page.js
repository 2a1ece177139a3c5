// Writes the tables of docs/configuration.md from the schema: npm run build, then
// node scripts/configuration-page.js. The test `docs` fails when they differ.
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const PAGE = new URL('../docs/configuration.md', import.meta.url);
const PROFILES = ['local', 'container'];

/** The page with its tables rewritten from the schema, the formats and the profile files. */
export function renderPage(page, { schema, formats, profiles }) {
  return replaceBlock(replaceBlock(page, 'keys', keyTable(schema, formats)), 'profiles', profiles);
}

/** The profiles' values, one row a key. */
export function profileTable() {
  const rows = PROFILES.flatMap((name) => {
    const file = new URL(`../config/${name}.json`, import.meta.url);
    return Object.entries(JSON.parse(readFileSync(file, 'utf8'))).map(
      ([key, value]) => `| \`${name}\` | \`${key}\` | \`${textOf(value)}\` |`,
    );
  });
  return ['| profile | key | value |', '|---|---|---|', ...rows].join('\n');
}

function keyTable(schema, formats) {
  const rows = Object.entries(schema).map(([key, { format, default: value, ...spec }]) => {
    const shown = spec.defaultText ?? (value === null ? 'none' : `\`${textOf(value)}\``);
    const doc = spec.secret ? `${spec.doc} Never shown or logged.` : spec.doc;
    const cells = [`\`${key}\``, shown, formats[format].allowed, doc];
    return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  });
  return ['| key | default | allowed | what it is |', '|---|---|---|---|', ...rows].join('\n');
}

function textOf(value) {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function replaceBlock(page, name, text) {
  const block = new RegExp(`(<!-- ${name}: [^>]*-->\n)[\\s\\S]*?(\n<!-- /${name} -->)`);
  if (!block.test(page)) throw new Error(`docs/configuration.md has no block ${name}`);
  return page.replace(block, (_, start, end) => `${start}\n${text}\n${end}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { SCHEMA: schema } = await import('../dist/config/schema.js');
  const { FORMATS: formats } = await import('../dist/config/formats.js');
  const page = readFileSync(PAGE, 'utf8');
  writeFileSync(PAGE, renderPage(page, { schema, formats, profiles: profileTable() }));
}
