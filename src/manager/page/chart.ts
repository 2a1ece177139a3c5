import { type Html, html } from './html.js';
import type { PageState, Span } from './state.js';
import { span } from './words.js';

/** Readings further apart say nothing of the time between them. */
const GAP_MS = 10_000;
const MOST_SPANS = 2_000;
const LONGEST_MS = 60 * 60_000;
const WINDOWS_MS = [1, 2, 5, 10, 30].map((minutes) => minutes * 60_000);
/** Without a drain, further back is of no interest. */
const IDLE_MS = 10 * 60_000;
/** What is shown of the time before a drain. */
const LEAD_MS = 10_000;
/** A shorter time without a reading is not worth a shadow. */
const SHORTEST_GAP_MS = 2_000;
/** Percent of the picture that the line takes; the names of marks are above. page.css knows it. */
const HIGHEST = 80;

/**
 * Adds a reading, oldest first; `isNext` is false where no one can say what was between it and the last.
 */
export function addReading(
  spans: readonly Span[],
  { atMs, open, isNext = true }: { atMs: number; open: number; isNext?: boolean },
): Span[] {
  const last = spans.at(-1);
  if (!last || !isNext || atMs - last[1] > GAP_MS)
    return keepLatest([...spans, [atMs, atMs, open]]);
  const rest = spans.slice(0, -1);
  const held: Span = [last[0], Math.max(last[1], atMs), last[2]];
  return keepLatest(last[2] === open ? [...rest, held] : [...rest, held, [atMs, atMs, open]]);
}

function keepLatest(spans: Span[]): Span[] {
  return spans.slice(-MOST_SPANS);
}

/** Open connections over time, with a sentence that says the same. */
export function renderChart(state: PageState): Html {
  const { nowMs, spans } = state;
  const widthMs = windowOf(state);
  const startMs = nowMs - widthMs;
  const shown = spans.filter(([, toMs]) => toMs >= startMs);
  const top = topOf(shown);
  const scale: Scale = {
    x: (atMs) => round(((Math.max(startMs, atMs) - startMs) / widthMs) * 100),
    y: (open) => round(100 - (open / top) * HIGHEST),
  };
  const levels = [top, top / 2, 0];
  const marks = marksOf(state).filter(({ atMs }) => atMs >= startMs && atMs <= nowMs);
  const gaps = gapsOf(shown, { startMs, nowMs });
  return html`<svg role="img" width="640" height="208" aria-label="${describe(shown, widthMs)}">
<svg viewBox="0 0 100 100" preserveAspectRatio="none">
${gaps.map((gap) => renderGap(gap, scale))}
${levels.map((open) => html`<path class="level" stroke="#ccc" d="M0 ${scale.y(open)}H100"/>`)}
${joined(shown).map((run) => renderRun(run, scale))}
${marks.map(({ atMs }) => html`<path class="mark" stroke="#777" stroke-dasharray="2 3" d="M${scale.x(atMs)} 0V100"/>`)}
</svg>
${marks.map((mark, index) => renderName(mark, { index, scale }))}
</svg>
<p class="levels" aria-hidden="true">${levels.map((open) => html`<span>${open}</span>`)}</p>
<p class="times" aria-hidden="true">${[widthMs, widthMs / 2].map((ms) => html`<span>${span(ms)} ago</span>`)}<span>now</span></p>
${gaps.length > 0 && html`<p class="legend"><svg width="12" height="12" aria-hidden="true"><rect class="gap" fill="#ddd" width="12" height="12"/></svg> gray: no client was watching</p>`}`;
}

/** From moments and counts to percent of the picture. */
interface Scale {
  x(atMs: number): number;
  y(open: number): number;
}

function renderGap([fromMs, toMs]: Gap, { x }: Scale): Html {
  return html`<rect class="gap" fill="#ddd" x="${x(fromMs)}" width="${round(x(toMs) - x(fromMs))}" height="100"/>`;
}

function renderRun(run: readonly Span[], { x, y }: Scale): Html {
  const [fromMs, , open] = run[0] ?? [0, 0, 0];
  const steps = run.map(([, toMs, open]) => `V${y(open)}H${x(toMs)}`).join('');
  return html`<path class="area" fill="#1f5fbf" fill-opacity="0.12" d="M${x(fromMs)} 100${steps}V100Z"/>
<path class="line" fill="none" stroke="#1f5fbf" d="M${x(fromMs)} ${y(open)}${steps}"/>`;
}

/** One below the other: two marks may be close together. On a phone a name takes 40 percent. */
function renderName(
  { atMs, text }: Mark,
  { index, scale: { x } }: { index: number; scale: Scale },
): Html {
  const [dx, anchor] = x(atMs) > 55 ? [-5, 'end'] : [5, 'start'];
  return html`<text x="${x(atMs)}%" y="${12 + index * 15}" dx="${dx}" text-anchor="${anchor}">${text}</text>`;
}

/** The shortest window that has in it what is of interest. */
function windowOf({ nowMs, spans, status }: PageState): number {
  const firstMs = spans[0]?.[0] ?? nowMs;
  const startedMs = status.startedAt === null ? Number.NaN : Date.parse(status.startedAt);
  const wantedMs = Number.isNaN(startedMs)
    ? Math.min(nowMs - firstMs, IDLE_MS)
    : nowMs - startedMs + LEAD_MS;
  return WINDOWS_MS.find((ms) => ms >= wantedMs) ?? LONGEST_MS;
}

/** Where the axis ends: 2, 4, 6, 8, 10, 20, 40, …, so that half of it is whole too. */
function topOf(spans: readonly Span[]): number {
  const most = Math.max(2, ...spans.map(([, , open]) => open));
  const power = 10 ** Math.floor(Math.log10(most));
  const [top = 10] = [1, 2, 4, 6, 8, 10].filter((step) => step * power >= most && step * power > 1);
  return top * power;
}

/** Spans that follow each other, by runs. */
function joined(spans: readonly Span[]): Span[][] {
  const runs: Span[][] = [];
  for (const one of spans) {
    const run = runs.at(-1);
    if (run && run.at(-1)?.[1] === one[0]) run.push(one);
    else runs.push([one]);
  }
  return runs;
}

type Gap = readonly [fromMs: number, toMs: number];

/** Times without readings; before the first one there is nothing to miss. */
function gapsOf(
  spans: readonly Span[],
  { startMs, nowMs }: { startMs: number; nowMs: number },
): Gap[] {
  const starts = [...spans.map(([fromMs]) => fromMs), nowMs];
  return starts
    .map((fromMs, index): Gap => [spans[index - 1]?.[1] ?? Math.max(startMs, fromMs), fromMs])
    .filter(([fromMs, toMs]) => toMs - fromMs > SHORTEST_GAP_MS);
}

interface Mark {
  atMs: number;
  text: string;
}

function marksOf({ status }: PageState): Mark[] {
  const { startedAt, durationMs, outcome, steps } = status;
  if (startedAt === null) return [];
  const startedMs = Date.parse(startedAt);
  const closed = steps.find(({ phase }) => phase === 'close');
  return [
    { atMs: startedMs, text: 'drain begins' },
    ...(closed ? [{ atMs: Date.parse(closed.at), text: 'listeners closed' }] : []),
    ...(durationMs !== null ? [{ atMs: startedMs + durationMs, text: outcome ?? 'end' }] : []),
  ];
}

function describe(spans: readonly Span[], widthMs: number): string {
  const [first] = spans;
  const last = spans.at(-1);
  if (!first || !last) return 'Open connections: no reading yet';
  const most = Math.max(...spans.map(([, , open]) => open));
  return `Open connections in the last ${span(widthMs)}: ${first[2]} at first, ${most} at most, ${last[2]} at last`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
