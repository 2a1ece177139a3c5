import type { DrainPhase } from '../../drain/state.js';
import type { GenerationStatus, Status } from '../../status/status.js';
import { renderChart } from './chart.js';
import { type Html, html } from './html.js';
import { passedMs } from './progress.js';
import type { Link, PageState } from './state.js';
import { renderTables } from './tables.js';
import { exactSpan, headlineOf, moment, span, type Tone, withCode } from './words.js';

/** The parts of the page that change; each is the id of its element. */
export type Region = keyof ReturnType<typeof renderRegions>;

/** Every part, as it stands in the page. */
export function renderRegions(
  state: PageState,
): Record<'link' | 'headline' | 'steps' | 'facts' | 'notices' | 'chart', Html> &
  ReturnType<typeof renderTables> {
  return {
    link: renderLink(state),
    headline: renderHeadline(state),
    steps: renderSteps(state),
    facts: renderFacts(state),
    notices: renderNotices(state),
    chart: renderChart(state),
    ...renderTables(state),
  };
}

const STEPS: readonly (readonly [phase: DrainPhase, text: string])[] = [
  ['fail-health', 'health check fails'],
  ['delay', 'load balancers notice'],
  ['close', 'no new connections'],
  ['wait', 'open ones end'],
  ['finish', 'outcome'],
];

/** Title of the window: what is worth knowing when it is not in front. */
export function titleOf(state: PageState): string {
  const { host, status, link } = state;
  const open = status.connections ? `${status.connections.open} open` : 'open unknown';
  const what = status.outcome ?? status.phase;
  const now = link.kind === 'lost' ? 'no connection' : `${what}, ${open}`;
  return `${now} · ${host} · pm2-envoy`;
}

const BADGES: Readonly<Record<Link['kind'], readonly [tone: Tone | '', text: string]>> = {
  snapshot: ['', 'as it was'],
  live: ['good', 'live'],
  late: ['warn', 'no answer'],
  lost: ['bad', 'not connected'],
};

function renderLink({ link: { kind }, nowMs, heardAtMs }: PageState): Html {
  const [tone, text] = BADGES[kind];
  const when =
    kind === 'snapshot'
      ? html`at ${moment(heardAtMs, nowMs)} UTC`
      : `last heard ${span(nowMs - heardAtMs)} ago`;
  return html`<b class="${tone}">${text}</b> ${when}`;
}

/** Read out when it changes: nothing in it may tick. */
function renderHeadline(state: PageState): Html {
  const { link, status, heardAtMs, nowMs } = state;
  const { tone, title, text } = headlineOf(status);
  if (link.kind !== 'lost') return html`<h2 class="${tone}">${title}</h2><p>${withCode(text)}</p>`;
  return html`<h2 class="bad">No connection to the manager</h2><p>At ${moment(heardAtMs, nowMs)} it said: ${title}. Everything below is from then. Envoy itself does not need the manager, and keeps running. Retrying: ${link.reason}.</p>`;
}

function renderSteps({ status }: PageState): Html {
  const { phase, outcome } = status;
  const at = STEPS.findIndex(([name]) => name === phase);
  const isOver = outcome !== null;
  return html`<ol>${STEPS.map(([name, text], index) => {
    const isDone = index < at || (isOver && index === at);
    const now = index === at && !isOver && html` class="now" aria-current="step"`;
    const said = isOver && name === 'finish' ? outcome : text;
    return html`<li${isDone ? html` class="done"` : now}><b>${name}</b> <span>${said}</span>${isDone && html`<i class="hidden"> (done)</i>`}</li>`;
  })}</ol>`;
}

function renderFacts(state: PageState): Html {
  const { status } = state;
  const { activeRequests, newConnectionsPerSecond } = status;
  if (status.envoy?.silentSince && !status.connections) {
    return html`<dl>${silentFacts(state, status.envoy.silentSince)}</dl>`;
  }
  if (!status.envoy && status.outcome === null) return html`<dl>${goneFacts(state)}</dl>`;
  return html`<dl>
${openFact(status)}
${fact('Active requests', activeRequests ?? 'unknown', 'websockets too')}
${fact('New connections', newConnectionsPerSecond ?? 'unknown', 'a second')}
${status.outcome === null ? timeFacts(state) : endFacts(status)}
</dl>`;
}

function timeFacts(state: PageState): Html {
  const { timeLeftMs, deadline, paceLeftMs, generations, listenersCloseAt } = state.status;
  const leaving = generations.find((one) => one.state === 'handing-over');
  if (deadline === null && leaving) return leavingFacts(state, leaving);
  if (deadline === null)
    return html`${fact('Time left', '–', 'no drain')}${fact('At this pace', '–', 'no drain')}`;
  const left = (ms: number | null): string => (ms === null ? '–' : span(ms - passedMs(state)));
  if (listenersCloseAt !== null) {
    const closeMs = Date.parse(listenersCloseAt) - Date.parse(deadline) + (timeLeftMs ?? 0);
    return html`${fact('Listeners close in', left(closeMs), 'until then: Resume')}
${fact('Time left', left(timeLeftMs), html`until ${moment(deadline, state.nowMs)}`)}`;
  }
  return html`${fact('Time left', left(timeLeftMs), html`until ${moment(deadline, state.nowMs)}`)}
${fact('At this pace', left(paceLeftMs), paceLeftMs === null ? 'none ends' : 'left')}`;
}

/** The old generation's: what is open on the new one holds nothing. */
function leavingFacts(state: PageState, { number, deadline, paceLeftMs }: GenerationStatus): Html {
  const { nowMs } = state;
  const left = deadline === null ? '–' : span(Date.parse(deadline) - nowMs);
  const pace = paceLeftMs === null ? '–' : span(paceLeftMs - passedMs(state));
  return html`${fact(`Generation ${number}: time left`, left, deadline === null ? '' : html`until ${moment(deadline, nowMs)}`)}
${fact('At this pace', pace, paceLeftMs === null ? 'none ends' : 'left')}`;
}

function goneFacts({ nowMs, status, ...state }: PageState): Html {
  const { failedStart } = status;
  if (!failedStart) return lastFact({ nowMs, ...state });
  const { count, at, since } = failedStart;
  return html`${fact('Failed starts', count, html`since ${moment(since, nowMs)}`)}
${fact('Latest', span(nowMs - Date.parse(at)), 'ago')}
${lastFact({ nowMs, ...state })}`;
}

function lastFact({ nowMs, spans }: Pick<PageState, 'nowMs' | 'spans'>): Html {
  const last = spans.at(-1);
  return html`${last && fact('Last seen open', last[2], html`connections, at ${moment(last[1], nowMs)}`)}`;
}

/** What is known of an Envoy that says nothing. */
function silentFacts({ nowMs, spans, status }: PageState, since: string): Html {
  return html`${fact('Silent for', span(nowMs - Date.parse(since)), html`since ${moment(since, nowMs)}`)}
${lastFact({ nowMs, spans })}
${fact('Process', status.envoy?.pid ?? '–', 'pid, still there')}`;
}

/** What a drain waits for, or what is open. */
function openFact(status: Status): Html {
  const { connections, connectionsAtStart, holding, settings, generations, phase } = status;
  const open = connections?.open ?? 'unknown';
  const leaving = generations.find(({ state }) => state === 'handing-over');
  if (phase === 'idle' && leaving) {
    const text = `of ${open} in all, on generation ${leaving.number}`;
    return fact('Left to hand over', leaving.connections ?? 'unknown', text);
  }
  if (phase === 'wait' && settings.drainUntil === 'requests' && holding !== null && connections) {
    const idle = Math.max(0, connections.open - holding);
    return fact('Still busy', holding, `${idle} idle, not waited for`);
  }
  const ofStart = connectionsAtStart === null ? 'now' : `of ${connectionsAtStart} at the start`;
  return fact('Open connections', open, ofStart);
}

function endFacts({ durationMs, connectionsLeft, outcome, settings }: Status): Html {
  const isIdle = outcome === 'drained' && settings.drainUntil === 'requests';
  return html`${fact('Drain took', exactSpan(durationMs ?? 0), 'from its start')}
${fact('Left at its end', connectionsLeft ?? 'unknown', isIdle ? 'idle connections' : 'connections')}`;
}

function fact(name: string, value: string | number, text: string | Html): Html {
  return html`<div><dt>${name}</dt><dd><b>${value}</b> <span>${text}</span></dd></div>`;
}

function renderNotices({ status: { lastError, generations }, nowMs }: PageState): Html {
  const serving = generations.findLast(
    ({ state }) => state !== 'starting' && state !== 'handing-over',
  );
  const failed = serving?.failedReload;
  const reload =
    failed &&
    html`<p class="notice bad"><b>The last reload failed</b> at ${moment(failed.at, nowMs)}, and generation ${serving.number} keeps serving: <span>${failed.reason}</span></p>`;
  const udp =
    serving?.udp?.state === 'unsteered' &&
    html`<p class="notice warn"><b>A reload loses some HTTP/3 and UDP:</b> <span>${serving.udp.reason ?? ''}</span></p>`;
  const error =
    lastError && html`<p class="notice warn"><b>Last error:</b> <span>${lastError}</span></p>`;
  return html`${reload}${udp}${error}`;
}
