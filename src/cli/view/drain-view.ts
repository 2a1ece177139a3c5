import { describeOrigin } from '../../drain/state.js';
import type { Status } from '../../status/status.js';
import { widthOf } from '../terminal/fit.js';
import { layOut, type Row, type Style } from '../terminal/layout.js';
import type { Terminal } from '../terminal/terminal.js';
import { type DrainSeen, type PhaseSeen, phasesOf } from './drain-history.js';
import {
  connectionRows,
  deadlineRows,
  envoyRows,
  errorRows,
  MOST,
  peerRows,
  phaseRow,
} from './status-view.js';
import { clockTime, closingIn, counted, holdersText, left, roughly } from './words.js';

/** What a display is made of. */
export interface Scene {
  status: Status;
  /** The drain that `status` is of, as it was seen so far. */
  seen: DrainSeen | undefined;
}

/** A drain under way or just over: phases, how much is gone, and what holds it. No line is too long or too much. */
export function drainView(scene: Scene, terminal: Terminal): string[] {
  return fitHeight(terminal, (size) => [
    ...drainRows(scene, terminal, size),
    ...(isDrained(scene.status) ? [] : holderRows(scene.status, size)),
    ...errorRows(scene.status),
  ]);
}

/** The same, or what Envoy does outside of a drain; `footer` stands below it. */
export function watchView(scene: Scene, terminal: Terminal, footer: readonly Row[]): string[] {
  const { status } = scene;
  return fitHeight(terminal, (size) => [
    ...(scene.seen ? drainRows(scene, terminal, size) : [phaseRow(status)]),
    ...(scene.seen ? [] : deadlineRows(status, clockTime)),
    ...envoyRows(status),
    ...holderRows(status, size),
    ...errorRows(status),
    ...footer,
  ]);
}

/** How much is shown. */
interface Size {
  /** Listeners and peers at most. */
  most: number;
  /** All phases in one row. */
  isCompact: boolean;
}

const SIZES: readonly Size[] = [
  ...[MOST, 3, 2].map((most) => ({ most, isCompact: false })),
  ...[3, 2, 1, 0].map((most) => ({ most, isCompact: true })),
];

/** The largest that leaves the last row free, in which the cursor stands. */
function fitHeight(terminal: Terminal, rowsOf: (size: Size) => Row[]): string[] {
  const room = Math.max(1, terminal.height - 1);
  const views = SIZES.map((size) => layOut(rowsOf(size), terminal));
  return views.find((lines) => lines.length <= room) ?? views.at(-1)?.slice(0, room) ?? [];
}

function drainRows(scene: Scene, terminal: Terminal, { isCompact }: Size): Row[] {
  const { status, seen } = scene;
  if (!seen) return [];
  const phases = phasesOf(seen, status.outcome);
  return [
    headerRow(status, seen),
    ...originRows(status),
    ...(isCompact
      ? compactRow(phases, terminal)
      : phases.map((phase) => phaseLine(phase, scene, terminal))),
    ...barRow(scene, terminal),
    ...deadlineRows(status, clockTime),
    ...standstillRow(status, seen),
  ];
}

function holderRows(status: Status, { most }: Size): Row[] {
  return [...connectionRows(status, most), ...peerRows(status, most)];
}

function headerRow(status: Status, { startedAt, elapsedMs }: DrainSeen): Row {
  const { outcome } = status;
  const { short, long } = subjectOf(status);
  if (outcome === null) {
    const texts = [
      `Draining ${long} since ${clockTime(startedAt)}, for ${left(elapsedMs)}`,
      `Draining ${short} for ${left(elapsedMs)}`,
      `Draining: ${left(elapsedMs)}`,
    ];
    return { text: texts, style: 'bold' };
  }
  const took = `${outcome} after ${left(elapsedMs)}`;
  const style = outcome === 'drained' || outcome === 'envoy-gone' ? 'good' : 'bad';
  return { text: [`Drain of ${long}: ${took}`, took], style };
}

function originRows({ startedBy }: Status): Row[] {
  if (startedBy === null) return [];
  const { kind, detail = '' } = startedBy;
  const texts = [describeOrigin(startedBy), `${kind} ${detail}`.trimEnd()];
  return [{ label: 'by', text: texts, style: 'dim' }];
}

/** What is drained: all generations of this host, or an Envoy that pm2-envoy did not start. */
function subjectOf({ generations, envoy }: Status): { short: string; long: string } {
  const version = envoy?.version ? `Envoy ${envoy.version}` : 'Envoy';
  const numbers = generations.map(({ number }) => number).join(', ');
  if (numbers === '') return { short: 'Envoy', long: version };
  const short = `${generations.length > 1 ? 'generations' : 'generation'} ${numbers}`;
  return { short, long: `${short} (${version})` };
}

const MARKS: Readonly<Record<PhaseSeen['state'], readonly [string, string]>> = {
  done: ['✓', '+'],
  now: ['▸', '>'],
  next: ['·', '.'],
  stopped: ['✗', 'x'],
};
const STYLES: Readonly<Record<PhaseSeen['state'], Style>> = {
  done: 'good',
  now: 'bold',
  next: 'dim',
  stopped: 'bad',
};

function markOf({ state }: PhaseSeen, { unicode }: Terminal): string {
  return MARKS[state][unicode ? 0 : 1];
}

function phaseLine(seen: PhaseSeen, scene: Scene, terminal: Terminal): Row {
  const { phase, state, tookMs } = seen;
  const took = tookMs === undefined ? '' : roughly(tookMs);
  const aligned = phase.padEnd(13);
  const close = state === 'now' && phase === 'delay' ? closingIn(scene.status) : undefined;
  return {
    kind: 'mark',
    label: markOf(seen, terminal),
    labelStyle: STYLES[state],
    text: [
      ...(close
        ? [
            `${aligned}${took}, ${close.long}`,
            `${aligned}${took}, ${close.short}`,
            `${phase} ${took}, ${close.short}`,
          ]
        : []),
      `${aligned}${took}`,
      `${phase} ${took}`,
      phase,
    ].map((text) => text.trimEnd()),
    ...(state === 'done' ? {} : { style: STYLES[state] }),
  };
}

/** The current one first: the end of a line may be cut. */
function compactRow(phases: readonly PhaseSeen[], terminal: Terminal): Row[] {
  const current = phases.find(({ state }) => state === 'now' || state === 'stopped');
  const done = phases.filter(({ state }) => state === 'done').map(({ phase }) => phase);
  const past = done.length > 0 ? `${terminal.unicode ? '✓' : '+'} ${done.join(', ')}` : '';
  if (!current) return past === '' ? [] : [{ text: past, style: 'good' }];
  const took = current.tookMs === undefined ? '' : ` ${roughly(current.tookMs)}`;
  const now = `${markOf(current, terminal)} ${current.phase}${took}`;
  return [{ text: [past === '' ? now : `${now}  (${past})`, now], style: STYLES[current.state] }];
}

const LONGEST_BAR = 40;
const SHORTEST_BAR = 8;

/** How much of what was waited for is gone. */
function barRow(scene: Scene, terminal: Terminal): Row[] {
  const bar =
    scene.status.settings.drainUntil === 'requests' ? busyBar(scene) : openBar(scene.status);
  if (!bar || bar.all === 0) return [];
  const { all, gone, texts } = bar;
  const indent = terminal.width < 40 ? '' : '  ';
  const room = terminal.width - indent.length - 2;
  const text = texts.find((one) => room - widthOf(one) >= SHORTEST_BAR) ?? '';
  const width = Math.max(0, Math.min(LONGEST_BAR, room - widthOf(text)));
  const full = Math.floor((width * gone) / all);
  const [on, off] = terminal.unicode ? ['█', '░'] : ['#', '.'];
  return [{ text: `${indent}${on.repeat(full)}${off.repeat(width - full)}  ${text}` }];
}

interface Bar {
  all: number;
  gone: number;
  /** The longest first. */
  texts: readonly string[];
}

function openBar(status: Status): Bar | undefined {
  const { connectionsAtStart, connections, outcome, connectionsLeft } = status;
  const open = outcome === null ? connections?.open : connectionsLeft;
  if (open === null || open === undefined || connectionsAtStart === null) return undefined;
  const all = Math.max(connectionsAtStart, open);
  const gone = all - open;
  const texts = [
    `${gone} of ${counted(all, 'connection')} gone, ${open} left`,
    `${gone} of ${all} gone`,
    `${open} left`,
  ];
  return { all, gone, texts };
}

/** Idle connections don't hold such a drain, so they are not its progress either. */
function busyBar({ status, seen }: Scene): Bar | undefined {
  const { outcome, connectionsLeft, holding } = status;
  const most = seen?.mostHolding ?? null;
  if (most === null || holding === null) return undefined;
  if (outcome === 'drained') {
    const idle = connectionsLeft ? `; ${counted(connectionsLeft, 'idle connection')} left` : '';
    return { all: Math.max(1, most), gone: Math.max(1, most), texts: [`0 requests left${idle}`] };
  }
  const text = holdersText(status);
  if (!text) return undefined;
  const short = `${text.held} left`;
  const texts = text.idle === '' ? [short] : [`${short}; ${text.idle}`, short];
  return { all: most, gone: most - holding, texts: [...texts, `${holding} left`] };
}

/** So long with no end of a connection is worth saying. */
const STANDSTILL_MS = 5_000;

function standstillRow(status: Status, { fellAtMs, elapsedMs, open }: DrainSeen): Row[] {
  const { phase, outcome, paceLeftMs } = status;
  const stoodMs = elapsedMs - fellAtMs;
  if (outcome !== null || phase !== 'wait' || paceLeftMs !== null || !open) return [];
  if (stoodMs < STANDSTILL_MS) return [];
  return [{ label: 'pace', text: [`none has ended for ${left(stoodMs)}`], style: 'warn' }];
}

function isDrained({ outcome }: Status): boolean {
  return outcome === 'drained' || outcome === 'envoy-gone' || outcome === 'cancelled';
}
