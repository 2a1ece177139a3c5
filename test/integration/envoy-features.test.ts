import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readlinkSync, statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { createAdminClient } from '../../src/admin/client.js';
import { terminateEnvoy } from '../../src/envoy/process.js';
import { isPm2EnvoyError } from '../../src/errors.js';
import { isAlive } from '../../src/host/process-identity.js';
import { createLog, type Log, silentLog } from '../../src/log.js';
import { relayAdmin } from '../../src/runner/relay-admin.js';
import { reopenLogs } from '../../src/runner/reopen-logs.js';
import { type Held, holdTcp, request } from '../support/clients.js';
import {
  FEATURE_ENVOYS,
  type OwnGeneration,
  withStage,
  writeScript,
} from '../support/generation.js';
import { pidsWith } from '../support/pm2.js';
import { eventually } from '../support/wait.js';

// The rows of docs/envoy-features.md that a generation by itself shows.
for (const name of FEATURE_ENVOYS) {
  describe(`Envoy features (${name})`, { concurrency: 3 }, () => {
    it('overload.global_downstream_max_connections: at the limit the generation can be asked and drained', () =>
      withStage(
        name,
        withRuntime({ 'overload.global_downstream_max_connections': 2 }),
        async (stage) => {
          const { admin, envoy } = await stage.start();
          // What was just closed may still count.
          const held: Held[] = [];
          await eventually('two that Envoy has accepted', async () => {
            held.push(await holdTcp(stage.ports.tcp));
            return held.length === 2;
          });
          const over = await dial(stage.ports.tcp);
          await once(over.resume(), 'close');
          // A connection each, as many as a manager, a runner and a command line may have.
          for (let asked = 0; asked < 4; asked += 1) {
            const other = createAdminClient({ kind: 'unix', path: adminSocketOf(stage) });
            assert.equal(await other.state(), 'LIVE');
            other.close();
          }
          await admin.failHealthCheck();
          assert.equal(await admin.state(), 'DRAINING');
          for (const one of held) one.close();
          assert.equal(await terminateEnvoy(envoy.identity), true);
        },
      ));

    it('admin.allow_paths: the own socket may ask everything, the relay what the bootstrap allows', () =>
      withStage(
        name,
        ({ admin }) => ({
          admin: {
            address: { socket_address: { address: '127.0.0.1', port_value: admin } },
            allow_paths: [{ exact: '/ready' }, { prefix: '/stats?filter=' }],
          },
        }),
        async (stage) => {
          if (name === 'OLDEST_ENVOY_BIN') {
            // It came with 1.37: Envoy itself refuses the bootstrap.
            await assert.rejects(stage.start(), (error: unknown) =>
              isPm2EnvoyError(error, 'bootstrap-invalid'),
            );
            return;
          }
          const running = await stage.start();
          await running.admin.failHealthCheck();
          await running.admin.passHealthCheck();
          await withRelay(running, async () => {
            const ask = async (path: string, method = 'GET') => {
              const reply = await fetch(`http://127.0.0.1:${stage.ports.admin}${path}`, { method });
              return `${reply.status} ${(await reply.text()).trim().split('\n')[0]}`;
            };
            assert.equal(await ask('/ready'), '200 LIVE');
            assert.match(await ask('/stats?filter=server.live'), /^200 server.live: 1/);
            assert.equal(await ask('/stats'), '403 request to path /stats not allowed');
            const quit = '/quitquitquit';
            assert.equal(await ask(quit, 'POST'), `403 request to path ${quit} not allowed`);
            assert.equal(await running.admin.state(), 'LIVE');
          });
        },
      ));

    it('admin.address in camelCase: its port is relayed', () =>
      withStage(
        name,
        ({ admin }) => ({
          admin: { address: { socketAddress: { address: '127.0.0.1', portValue: admin } } },
        }),
        async (stage) => {
          await withRelay(await stage.start(), async () => {
            const reply = await fetch(`http://127.0.0.1:${stage.ports.admin}/ready`);
            assert.equal(await reply.text(), 'LIVE\n');
          });
        },
      ));

    it('admin.address.pipe: its path is relayed, with its mode', () =>
      withStage(
        name,
        (_, folder) => ({
          admin: { address: { pipe: { path: join(folder, 'a.sock'), mode: 0o600 } } },
        }),
        async (stage) => {
          await withRelay(await stage.start(), async () => {
            const path = join(stage.folder, 'a.sock');
            assert.equal(statSync(path).mode & 0o777, 0o600);
            const client = createAdminClient({ kind: 'unix', path });
            assert.equal(await client.state(), 'LIVE');
            client.close();
          });
        },
      ));

    it('admin.address.pipe, abstract: relayed, or said that this Node can’t; never a file of that name', () =>
      withStage(
        name,
        (_, folder) => ({ admin: { address: { pipe: { path: `@${folder}/abstract` } } } }),
        async (stage) => {
          const said = await withRelay(await stage.start(), async () => {
            assert.equal(existsSync(`@${stage.folder}/abstract`), false);
          });
          const isRelayed = said === '';
          assert.ok(
            isRelayed || /can't listen on an abstract socket.*use a port or a path/.test(said),
            said,
          );
        },
      ));

    it('POST /reopen_logs: every generation opens its logs again', () =>
      withStage(name, plain, async (stage) => {
        await stage.start();
        await stage.start();
        const said: string[] = [];
        const log = { ...silentLog, info: (line: string) => void said.push(line) } as Log;
        await reopenLogs(stage.generations, log);
        assert.deepEqual(said.sort(), [
          'generation 1 has reopened its logs',
          'generation 2 has reopened its logs',
        ]);
      }));

    it('envoy-bin is a script that does not exec: the Envoy behind it is known, and ended with it', () =>
      withStage(name, plain, async (stage) => {
        const binary = writeScript(
          join(stage.folder, 'wrapper'),
          `'${stage.binary}' "$@"`,
          'exit $?',
        );
        const { generation, envoy } = await stage.start({ binary });
        const pids = pidsWith(generation.adminSocket);
        assert.equal(pids.length, 2, 'the script and Envoy');
        assert.equal(readlinkSync(`/proc/${envoy.identity.pid}/exe`), stage.binary);
        assert.deepEqual(generation.envoy, envoy.identity);
        assert.equal((await request(stage.ports.http)).status, 200);
        assert.equal(await terminateEnvoy(envoy.identity), true);
        assert.deepEqual(pidsWith(generation.adminSocket), []);
        assert.ok(await envoy.exited);
      }));

    it('envoy-bin is a script that does not exec: one that is given up leaves nothing behind', () =>
      withStage(name, plain, async (stage) => {
        const isCheck = `case "$*" in *--mode*|*--version*) exec '${stage.binary}' "$@";; esac`;
        const slow = writeScript(
          join(stage.folder, 'slow'),
          isCheck,
          'sleep 3',
          `'${stage.binary}' "$@"`,
        );
        await assert.rejects(
          stage.start({ binary: slow, liveLimitMs: 500 }),
          /was not LIVE within/,
        );
        assert.deepEqual(processesOf(stage.folder), []);
        const left = writeScript(join(stage.folder, 'left'), isCheck, `'${stage.binary}' "$@" &`);
        await assert.rejects(stage.start({ binary: left }), /exited with code 0/);
        assert.deepEqual(processesOf(stage.folder), []);
      }));

    it('envoy-bin is a script that does not exec: killed alone, it leaves Envoy serving', () =>
      withStage(name, plain, async (stage) => {
        const binary = writeScript(
          join(stage.folder, 'wrapper'),
          `'${stage.binary}' "$@"`,
          'exit $?',
        );
        const { generation, envoy } = await stage.start({ binary });
        const script = pidsWith(generation.adminSocket).find((pid) => pid !== envoy.identity.pid);
        process.kill(script ?? assert.fail(), 'SIGKILL');
        assert.deepEqual(await envoy.exited, { code: null, signal: 'SIGKILL', serves: true });
        assert.equal(isAlive(envoy.identity), true);
        assert.equal((await request(stage.ports.http)).status, 200);
        assert.equal(stage.generations.live().length, 1);
      }));
  });
}

const plain = (): Record<string, unknown> => ({});

function withRuntime(layer: Record<string, unknown>) {
  return (): Record<string, unknown> => ({
    layered_runtime: { layers: [{ name: 'static', static_layer: layer }] },
  });
}

function adminSocketOf({ generations }: { generations: { newest(): unknown } }): string {
  const { adminSocket } = generations.newest() as { adminSocket: string };
  return adminSocket;
}

async function dial(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

/** Processes that were started with the folder among their arguments. */
function processesOf(folder: string): number[] {
  return pidsWith(`${folder}/generations/`);
}

/** Relays as a runner does; gives what was warned of. */
async function withRelay({ generation }: OwnGeneration, use: () => Promise<void>): Promise<string> {
  let said = '';
  const stream = {
    write: (text: string) => {
      said += text;
    },
  };
  const log: Log = await createLog({
    name: 'test',
    level: 'warn',
    format: 'json',
    stream,
  });
  const relay = await relayAdmin(generation.admin, () => generation.adminSocket, log);
  try {
    await use();
  } finally {
    await relay?.close();
  }
  return said;
}
