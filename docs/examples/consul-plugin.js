import { hostname } from 'node:os';

/**
 * Registers this host with the Consul agent beside it once Envoy serves, and deregisters it before a drain.
 * The agent's HTTP API: https://developer.hashicorp.com/consul/api-docs/agent/service
 *
 * @implements {import('pm2-envoy').Plugin}
 */
class ConsulPlugin {
  static schema = {
    agent: { format: 'url', default: 'http://127.0.0.1:8500', doc: 'The agent’s HTTP address.' },
    token: {
      format: 'text',
      default: null,
      secret: true,
      doc: 'ACL token, by way of an environment variable.',
    },
    service: { format: 'text', default: 'envoy', doc: 'Name of the service.' },
    id: { format: 'text', default: `envoy-${hostname()}`, doc: 'ID of this host’s instance.' },
    address: {
      format: 'text',
      default: null,
      doc: 'Where clients reach it; else the agent’s own.',
    },
    port: { format: 'port', doc: 'Port that clients connect to.' },
    tags: { format: 'list', default: [], doc: 'Tags of the service.' },
    check: {
      format: 'url',
      default: null,
      doc: 'What Consul asks every 5 s, such as http://127.0.0.1:8090/readyz.',
    },
    timeout: {
      format: 'positive duration',
      default: '5s',
      doc: 'How long a drain waits for the agent.',
    },
  };

  #options;

  constructor(_host, options) {
    this.#options = options;
    const register = ({ log, signal }) => this.#register(log, signal);
    const deregister = ({ log, signal }) => this.#deregister(log, signal);
    const { timeout: timeoutMs } = options;
    this.commands = {
      'consul:status': {
        usage: 'Show what the Consul agent knows of this host',
        lifecycleEvents: ['show'],
      },
      'consul:register': { usage: 'Register this host with Consul', lifecycleEvents: ['put'] },
      'consul:deregister': { usage: 'Take this host out of Consul', lifecycleEvents: ['put'] },
    };
    this.hooks = {
      'start:live': { run: register, timeoutMs },
      'before:shutdown:fail-health': { run: deregister, timeoutMs, required: true },
      'after:resume:pass-health': { run: register, timeoutMs },
      'consul:status:show': async ({ signal }) => console.log(await this.#status(signal)),
      'consul:register:put': register,
      'consul:deregister:put': deregister,
    };
  }

  async #register(log, signal) {
    const { id, service, address, port, tags, check } = this.#options;
    const body = {
      ...{ ID: id, Name: service, Port: port, Tags: tags },
      ...(address ? { Address: address } : {}),
      ...(check ? { Check: { HTTP: check, Interval: '5s', Timeout: '2s' } } : {}),
    };
    await this.#call('PUT', 'register?replace-existing-checks=true', { body, signal });
    log.info(`Consul has ${id} of the service ${service}`);
  }

  async #deregister(log, signal) {
    const { id } = this.#options;
    // 404: it was not there.
    await this.#call('PUT', `deregister/${encodeURIComponent(id)}`, { signal, passes: [404] });
    log.info(`Consul has ${id} no more`);
  }

  async #status(signal) {
    const path = encodeURIComponent(this.#options.id);
    const { status, text } = await this.#call('GET', path, { signal, passes: [404] });
    return status === 404 ? 'not registered' : text;
  }

  async #call(method, path, { body, signal, passes = [] }) {
    const { agent, token } = this.#options;
    const reply = await fetch(new URL(`/v1/agent/service/${path}`, agent), {
      method,
      signal,
      headers: {
        'content-type': 'application/json',
        ...(token ? { 'x-consul-token': token } : {}),
      },
      ...(body ? { body: JSON.stringify(body) } : {}),
    });
    const text = await reply.text();
    if (reply.ok || passes.includes(reply.status)) return { status: reply.status, text };
    throw new Error(`Consul has answered ${method} ${path} with ${reply.status}: ${text.trim()}`);
  }
}

export { ConsulPlugin as plugin };
