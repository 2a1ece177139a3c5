import assert from 'node:assert/strict';
import { it } from 'node:test';
import { createTestHost } from 'pm2-envoy/testing';
import { plugin as MyPlugin } from './index.js';

it('says when a drain begins, and how it ended', async () => {
  const host = createTestHost(MyPlugin, { greeting: 'moin' });
  await host.run('shutdown', { drain: { outcome: 'timeout', connectionsLeft: 3 } });
  assert.deepEqual(host.logged, ['moin: a drain begins', 'moin: timeout, 3 connections left']);
});

it('has a command', async () => {
  const host = createTestHost(MyPlugin);
  await host.run('my-plugin', { invocation: { options: { to: 'Envoy' } } });
  assert.deepEqual(host.logged, ['hello, Envoy']);
});

it('is refused with an option that its schema does not know', () => {
  assert.throws(() => createTestHost(MyPlugin, { greting: 'moin' }), /did you mean "greeting"/);
});
