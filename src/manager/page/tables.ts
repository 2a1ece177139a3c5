import type { ConnectionKinds } from '../../admin/stats.js';
import type { Peer } from '../../status/peers.js';
import type { GenerationStatus } from '../../status/status.js';
import { type Html, html, type Part } from './html.js';
import type { LogLine, PageState } from './state.js';
import { address, breakable, moment, span, withCode } from './words.js';

const MOST_LISTENERS = 8;
const KINDS: Readonly<Record<keyof ConnectionKinds, string>> = {
  http1: 'HTTP/1',
  http2: 'HTTP/2',
  http3: 'HTTP/3',
  tcp: 'TCP',
  websocket: 'WebSocket',
  udp: 'UDP sessions',
};
const NAMES: ReadonlyMap<string, string> = new Map(Object.entries(KINDS));
const UNCOUNTED = html`<p>They can’t be counted right now.</p>`;
const NO_ENVOY = html`<p>There is no Envoy.</p>`;

/** The tables and lists of the page. */
export function renderTables(
  state: PageState,
): Record<'listeners' | 'kinds' | 'peers' | 'generations' | 'envoy' | 'log', Html> {
  return {
    listeners: renderListeners(state),
    kinds: renderKinds(state),
    peers: renderPeers(state),
    generations: renderGenerations(state),
    envoy: renderEnvoy(state),
    log: renderLog(state),
  };
}

/** The busiest first. */
function renderListeners({ status: { connections, envoy } }: PageState): Html {
  if (!connections) return envoy ? UNCOUNTED : NO_ENVOY;
  const all = Object.entries(connections.byListener).sort(([, a], [, b]) => b - a);
  if (all.length === 0) return html`<p>No listener has had a connection yet.</p>`;
  const [, most] = all[0] ?? ['', 0];
  const rest = all.splice(MOST_LISTENERS);
  const rows: Part[][] = all.map(([name, open]) => [
    html`${breakable(name)}${renderBar(open / most)}`,
    open,
  ]);
  const restOpen = rest.reduce((sum, [, open]) => sum + open, 0);
  if (rest.length > 0) rows.push([`${rest.length} others`, restOpen]);
  return table('Open connections by listener', ['Listener', 'Open'], rows);
}

function renderKinds({ status: { connections, envoy } }: PageState): Html {
  if (!connections) return envoy ? UNCOUNTED : NO_ENVOY;
  const rows: Part[][] = Object.entries(connections.byKind)
    .filter(([, open]) => open > 0)
    .map(([kind, open]) => [NAMES.get(kind) ?? kind, open]);
  if (rows.length === 0) return html`<p>No connection is open.</p>`;
  return table('Open connections by kind', ['Kind', 'Open'], rows);
}

function renderPeers({ status }: PageState): Html {
  const { oldestPeers, oldestPeersNote, generations } = status;
  if (!oldestPeers) return html`<p>They can’t be seen: ${oldestPeersNote}.</p>`;
  if (oldestPeers.length === 0) return html`<p>There are none.</p>`;
  const rows = groupPeers(oldestPeers, generations.length > 1).map(
    ({ from, count, local, generation, seenForMs }) => [
      count === 1 ? address(from) : html`${from} <i>${count} connections</i>`,
      address(local),
      ...(generations.length > 1 ? [generation] : []),
      span(seenForMs),
    ],
  );
  const heads = ['From', 'To', ...(generations.length > 1 ? ['Gen.'] : []), 'Seen for'];
  return table('The oldest open connections', heads, rows);
}

interface PeerGroup {
  /** The address, with its port where there is one connection only. */
  from: string;
  count: number;
  local: string;
  generation: Peer['generation'];
  /** Of the oldest one. */
  seenForMs: number;
}

/** Those of one address to one listener, in the order of their oldest. */
function groupPeers(peers: readonly Peer[], byGeneration: boolean): PeerGroup[] {
  const groups = new Map<string, PeerGroup>();
  for (const { peer, local, generation, seenForMs } of peers) {
    const host = peer.slice(0, Math.max(0, peer.lastIndexOf(':')));
    const key = JSON.stringify([host, local, byGeneration && generation]);
    const known = groups.get(key);
    if (known) groups.set(key, { ...known, from: host, count: known.count + 1 });
    else groups.set(key, { from: peer, count: 1, local, generation, seenForMs });
  }
  return [...groups.values()];
}

function renderGenerations({ status: { generations }, nowMs }: PageState): Html {
  if (generations.length === 0) return html`<p>None that pm2-envoy started is running.</p>`;
  const hasUdp = generations.some(({ udp }) => udp);
  const rows = generations.map((one) => [
    one.number,
    describeState(one, nowMs),
    one.connections ?? 'unknown',
    ...(hasUdp ? [one.udp?.http3 ?? '–', one.udp?.sessions ?? '–'] : []),
    one.version ?? 'unknown',
    moment(one.startedAt, nowMs),
    one.pid,
  ]);
  const heads = ['No.', 'State', 'Open', ...(hasUdp ? ['HTTP/3', 'UDP'] : [])];
  return table('Generations', [...heads, 'Envoy', 'Since', 'pid'], rows);
}

function renderEnvoy({ status: { envoy, lastPoll }, nowMs }: PageState): Html {
  if (!envoy) return html`<p>There is none.</p>`;
  const { state, version, uptimeSeconds, concurrency, pid, generation, admin } = envoy;
  const rows: (readonly [name: string, value: Part])[] = [
    ['State', state ?? 'does not answer'],
    ['Version', version ?? 'unknown'],
    ['Up for', uptimeSeconds === null ? 'unknown' : span(uptimeSeconds * 1_000)],
    ['Workers', concurrency ?? 'unknown'],
    ['pid', pid ?? 'unknown'],
    generation === null ? ['Admin', admin] : ['Generation', generation],
    ['Asked at', lastPoll ? moment(lastPoll.at, nowMs) : 'never'],
    ['Answer took', lastPoll ? `${lastPoll.tookMs.toFixed(1)} ms` : 'unknown'],
  ];
  return html`<dl>${rows.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

/** The style turns it round, so that lines are only added at the end. */
function renderLog({ log, nowMs }: PageState): Html {
  if (log.length === 0) return html`<p>Nothing has happened since the manager was started.</p>`;
  return html`<ol>${log.map((line) => renderLine(line, nowMs))}</ol>`;
}

function renderLine({ at, kind, text }: LogLine, nowMs: number): Html {
  return html`<li>${moment(at, nowMs)} <i class="${kind}">${kind}</i> <span>${withCode(text)}</span></li>`;
}

function describeState({ state, deadline, runnerPid }: GenerationStatus, nowMs: number): Html {
  const isLeaving = state === 'handing-over';
  const until = deadline === null ? '' : html`, at most to ${moment(deadline, nowMs)}`;
  const alone = isLeaving || runnerPid !== null ? '' : html`, <b class="warn">without a runner</b>`;
  return html`${isLeaving ? 'handing over' : state}${until}${alone}`;
}

function renderBar(share: number): Html {
  return html`<svg viewBox="0 0 1 1" preserveAspectRatio="none" aria-hidden="true"><rect width="${(share || 0).toFixed(2)}" height="1"/></svg>`;
}

/** The first cell of a row is its head. */
function table(
  caption: string,
  heads: readonly string[],
  rows: readonly (readonly Part[])[],
): Html {
  return html`<table><caption class="hidden">${caption}</caption>
<thead><tr>${heads.map((head) => html`<th scope="col">${head}</th>`)}</tr></thead>
<tbody>${rows.map(
    ([head, ...cells]) =>
      html`<tr><th scope="row">${head}</th>${cells.map((cell) => html`<td>${cell}</td>`)}</tr>`,
  )}</tbody></table>`;
}
