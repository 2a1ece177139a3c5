import { type Held, holdTcp, holdWebSocket } from '../clients.js';
import type { Stage } from './clients.js';
import { waitAtMost } from './patience.js';

/** The connections that are held. */
export interface HeldPair {
  hold(): Promise<void>;
  echo(): Promise<void>;
  letGo(): void;
}

type HeldKind = 'tcp' | 'websocket';

const ECHO_LIMIT_MS = 15_000;

/** Creates an empty pair. Cuts and echoes that fail go into the tally. */
export function createHeldPair(stage: Pick<Stage, 'ports' | 'tally'>): HeldPair {
  const { tally } = stage;
  let held: { kind: HeldKind; connection: Held }[] = [];
  const open = async (kind: HeldKind): Promise<void> => {
    const { ports } = stage;
    try {
      const connection = await (kind === 'tcp' ? holdTcp(ports.tcp) : holdWebSocket(ports.http));
      held.push({ kind, connection });
      tally.answered(kind);
    } catch (error) {
      tally.lost(kind, `not opened: ${String(error)}`);
    }
  };
  return {
    hold: async () => {
      await Promise.all([open('tcp'), open('websocket')]);
    },
    echo: async () => {
      const echoed = held.map(async (one) => {
        try {
          await within(ECHO_LIMIT_MS, one.connection.echo('still here'));
          tally.answered(one.kind);
        } catch (error) {
          tally.lost(one.kind, String(error));
          one.connection.close();
          held = held.filter((other) => other !== one);
        }
      });
      await Promise.all(echoed);
    },
    letGo: () => {
      for (const { kind, connection } of held) {
        if (connection.isCut()) tally.lost(kind, 'cut while it was held');
        connection.close();
      }
      held = [];
    },
  };
}

function within(limitMs: number, done: Promise<void>): Promise<void> {
  let isOver: (() => void) | undefined;
  const late = new Promise<never>((_, reject) => {
    isOver = waitAtMost(limitMs, () => reject(new Error(`no echo within ${limitMs} ms`)));
  });
  return Promise.race([done, late]).finally(isOver);
}
