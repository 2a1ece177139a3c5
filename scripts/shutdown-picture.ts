// Draws docs/images/shutdown.svg with the code of the command line: node --import tsx scripts/shutdown-picture.ts.
// The test `docs` fails when they differ.
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { widthOf } from '../src/cli/terminal/fit.js';
import { see } from '../src/cli/view/drain-history.js';
import { drainView } from '../src/cli/view/drain-view.js';
import type { Status } from '../src/status/status.js';
import { draining, openOn, recorded } from '../test/unit/statuses.js';

const PICTURE = new URL('../docs/images/shutdown.svg', import.meta.url);
const WIDTH = 740;
const LINE = 19;
const COLUMN = 8.43;
const FONT =
  'text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#e6edf3;white-space:pre}';
const TERMINAL = { tty: true, width: 80, height: 30, color: true, unicode: true, live: true };
/** What each code of a style is drawn as. */
const STYLES: Readonly<Record<string, string>> = {
  1: 'font-weight="bold"',
  2: 'fill="#8b949e"',
  32: 'fill="#7ee787"',
};
const ESCAPE = '\u001b';
const STYLED = new RegExp(`${ESCAPE}\\[(\\d+)m(.*?)${ESCAPE}\\[\\d+m`, 'g');

/** A drain that waits, as a terminal of 80 columns shows it. */
export function drawShutdown(): string {
  const lines = ['$ npx --no pm2-envoy shutdown', ...drainView(lookAt(waiting()), TERMINAL)];
  const height = 60 + LINE * lines.length;
  const label =
    'pm2-envoy shutdown in a terminal: who has started it, the phases that are done, the wait with 4 of 12 connections gone, and what holds it';
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="${label}">`,
    `<style>${FONT}</style>`,
    `<rect width="${WIDTH}" height="${height}" rx="8" fill="#0d1117"/>`,
    '<g fill="#30363d"><circle cx="20" cy="18" r="5"/><circle cx="38" cy="18" r="5"/><circle cx="56" cy="18" r="5"/></g>',
    ...lines.map((line, index) => toText(line, 56 + LINE * index)),
    '</svg>\n',
  ].join('\n');
}

function toText(line: string, y: number): string {
  const width = widthOf(line.replaceAll(STYLED, '$2')) * COLUMN;
  const spans = escaped(line).replaceAll(
    STYLED,
    (_, code: string, text: string) => `<tspan ${STYLES[code] ?? ''}>${text}</tspan>`,
  );
  return `<text x="16" y="${y}" textLength="${width.toFixed(1)}" lengthAdjust="spacingAndGlyphs" xml:space="preserve">${spans}</text>`;
}

function lookAt(status: Status): Parameters<typeof drainView>[0] {
  const early = [draining('delay', 100), draining('wait', 6_200)];
  const looks = [...early, status].map((look) => ({ ...look, startedAt: status.startedAt }));
  const seen = recorded(looks).reduce<ReturnType<typeof see>>(see, undefined);
  return { status, seen };
}

function waiting(): Status {
  // As a clock on the wall shows it, wherever this runs.
  const start = new Date(2026, 10, 22, 20, 34, 41).getTime();
  const peers = [10, 8, 9, 11, 12].map((last, index) => ({
    peer: `127.0.0.${last}:${42_401 + 317 * index}`,
    local: '127.0.0.1:10000',
    generation: 1,
    seenForMs: 11_000,
  }));
  return draining('wait', 11_000, {
    startedAt: new Date(start).toISOString(),
    deadline: new Date(start + 300_000).toISOString(),
    startedBy: { kind: 'cli', detail: 'envoy' },
    connectionsAtStart: 12,
    connections: openOn({ '127.0.0.1_10000': 6, '127.0.0.1_10001': 2 }, { http1: 6, tcp: 2 }),
    activeRequests: 6,
    paceLeftMs: 5_000,
    oldestPeers: peers,
  });
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(PICTURE, drawShutdown());
