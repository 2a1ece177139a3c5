import { buttonOf, describeAnswer, type PageCommand, questionOf, SILENCE } from './buttons.js';
import { type Html, html } from './html.js';
import { patch } from './patch.js';
import type { PageState } from './state.js';
import { moment, withCode } from './words.js';

/** The buttons of the page. */
export interface Actions {
  /** Says what they may do now. */
  update(state: PageState): void;
}

/** Brings the buttons to life; without a script they are not there. */
export function startActions(): Actions {
  const dialog = byId('confirm', HTMLDialogElement);
  let state: PageState | undefined;
  /** With the time: it stays while what it was about goes by. */
  const say = (text: string): void => {
    const nowMs = state?.nowMs ?? 0;
    write('answer', html`${moment(nowMs, nowMs)} ${withCode(text)}`);
  };
  const run = async (command: PageCommand): Promise<void> => {
    say('Requested. For a drain, the answer comes when it has ended.');
    say(await send(command));
  };
  const onClick = (id: string, action: () => void): void =>
    byId(id, HTMLElement).addEventListener('click', action);
  const onPress = (command: PageCommand, action: (state: PageState) => void): void =>
    onClick(command, () => {
      if (!state) return;
      const { isOff, why } = buttonOf(command, state);
      if (isOff) say(`Not now: ${why}.`);
      else action(state);
    });
  onPress('resume', () => void run('resume'));
  onPress('shutdown', (state) => {
    write('confirm-text', withCode(questionOf(state)));
    dialog.showModal();
  });
  onClick('confirm-no', () => dialog.close());
  onClick('confirm-yes', () => {
    dialog.close();
    void run('shutdown');
  });
  return {
    update: (next) => {
      state = next;
      showStates(state);
      byId('actions', HTMLElement).hidden = false;
    },
  };
}

/** Not `disabled`: a button that loses the focus because of it would take the reader along. */
function showStates(state: PageState): void {
  for (const command of ['shutdown', 'resume'] as const) {
    const { isOff, why } = buttonOf(command, state);
    byId(command, HTMLElement).setAttribute('aria-disabled', String(isOff));
    write(`${command}-why`, withCode(why));
  }
}

/** Resolves when the manager has answered: for a shutdown, at the end of the drain. */
async function send(command: PageCommand): Promise<string> {
  try {
    const method = command === 'shutdown' ? 'POST' : 'DELETE';
    const reply = await fetch('/shutdown', { method });
    const body: unknown = await reply.json().catch(() => undefined);
    return describeAnswer({ status: reply.status, body });
  } catch {
    return SILENCE;
  }
}

function write(id: string, text: Html): void {
  patch(byId(id, HTMLElement), String(text));
}

function byId<T extends HTMLElement>(id: string, type: new () => T): T {
  const element = document.getElementById(id);
  if (element instanceof type) return element;
  throw new Error(`there is no #${id}`);
}
