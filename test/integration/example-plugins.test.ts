import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { loadPlugins } from '../../src/plugins/load.js';
import { createTestHost, type TestHost } from '../../src/plugins/testing.js';
import { startConsul } from '../support/consul.js';
import { startSlack } from '../support/slack.js';

const EXAMPLES = resolve(import.meta.dirname, '../../docs/examples');

async function hostOf(name: string, options: object, env = {}): Promise<TestHost> {
  const [loaded = assert.fail()] = await loadPlugins([
    { path: `${EXAMPLES}/${name}-plugin.js`, options: {} },
  ]);
  return createTestHost(loaded.create, { ...options }, env);
}

describe('docs/examples/consul-plugin.js', () => {
  async function start(t: TestContext, options: object = {}) {
    const agent = await startConsul('secret');
    t.after(agent.close);
    const given = { agent: agent.url, token: `\${CONSUL_TOKEN}`, port: 443, ...options };
    return { agent, host: await hostOf('consul', given, { CONSUL_TOKEN: 'secret' }) };
  }

  it('registers a host that serves, and takes it out before a drain', async (t) => {
    const check = 'http://127.0.0.1:8090/readyz';
    const { agent, host } = await start(t, { id: 'web/1', service: 'web', tags: ['v1'], check });
    await host.run('start');
    assert.deepEqual(agent.services.get('web/1'), {
      ...{ ID: 'web/1', Name: 'web', Port: 443, Tags: ['v1'] },
      Check: { HTTP: check, Interval: '5s', Timeout: '2s' },
    });
    await host.run('shutdown');
    assert.equal(agent.services.size, 0);
    await host.run('resume');
    assert.equal(agent.services.get('web/1')?.Port, 443);
  });

  it('goes by this host’s name, and takes out what is not there', async (t) => {
    const { agent, host } = await start(t);
    await host.run('shutdown');
    await host.run('consul:register');
    assert.ok(agent.services.has(`envoy-${hostname()}`));
    await host.run('consul:deregister');
    assert.equal(agent.services.size, 0);
  });

  it('says what the agent has refused', async (t) => {
    const { host } = await start(t, { token: 'another' });
    await assert.rejects(
      host.run('start'),
      /Consul has answered PUT .* with 403: Permission denied/,
    );
  });

  it('is refused without a port, and with a value that its schema does not allow', async () => {
    await assert.rejects(
      hostOf('consul', { agent: 'consul:8500', tags: 'web' }),
      /"agent": "consul:8500" must be a URL .*"port" is missing: a port, 0 to 65535.*"tags": "web" must be a list/,
    );
    await assert.rejects(
      hostOf('consul', { port: 1, token: `\${NO}` }),
      /its value names .* NO, which/,
    );
  });
});

describe('docs/examples/slack-plugin.js', () => {
  async function start(t: TestContext, options: object = {}) {
    const slack = await startSlack('xoxb-1', 'C1');
    t.after(slack.close);
    const given = { api: slack.api, token: 'xoxb-1', channel: 'C1', ...options };
    return { slack, host: await hostOf('slack', given) };
  }

  it('says that a host leaves, and changes the message at the end', async (t) => {
    const { slack, host } = await start(t);
    await host.run('start');
    await host.run('shutdown', {
      drain: { connectionsAtStart: 5, outcome: 'timeout', connectionsLeft: 2 },
    });
    assert.deepEqual(slack.calls, ['chat.postMessage', 'chat.update']);
    assert.deepEqual(slack.texts(), [`${hostname()} has left service: timeout, 2 connections cut`]);
  });

  it('says once that a drain was taken back', async (t) => {
    const { slack, host } = await start(t);
    await host.run('shutdown', { drain: { outcome: 'cancelled' } });
    await host.run('resume');
    assert.deepEqual(slack.texts(), [`${hostname()} is back in service`]);
  });

  it('tells of each new Envoy where that is asked for', async (t) => {
    const { slack, host } = await start(t, { starts: true });
    await host.run('start');
    assert.deepEqual(slack.texts(), [`${hostname()} serves with a new Envoy`]);
  });

  it('says what Slack has refused, and never the token', async (t) => {
    const { host } = await start(t, { token: 'xoxb-secret' });
    await assert.rejects(host.run('shutdown'), (error: Error) => {
      assert.match(error.message, /Slack has refused chat\.postMessage: invalid_auth/);
      assert.doesNotMatch(error.message, /xoxb-secret/);
      return true;
    });
  });
});
