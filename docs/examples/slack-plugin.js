import { hostname } from 'node:os';

/**
 * Says in a Slack channel that a host is drained, and changes that message when the drain has ended.
 * Slack's Web API: https://docs.slack.dev/reference/methods/chat.postMessage and chat.update. The token is that of a bot
 * with the scope chat:write, which is a member of the channel.
 *
 * @implements {import('pm2-envoy').Plugin}
 */
class SlackPlugin {
  static schema = {
    token: { format: 'text', secret: true, doc: 'Token of the bot.' },
    channel: { format: 'text', doc: 'ID of the channel, such as C024BE91L.' },
    api: { format: 'url', default: 'https://slack.com/api/', doc: 'Where Slack’s methods are.' },
    starts: {
      format: 'flag',
      default: false,
      doc: 'Whether each new Envoy is worth a message, too.',
    },
  };

  #options;
  /** The message of the drain under way, as Slack names it. */
  #message;
  #last = Promise.resolve();

  constructor(_host, options) {
    this.#options = options;
    const host = hostname();
    const leaves = ({ connectionsAtStart: count } = {}) =>
      `${host} leaves service${typeof count === 'number' ? `, with ${count} connections open` : ''}`;
    const left = ({ outcome, connectionsLeft } = {}) =>
      `${host} has left service: ${outcome}, ${connectionsLeft ?? 'unknown'} connections cut`;
    this.hooks = {
      'after:shutdown:fail-health': ({ drain, signal }) =>
        this.#inTurn(async () => {
          this.#message = await this.#call('chat.postMessage', { text: leaves(drain) }, signal);
        }),
      'shutdown:finish': ({ drain, signal }) =>
        // A drain that was taken back is told of by the hook below.
        this.#inTurn(() =>
          drain?.outcome === 'cancelled' ? undefined : this.#say(left(drain), signal),
        ),
      'after:resume:pass-health': ({ signal }) =>
        this.#inTurn(() => this.#say(`${host} is back in service`, signal)),
    };
    if (options.starts) {
      this.hooks['start:live'] = ({ signal }) =>
        this.#inTurn(() => this.#say(`${host} serves with a new Envoy`, signal));
    }
  }

  /** Hooks that are not required run beside the drain, so each message waits for the one before it. */
  #inTurn(act) {
    const done = this.#last.then(act);
    this.#last = done.catch(() => undefined);
    return done;
  }

  /** Another process may have led the drain until now: then there is no message to change. */
  async #say(text, signal) {
    const { channel, ts } = this.#message ?? {};
    this.#message = undefined;
    if (ts) await this.#call('chat.update', { channel, ts, text }, signal);
    else await this.#call('chat.postMessage', { text }, signal);
  }

  async #call(method, body, signal) {
    const { api, token, channel } = this.#options;
    const reply = await fetch(new URL(method, api), {
      method: 'POST',
      signal,
      headers: {
        authorization: `Bearer ${token}`,
        'content-type': 'application/json; charset=utf-8',
      },
      body: JSON.stringify({ channel, ...body }),
    });
    if (!reply.ok) throw new Error(`Slack has answered ${method} with ${reply.status}`);
    // Most of what is wrong comes with 200.
    const answer = await reply.json();
    if (!answer.ok) throw new Error(`Slack has refused ${method}: ${answer.error}`);
    return answer;
  }
}

export { SlackPlugin as plugin };
