import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

/** What of a pod's specification the tests look at. */
export interface PodSpec {
  terminationGracePeriodSeconds?: unknown;
  containers: readonly { env?: readonly Variable[] }[];
}

/** An environment variable of a container. */
export interface Variable {
  name: string;
  value?: string;
}

/** The pages below a folder. */
export function markdownFiles(folder: string): string[] {
  const skipped = ['node_modules', 'dist', 'coverage'];
  return readdirSync(folder, { withFileTypes: true })
    .filter(({ name }) => !name.startsWith('.') && !skipped.includes(name))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return markdownFiles(path);
      return entry.name.endsWith('.md') ? [path] : [];
    });
}

/** The text below a heading, up to the next one of its level or above. */
export function section(page: string, heading: string): string {
  const [, marks = '#', rest = ''] =
    new RegExp(`^(#+) ${heading}$([\\s\\S]*)`, 'm').exec(page) ??
    assert.fail(`no heading ${heading}`);
  return rest.split(new RegExp(`^#{1,${marks.length}} `, 'm'))[0] ?? '';
}

/** Every table with its header. */
export function tablesOf(text: string): { header: string[]; rows: string[][] }[] {
  const tables = [...text.matchAll(/(?:^\|.*\n)+/gm)].map(([table]) => table);
  return tables.map((table) => ({
    header: (table.split('\n')[0] ?? '')
      .split('|')
      .map((cell) => cell.trim())
      .slice(1, -1),
    rows: tableRows(table),
  }));
}

/** The cells of every row of every table, without the headers. */
export function tableRows(text: string): string[][] {
  return text
    .split('\n')
    .filter((line, index, lines) => line.startsWith('|') && !isHeader(line, lines[index + 1]))
    .map((line) =>
      line
        .split(/(?<!\\)\|/)
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

function isHeader(line: string, next: string | undefined): boolean {
  return /^\|[-|: ]+\|$/.test(line) || /^\|[-|: ]+\|$/.test(next ?? '');
}

/** Tables without the padding that the formatter gives them. */
export function unpadded(page: string): string {
  return page.replace(/ {2,}/g, ' ').replace(/\| ?-+ ?(?=\|)/g, '|---');
}

/** The first code block of a language. */
export function block(page: string, language: string): string {
  return blocksOf(page, language)[0] ?? '';
}

/** Every code block of a language. */
export function blocksOf(page: string, language: string): string[] {
  const blocks = page.matchAll(new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\``, 'gm'));
  return [...blocks].map(([, text]) => String(text));
}

/** Links to files and headings, not to other sites. */
export function linksIn(page: string): string[] {
  return [...proseOf(page).matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, link]) => String(link))
    .filter((link) => !/^[a-z]+:/.test(link));
}

/** The texts of the headings. */
export function headings(page: string): string[] {
  return [...proseOf(page).matchAll(/^#+ (.+)$/gm)].map(([, text]) => String(text));
}

/** A heading's anchor, as GitHub makes it. */
export function slugOf(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-');
}

/** What the page has a reader type: `pm2-envoy …` in code spans, and in blocks where a command begins. */
export function callsIn(page: string): string[] {
  const spans = [...proseOf(page).matchAll(/`(?:npx (?:--no )?)?pm2-envoy ([a-z][^`]*)`/g)];
  const blocks = [...page.matchAll(/^```[\s\S]*?^```/gm)].map(([text]) => text).join('\n');
  const lines = blocks.matchAll(
    /(?:^|\$ |&& |; |\| |-- |exec [\w-]+ )(?:[A-Z_0-9]+=\S+ )*(?:npx (?:--no )?)?pm2-envoy ([a-z].*)$/gm,
  );
  const hooks = blocks.matchAll(/\[pm2-envoy, ([a-z][^\]]*)\]/g);
  return [
    ...[...spans, ...lines].map(([, call]) => String(call)),
    ...[...hooks].map(([, call]) => String(call).replaceAll(',', '')),
  ];
}

function proseOf(page: string): string {
  return page.replace(/^```[\s\S]*?^```/gm, '');
}

/** Every pod spec in a manifest, or in a part of one. */
export function podsIn(value: unknown): PodSpec[] {
  if (typeof value !== 'object' || value === null) return [];
  const inside = Object.values(value).flatMap(podsIn);
  return 'containers' in value ? [value as PodSpec, ...inside] : inside;
}

/** The variables of a pod that pm2-envoy reads. */
export function variablesOf({ containers }: PodSpec): readonly Variable[] {
  return containers
    .flatMap(({ env = [] }) => env)
    .filter(({ name }) => name.startsWith('PM2_ENVOY_'));
}
