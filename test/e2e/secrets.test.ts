import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { ask } from '../support/ask.js';
import { preparePm2 } from '../support/pm2.js';
import { eventually } from '../support/wait.js';

const TOKEN = 'tell-nobody-4f1c';

const COMMANDS = [['config'], ['config', '--json'], ['status'], ['shutdown', '--json']] as const;

/** Commands that are refused, with the token among what was typed. */
const MISTAKES = [
  ['config', '--shutdown-token', `${TOKEN}ü`],
  ['config', '--shutdown-tokn', TOKEN],
  ['config', '--shutdown-token', TOKEN, '--shutdown-token-file', 'nowhere'],
  ['status', '--shutdown-token', TOKEN, '--serve-port', '1', '--run-dir', '/nowhere'],
] as const;

/** Requests with the token, whether it is right there or not. */
const QUESTIONS = [
  { path: '/status', headers: { authorization: `Bearer ${TOKEN}` } },
  { path: '/status', headers: { authorization: `Bearer ${TOKEN}x`, via: 'x' } },
  { path: '/status', headers: { authorization: `Basic ${TOKEN}`, via: 'x' } },
  { path: `/shutdown?token=${TOKEN}`, headers: { via: 'x' } },
  { path: '/readyz', headers: { authorization: `Bearer ${TOKEN}` } },
] as const;

describe('the shutdown token', () => {
  it('is in no log, answer, output or file of pm2-envoy, and not in what it says of a mistake', async () => {
    const pm2 = await preparePm2({ 'log-level': 'debug' });
    try {
      pm2.env['PM2_ENVOY_SHUTDOWN_TOKEN'] = TOKEN;
      await pm2.start();
      const said: string[] = [];
      for (const question of QUESTIONS) {
        const { body, headers } = await ask({ port: pm2.ports.serve, ...question });
        said.push(JSON.stringify(headers) + body);
      }
      for (const { code, stdout, stderr } of await Promise.all(
        COMMANDS.map((c) => pm2.cli(...c)),
      )) {
        assert.equal(code, 0, stderr);
        said.push(stdout + stderr);
      }
      delete pm2.env['PM2_ENVOY_SHUTDOWN_TOKEN'];
      for (const { code, stderr } of await Promise.all(MISTAKES.map((c) => pm2.cli(...c)))) {
        assert.notEqual(code, 0);
        said.push(stderr);
      }
      for (const { envoy } of pm2.generations()) {
        said.push(readFileSync(`/proc/${envoy.pid}/environ`, 'utf8'));
      }
      await eventually('it to have refused a caller', () =>
        /refused: /.test(pm2.log('envoy-manager')),
      );
      said.push(...(await eventually('its files', () => filesIn(join(pm2.folder, 'run')))));
      said.push(pm2.log('envoy'), pm2.log('envoy-manager'), pm2.ownLog());
      for (const text of said) {
        assert.ok(text !== '', 'something said nothing at all');
        assert.ok(!text.includes(TOKEN), `told in: ${text.slice(0, 500)}`);
      }
    } finally {
      await pm2.stop();
    }
  });
});

/** Throws where one has been replaced meanwhile. */
function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((name) => join(folder, name))
    .filter((path) => statSync(path).isFile())
    .map((path) => readFileSync(path, 'utf8'));
}
