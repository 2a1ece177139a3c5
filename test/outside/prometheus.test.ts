import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { holdTcp } from '../support/clients.js';
import { makeFolder } from '../support/folder.js';
import { withHost } from '../support/host.js';

const DEPLOY = resolve(import.meta.dirname, '../../deploy');
const LIMIT_MS = 60_000;

/** Runs promtool in deploy/prometheus; rejects with what it found. */
function promtool(args: readonly string[], input = ''): Promise<string> {
  const binary = process.env['PROMTOOL_BIN'] ?? 'promtool';
  return new Promise((done, fail) => {
    const options = { cwd: join(DEPLOY, 'prometheus'), timeout: LIMIT_MS };
    const child = execFile(binary, [...args], options, (error, stdout, stderr) => {
      if (!error) done(stdout + stderr);
      else if (error.code === 'ENOENT') {
        const message = `${binary} is not there: take it from Debian's package prometheus, and set PROMTOOL_BIN`;
        fail(new Error(message));
      } else fail(new Error(`${stdout}${stderr}` || error.message));
    });
    child.stdin?.on('error', () => undefined).end(input);
  });
}

describe('GET /metrics', () => {
  it('is what promtool has nothing to say about, idle and in a drain', () =>
    withHost({}, async (host) => {
      await host.startManager();
      const { ports } = await host.startGeneration();
      const held = await holdTcp(ports.tcp);
      const scrape = async (): Promise<string> => {
        const { status, body } = await host.http('GET', '/metrics');
        assert.equal(status, 200);
        return body;
      };
      assert.equal(await promtool(['check', 'metrics'], await scrape()), '');
      const answer = host.http('POST', '/shutdown');
      assert.equal(await promtool(['check', 'metrics'], await scrape()), '');
      held.close();
      await answer;
      assert.equal(await promtool(['check', 'metrics'], await scrape()), '');
    }));
});

describe('deploy/prometheus', () => {
  it('has rules that Prometheus takes', async () => {
    assert.match(await promtool(['check', 'rules', 'alerts.yaml']), /SUCCESS: \d+ rules found/);
  });

  it('has alerts that fire when they should, and only then', async () => {
    assert.match(await promtool(['test', 'rules', 'alerts.test.yaml']), /SUCCESS/);
  });
});

describe('deploy/grafana/dashboard.json', () => {
  it('asks nothing that Prometheus does not understand', async () => {
    const { panels } = JSON.parse(readFileSync(join(DEPLOY, 'grafana/dashboard.json'), 'utf8'));
    const rules = (panels as { targets?: { expr: string }[] }[])
      .flatMap(({ targets = [] }) => targets)
      .map(({ expr }, index) => ({
        record: `panel:${index}`,
        expr: expr.replaceAll('$__rate_interval', '1m').replaceAll('$instance', '.*'),
      }));
    const folder = makeFolder();
    try {
      const file = join(folder.path, 'rules.yaml');
      writeFileSync(file, JSON.stringify({ groups: [{ name: 'dashboard', rules }] }));
      const found = await promtool(['check', 'rules', file]);
      assert.match(found, new RegExp(`SUCCESS: ${rules.length} rules found`));
    } finally {
      folder.remove();
    }
  });
});
