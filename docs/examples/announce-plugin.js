import { writeFile } from 'node:fs/promises';

/**
 * Appends a line of JSON to a file at the beginning of each lifecycle event of a drain.
 *
 * @implements {import('pm2-envoy').Plugin}
 */
class AnnouncePlugin {
  #file;
  #last = Promise.resolve();

  /**
   * @param {import('pm2-envoy').PluginHost} host
   * @param {{ file?: string }} options
   */
  constructor(host, { file }) {
    if (typeof file !== 'string') throw new Error('its option "file" must be a path');
    this.#file = file;
    this.hooks = {};
    for (const command of ['shutdown', 'handover']) {
      for (const event of host.commands.get(command)?.lifecycleEvents ?? []) {
        this.hooks[`before:${command}:${event}`] = (context) => this.#announce(context);
      }
    }
    // Nothing is told to Envoy before this line is written, or two seconds are over.
    const run = (context) => this.#announce(context);
    this.hooks['before:shutdown:fail-health'] = { run, required: true, timeoutMs: 2_000 };
  }

  /** Hooks that are not required run beside the drain, so each line waits for the one before it. */
  #announce({ command, event, drain, signal }) {
    const line = JSON.stringify({
      at: new Date().toISOString(),
      command,
      event,
      connectionsLeft: drain?.connectionsLeft ?? null,
      outcome: drain?.outcome ?? null,
    });
    const write = () => writeFile(this.#file, `${line}\n`, { flag: 'a', signal });
    const written = this.#last.then(write);
    this.#last = written.catch(() => undefined);
    return written;
  }
}

export { AnnouncePlugin as plugin };
