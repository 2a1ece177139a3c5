/**
 * Says in pm2-envoy's log when a drain begins, and how it ended.
 *
 * @implements {import('pm2-envoy').Plugin}
 */
class MyPlugin {
  /** The options, as they stand beside the plugin's path in the configuration; pm2-envoy checks them. */
  static schema = {
    greeting: { format: 'text', default: 'hello', doc: 'What each line begins with.' },
    timeout: {
      format: 'positive duration',
      default: '2s',
      doc: 'How long the drain waits for the first line.',
    },
  };

  /**
   * @param {import('pm2-envoy').PluginHost} _host
   * @param {{ greeting: string, timeout: number }} options
   */
  constructor(_host, { greeting, timeout }) {
    /** `pm2-envoy my-plugin --to NAME` */
    this.commands = {
      'my-plugin': {
        usage: 'Greet',
        lifecycleEvents: ['greet'],
        options: { '--to <name>': 'whom' },
      },
    };
    this.hooks = {
      // Nothing is told to Envoy before this has ended, or the time limit is over.
      'before:shutdown:fail-health': {
        run: ({ log }) => log.info(`${greeting}: a drain begins`),
        required: true,
        timeoutMs: timeout,
      },
      'shutdown:finish': ({ drain, log }) =>
        log.info(`${greeting}: ${drain?.outcome}, ${drain?.connectionsLeft} connections left`),
      'my-plugin:greet': ({ invocation, log }) =>
        log.info(`${greeting}, ${invocation.options.to ?? 'world'}`),
    };
  }
}

export { MyPlugin as plugin };
