import { isPm2EnvoyError, messageOf } from '../errors.js';

/** The actions that an app offers to `pm2 trigger`. */
export interface Actions {
  /** As {@link Pm2Channel.onAction}. */
  offer(name: string, handler: () => unknown): void;
  /** Does what a message of pm2's asks for, if it is one of these actions. */
  hear(message: unknown): void;
  /** As {@link Pm2Channel.answered}. */
  answered(): Promise<void>;
  /** Answers those that are under way with an error. */
  abandon(): void;
}

const LEAVING = {
  code: 'leaving',
  message:
    'the app has exited before the action has completed; `pm2-envoy status` shows the current state',
};

/**
 * Creates the actions; `send` hands a message to pm2.
 *
 * pm2 hands an answer to every `pm2 trigger` that waits for this app, whatever it waits for, and one that
 * gets two too early waits for good (pm2's lib/API/Extra.js). So there are as few answers as can be.
 */
export function createActions(send: (message: unknown) => void): Actions {
  const handlers = new Map<string, () => unknown>();
  const underWay = new Map<string, Promise<void>>();

  const reply = (name: string, result: unknown): void => {
    if (!underWay.delete(name)) return;
    send({ type: 'axm:reply', data: { action_name: name, return: result } });
  };

  return {
    offer: (name, handler) => {
      handlers.set(name, handler);
      send({ type: 'axm:action', data: { action_name: name, opts: null, arity: 2 } });
    },
    hear: (message) => {
      const name = nameIn(message);
      const handler = handlers.get(name);
      if (!handler || underWay.has(name)) return;
      const answered = callSafely(handler).then((result) => reply(name, result));
      underWay.set(name, answered);
    },
    answered: async () => {
      while (underWay.size > 0) await Promise.all(underWay.values());
    },
    abandon: () => {
      for (const name of [...underWay.keys()]) reply(name, { error: LEAVING });
    },
  };
}

async function callSafely(handler: () => unknown): Promise<unknown> {
  try {
    return await handler();
  } catch (error) {
    const code = isPm2EnvoyError(error) ? error.code : 'internal';
    return { error: { code, message: messageOf(error) } };
  }
}

/** pm2 sends the bare name, or an object when a parameter came with it. */
function nameIn(message: unknown): string {
  if (typeof message === 'string') return message;
  const { msg } = (message ?? {}) as { msg?: unknown };
  return typeof msg === 'string' ? msg : '';
}
