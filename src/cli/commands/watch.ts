import { systemClock } from '../../clock.js';
import { isPm2EnvoyError, messageOf } from '../../errors.js';
import { EXIT } from '../../exit-codes.js';
import type { PluginHost } from '../../plugins/api/types.js';
import { isDraining } from '../../status/situation.js';
import type { CliContext } from '../terminal/context.js';
import { layOut, type Row } from '../terminal/layout.js';
import type { Screen } from '../terminal/screen.js';
import { type DrainSeen, see } from '../view/drain-history.js';
import { watchView } from '../view/drain-view.js';
import { peersNote, plainText, stamped, watchLine } from '../view/plain-view.js';
import { createStatusSource, type Found } from './status-source.js';

/** What one look came to; undefined `found`: neither manager nor Envoy answers, and `note` says why. */
interface Watched {
  found: Found | undefined;
  note: string | undefined;
}

/** Shows what was seen; one for each kind of output. */
interface WatchDisplay {
  show(watched: Watched): void;
  /** What was shown last stays. */
  close(): void;
}

const IN_DRAIN_MS = 500;
const IDLE_MS = 1_000;
/** A manager that says nothing for so long counts as down: itself it waits 3 s for an Envoy that hangs. */
const LIMIT_MS = 8_000;

/**
 * `pm2-envoy status --watch`: shows the status again and again until Ctrl-C, which ends with 0, or until
 * no one reads it any more. A manager that goes away is waited for.
 *
 * @throws Pm2EnvoyError `manager-refused`, `manager-answer`: waiting would not help
 */
export async function watchStatus(cli: CliContext, host: PluginHost): Promise<void> {
  const { config } = cli.load();
  const source = createStatusSource(config, host);
  const { unread } = cli.io;
  const display = await chooseDisplay(cli);
  const forget = cli.io.onInterrupt(() => '', EXIT.done);
  try {
    while (!unread.aborted) {
      const watched = await look(() => source.read(AbortSignal.timeout(LIMIT_MS)));
      display.show(watched);
      const status = watched.found?.status;
      await systemClock.sleep(status && isDraining(status) ? IN_DRAIN_MS : IDLE_MS, unread);
    }
  } finally {
    forget();
    display.close();
  }
}

async function look(read: () => Promise<Found>): Promise<Watched> {
  try {
    const found = await read();
    return { found, note: found.note };
  } catch (error) {
    if (!isPm2EnvoyError(error, 'manager-unreachable')) throw error;
    return { found: undefined, note: messageOf(error) };
  }
}

async function chooseDisplay(cli: CliContext): Promise<WatchDisplay> {
  const close = (): void => undefined;
  if (cli.json) return { show: showJson(cli), close };
  if (!cli.io.terminal('stdout').live) return { show: showLines(cli), close };
  const screen = await cli.io.screen('stdout');
  return { show: showScreen(screen), close: screen.end };
}

const DOWN = ['the manager is down: asked Envoy directly', 'manager down: asked Envoy itself'];

function showScreen(screen: Screen): WatchDisplay['show'] {
  let seen: DrainSeen | undefined;
  return ({ found, note }) => {
    const at = new Date().toTimeString().slice(0, 8);
    const footer: Row[] = [
      ...(note === undefined ? [] : [{ text: [note, ...DOWN], style: 'warn' } as const]),
      { text: [`seen at ${at}; Ctrl-C ends watching`, `${at}; Ctrl-C ends`, at], style: 'dim' },
    ];
    if (!found) {
      const rows: Row[] = [
        { text: note ?? '', style: 'bad' },
        { text: `${at}: trying again`, style: 'dim' },
      ];
      screen.show((terminal) => layOut(rows, terminal, 'wrap').slice(0, terminal.height - 1));
      return;
    }
    const { status } = found;
    seen = see(seen, status);
    const view = { status, seen };
    screen.show((terminal) => watchView(view, terminal, footer));
  };
}

function showLines({ io }: CliContext): WatchDisplay['show'] {
  let last = '';
  let saidPeers = false;
  return ({ found, note }) => {
    const line = found ? watchLine(found.status) : plainText(`${note}: trying again`);
    const text = found && note !== undefined ? `${line.text}, ${note}` : line.text;
    if (text !== last) io.out(stamped({ ...line, text }, new Date()));
    last = text;
    const peers = found && peersNote(found.status);
    if (peers && !saidPeers) io.out(stamped(plainText(peers), new Date()));
    saidPeers ||= peers !== undefined;
  };
}

/** Times and rates change at every look; they are in the document, but don't make one. */
function showJson({ io }: CliContext): WatchDisplay['show'] {
  let last = '';
  let lastNote: string | undefined;
  return ({ found, note }) => {
    if (found && note !== undefined && note !== lastNote) io.note(note);
    lastNote = note;
    const document = found?.status ?? { error: { code: 'manager-unreachable', message: note } };
    const facts = JSON.stringify(document, (key, value: unknown) =>
      VOLATILE.has(key) ? undefined : value,
    );
    if (facts !== last) io.out(JSON.stringify(document));
    last = facts;
  };
}

const VOLATILE: ReadonlySet<string> = new Set([
  'deadline',
  'timeLeftMs',
  'paceLeftMs',
  'newConnectionsPerSecond',
  'uptimeSeconds',
  'seenForMs',
  'lastPoll',
]);
