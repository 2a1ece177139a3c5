import type { PacePoint } from '../../status/pace.js';
import type { Status } from '../../status/status.js';
import { addReading } from './chart.js';
import { type Html, html } from './html.js';
import { begin } from './progress.js';
import type { Snapshot, Span } from './state.js';
import { type Region, renderRegions, titleOf } from './view.js';
import { breakable, span } from './words.js';

/** The whole page. It can be read as it is; its script goes on from the snapshot. */
export function renderDocument(snapshot: Snapshot, status: Status): string {
  const state = begin(snapshot, status);
  return String(html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${titleOf(state)}</title>
<link rel="icon" href="/page/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/page/page.css">
<script type="module" src="/page/main.js"></script>
</head>
<body>
${renderHeader(snapshot.host, renderRegions(state).link)}
${renderMain(snapshot, renderRegions(state), status)}
${renderFooter(status)}
</body>
</html>
`);
}

/** Readings as the chart takes them; `shiftMs` leads from their clock to the page's. */
export function spansOf(history: readonly PacePoint[], shiftMs: number): Span[] {
  return history.reduce<Span[]>(
    (spans, { atMs, open }) => addReading(spans, { atMs: atMs + shiftMs, open }),
    [],
  );
}

function renderHeader(host: string, link: Html): Html {
  return html`<header>
<h1>${host} <span>pm2-envoy</span></h1>
<p id="link">${link}</p>
</header>`;
}

function renderFooter({ settings }: Status): Html {
  const { version, bootstrap, checkDelayMs, drainTimeoutMs, drainUntil } = settings;
  return html`<footer><p>Times are UTC. All of this is also <a href="/status">/status</a>, and <code>pm2-envoy status</code>.</p>
<p>pm2-envoy ${version} · ${bootstrap === null ? 'Envoy at admin-address' : html`bootstrap ${breakable(bootstrap)}`} · check-delay ${span(checkDelayMs)} · drain-timeout ${span(drainTimeoutMs)} · drain-until ${drainUntil}</p></footer>`;
}

function renderMain(snapshot: Snapshot, parts: Record<Region, Html>, status: Status): Html {
  return html`<main data-snapshot="${JSON.stringify(snapshot)}" data-status="${JSON.stringify(status)}">
<noscript><p class="notice warn">Without JavaScript this page does not change: reload it, or use <code>pm2-envoy status</code>.</p></noscript>
<section class="drain" aria-label="Drain">
<div id="headline" aria-live="polite">${parts.headline}</div>
${renderActions(snapshot.host)}
<div id="steps">${parts.steps}</div>
<div id="facts">${parts.facts}</div>
</section>
<div id="notices">${parts.notices}</div>
${section({ id: 'chart', title: 'Open connections', content: parts.chart })}
${section({ id: 'listeners', title: 'By listener', content: parts.listeners })}
${section({ id: 'kinds', title: 'By kind', content: parts.kinds })}
${scroller({ id: 'peers', title: 'What holds it: oldest connections', content: parts.peers })}
${scroller({ id: 'generations', title: 'Generations', content: parts.generations })}
${section({ id: 'envoy', title: 'Envoy', content: parts.envoy })}
${scroller({ id: 'log', title: 'Log', content: parts.log })}
</main>`;
}

/** They come to life, and to sight, by the script. */
function renderActions(host: string): Html {
  return html`<div id="actions" class="actions" hidden>
<div><button type="button" id="shutdown" aria-describedby="shutdown-why">Drain…</button> <span id="shutdown-why"></span></div>
<div><button type="button" id="resume" aria-describedby="resume-why">Resume</button> <span id="resume-why"></span></div>
<p id="answer" role="status"></p>
<dialog id="confirm" aria-labelledby="confirm-title" aria-describedby="confirm-text">
<h2 id="confirm-title">Drain Envoy on ${breakable(host)}?</h2>
<p id="confirm-text"></p>
<p class="choice"><button type="button" id="confirm-no" autofocus>Cancel</button> <button type="button" id="confirm-yes" class="danger">Drain</button></p>
</dialog>
</div>`;
}

function section({ id, title, content }: { id: Region; title: string; content: Html }): Html {
  return html`<section class="${id}">
<h2>${title}</h2>
<div id="${id}">${content}</div>
</section>`;
}

/** The same where a wide or long table scrolls: the keyboard has to get there. */
function scroller({ id, title, content }: { id: Region; title: string; content: Html }): Html {
  return html`<section class="${id}">
<h2>${title}</h2>
<div id="${id}" class="scroll" tabindex="0" role="group" aria-label="${title}">${content}</div>
</section>`;
}
