import type { Status } from '../../status/status.js';
import { startActions } from './actions.js';
import { openLink } from './link.js';
import { patch } from './patch.js';
import { addLine, begin, hear, isStale, lose, tick } from './progress.js';
import type { PageState, Snapshot } from './state.js';
import { renderRegions, titleOf } from './view.js';

const TICK_MS = 1_000;

const main = document.querySelector('main');
if (main) start(main);

/** Keeps the page as the manager says it is; until that is heard, it stays as it was made. */
function start(main: HTMLElement): void {
  const snapshot: Snapshot = JSON.parse(main.dataset['snapshot'] ?? '');
  const made: Status = JSON.parse(main.dataset['status'] ?? '');
  const skewMs = snapshot.nowMs - Date.now();
  const now = (): number => Date.now() + skewMs;
  const show = createScreen(main);
  const actions = startActions();
  let state: PageState = begin(snapshot, made);
  const become = (next: PageState): void => {
    state = next;
    show(state);
    actions.update(state);
  };
  const link = openLink({
    onStatus: (status) => {
      become(hear(state, status, now()));
    },
    onEntry: (entry) => become(addLine(state, entry)),
    // Also before anything was heard: the manager may go while the page loads.
    onLost: (reason) => become(lose(state, reason, now())),
  });
  setInterval(() => {
    become(tick(state, now()));
    link.tick();
  }, TICK_MS);
}

/** Returns what shows a state, in the parts of the page that it changes. */
function createScreen(main: HTMLElement): (state: PageState) => void {
  const shown = new Map<string, string>();
  return (state) => {
    document.title = titleOf(state);
    main.className = isStale(state) ? 'stale' : '';
    for (const [id, region] of Object.entries(renderRegions(state))) {
      const html = String(region);
      if (shown.get(id) === html) continue;
      shown.set(id, html);
      const element = document.getElementById(id);
      if (element) patch(element, html);
    }
  };
}
