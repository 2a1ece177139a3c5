import assert from 'node:assert/strict';
import { after, before, describe, it, type TestContext } from 'node:test';
import { CASES, type CommandRow, TABLES } from '../support/pm2-commands.js';
import {
  ACCEPT_QUEUE,
  type AppOptions,
  between,
  type CommandHost,
  startCommandHost,
} from '../support/pm2-host.js';
import { describeTraffic } from '../support/traffic.js';

/** Each row of the page is run as it is written there, under load. */
describe('docs/pm2.md says of every command what requests see', { concurrency: 3 }, () => {
  for (const { heading, rows } of TABLES) {
    describe(heading, { concurrency: 1 }, () => {
      let host: CommandHost;
      before(async () => {
        host = await startCommandHost();
      });
      after(() => host?.stop());

      for (const row of rows) {
        it(`${row.what}: ${row.lost}, ${row.envoy}`, (t) => run(t, host, row));
      }
    });
  }
});

async function run(t: TestContext, host: CommandHost, row: CommandRow): Promise<void> {
  const { options, prepare, instances = 1 } = CASES[row.what] ?? {};
  if (options) await startWith(host, options, instances);
  await prepare?.(host);
  const commands = row.commands.length > 0 ? row.commands : [''];
  for (const command of commands) await measure(t, host, { row, command });
  if (options) await startWith(host, {}, 1);
}

/** The apps with other options of pm2, some of which it takes only at the first start. */
async function startWith(host: CommandHost, options: AppOptions, instances: number): Promise<void> {
  await host.run('pm2 delete all');
  host.write(options);
  await host.run('pm2 start FILE');
  await host.untilInstances(instances);
}

async function measure(
  t: TestContext,
  host: CommandHost,
  { row, command }: { row: CommandRow; command: string },
): Promise<void> {
  const { run, instances = 1 } = CASES[row.what] ?? {};
  const newest = (): number | undefined => host.pm2.generations().at(-1)?.number;
  const served = newest() ?? assert.fail('no generation');
  const first = await host.traffic.look();
  await (run ? run(host, command) : host.run(command));
  if (row.envoy === 'none') await host.untilGone();
  else await host.untilInstances(instances, row.envoy === 'another' ? served + 1 : 0);
  const last = await host.traffic.look();
  const { requests, lost, cut, slowCut } = between(first, last);
  t.diagnostic(`${command || row.what}: ${requests} requests, ${lost} lost, ${cut} of these cut`);
  if (row.envoy === 'the same') assert.equal(newest(), served);
  if (row.lost === '0') assert.equal(lost, 0, describeTraffic(last));
  else {
    assert.ok(lost > cut, 'no connection was refused');
    assert.equal(slowCut, 0, describeTraffic(last));
    assert.ok(cut <= ACCEPT_QUEUE, describeTraffic(last));
  }
  if (row.envoy !== 'none') return;
  await host.run('pm2 start FILE');
  await host.untilInstances(1);
}
