import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { it } from 'node:test';
import { startConsul } from '../support/consul.js';
import { preparePm2 } from '../support/pm2.js';
import { startSlack } from '../support/slack.js';
import { patiently } from '../support/wait.js';

const EXAMPLES = resolve(import.meta.dirname, '../../docs/examples');

it('the examples for Consul and Slack: in and out of service, over a drain that is taken back', async () => {
  const [consul, slack] = await Promise.all([startConsul('secret'), startSlack('xoxb-1', 'C1')]);
  const pm2 = await preparePm2({
    'check-delay': '30s',
    'drain-timeout': '60s',
    plugins: [
      [
        `${EXAMPLES}/consul-plugin.js`,
        { agent: consul.url, token: `\${TOKEN}`, port: 443, id: 'one' },
      ],
      [`${EXAMPLES}/slack-plugin.js`, { api: slack.api, token: 'xoxb-1', channel: 'C1' }],
    ],
  });
  try {
    pm2.env['TOKEN'] = 'secret';
    await pm2.start();
    await patiently('Consul to have it', () => consul.services.has('one'));
    const shown = await pm2.cli('consul', 'status');
    assert.equal(JSON.parse(shown.stdout).Port, 443, shown.stderr);

    const drain = pm2.http('POST', '/shutdown');
    await patiently('Slack to be told', () => slack.texts().length === 1);
    assert.ok(!consul.services.has('one'), 'Consul is told before anything else');
    assert.match(slack.texts()[0] ?? '', new RegExp(`^${hostname()} leaves service`));
    await pm2.http('DELETE', '/shutdown');
    assert.equal((await drain).status, 409);
    await patiently('Consul to have it again', () => consul.services.has('one'));
    await patiently('Slack to be told', () => slack.texts()[0]?.endsWith(' is back in service'));

    await pm2.cli('shutdown', '--check-delay', '0s');
    await pm2.pm2('stop', 'envoy');
    await patiently('Slack to be told', () =>
      slack.texts()[1]?.includes('has left service: drained'),
    );
    assert.ok(!consul.services.has('one'));
    assert.equal(slack.texts().length, 2, slack.texts().join('; '));
  } finally {
    await pm2.stop();
    consul.close();
    slack.close();
  }
});
