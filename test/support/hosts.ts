import { type ChildProcess, execFileSync, fork, spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import type { Answer, Question } from './ask.js';
import { end } from './manager.js';

const ASK = resolve(import.meta.dirname, 'ask.js');
const LIMIT_MS = 60_000;
const NO_NAMESPACES =
  "network namespaces can't be made here, which these tests need: run them as root, or let users make them (kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns), with iproute2 and util-linux installed";

/** A host of the test's own: a network namespace. */
export interface TestHost {
  ipv4: string;
  ipv6: string;
  /** Words before a command that make it run on this host. */
  within: readonly string[];
  /** Path of its namespace, for a container that is to have it. */
  namespace: string;
  run(command: string, ...args: string[]): string;
  /** Asks all questions at the same moment, each from this host. */
  ask(questions: readonly Question[]): Answer[];
  /** Asks from this host, while the test goes on. */
  call(question: Question): Promise<Answer>;
}

/** Two hosts that reach each other, and nothing else; there is no going without. */
export interface TestHosts {
  ours: TestHost;
  other: TestHost;
  stop(): Promise<void>;
}

/** Makes the two hosts. Neither this machine's addresses nor its routes change. */
export async function makeHosts(): Promise<TestHosts> {
  const holders: ChildProcess[] = [];
  try {
    const ours = await hold(SELF, holders);
    const other = await hold(ours.within, holders);
    const hosts = {
      ours: hostOf(ours, '198.51.100.1', 'fd00:7e57::1'),
      other: hostOf(other, '198.51.100.2', 'fd00:7e57::2'),
    };
    hosts.ours.run('ip', ...words(`link add eth0 type veth peer name eth0 netns ${other.pid}`));
    for (const host of Object.values(hosts)) bringUp(host, 'eth0');
    return { ...hosts, stop: () => endAll(holders) };
  } catch (cause) {
    await endAll(holders);
    throw new Error(NO_NAMESPACES, { cause });
  }
}

/** Hosts on one network, and one in its midst that reaches them all. */
export interface TestStar {
  /** 198.51.100.1 */
  center: TestHost;
  /** 198.51.100.11 and following. */
  around: TestHost[];
  stop(): Promise<void>;
}

/** Makes them: a bridge in the namespace of the center, and a link from it to each of the others. */
export async function makeStar(count: number): Promise<TestStar> {
  const holders: ChildProcess[] = [];
  try {
    const held = await hold(SELF, holders);
    const center = hostOf(held, '198.51.100.1', 'fd00:7e57::1');
    bringUp(center, 'br0', 'link add br0 type bridge');
    const around: TestHost[] = [];
    for (let number = 1; number <= count; number += 1) {
      const one = await hold(held.within, holders);
      const host = hostOf(one, `198.51.100.${10 + number}`, `fd00:7e57::${10 + number}`);
      const link = `to${number}`;
      center.run('ip', ...words(`link add ${link} type veth peer name eth0 netns ${one.pid}`));
      center.run('ip', ...words(`link set ${link} master br0 up`));
      bringUp(host, 'eth0');
      around.push(host);
    }
    return { center, around, stop: () => endAll(holders) };
  } catch (cause) {
    await endAll(holders);
    throw new Error(NO_NAMESPACES, { cause });
  }
}

/** Forks a TypeScript module on this machine, or by the words that make it run on a host. */
export function forkModule(file: string, within: readonly string[] = []): ChildProcess {
  const [execPath = '', ...words] = [...within, process.execPath];
  return fork(file, { execPath, execArgv: [...words, '--import', import.meta.resolve('tsx')] });
}

interface Held {
  pid: number;
  within: readonly string[];
}

/** This machine; without root, the first namespace also makes us root inside it. */
const SELF: readonly string[] = [];

/** Starts a process that holds a network namespace until its stdin ends: with this test at the latest. */
async function hold(within: readonly string[], holders: ChildProcess[]): Promise<Held> {
  const user = within === SELF && process.getuid?.() !== 0 ? ['--user', '--map-root-user'] : [];
  const [command = '', ...args] = [
    ...within,
    'unshare',
    ...user,
    '--net',
    'sh',
    '-c',
    'echo $$; cat',
  ];
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
  holders.push(child);
  const pid = await new Promise<number>((done, fail) => {
    child.once('error', fail);
    child.once('exit', (code) => fail(new Error(`unshare ended with ${code}`)));
    child.stdout.once('data', (data) => done(Number(data)));
    child.stderr.once('data', (data) => fail(new Error(String(data))));
  });
  const enter = process.getuid?.() === 0 ? [] : ['--user', '--preserve-credentials'];
  return { pid, within: ['nsenter', '--target', String(pid), ...enter, '--net', '--'] };
}

function hostOf({ pid, within }: Held, ipv4: string, ipv6: string): TestHost {
  const run = (input: string | undefined, words: readonly string[]): string => {
    const [command = '', ...args] = [...within, ...words];
    return execFileSync(command, args, {
      input,
      encoding: 'utf8',
      stdio: 'pipe',
      timeout: LIMIT_MS,
    });
  };
  return {
    ipv4,
    ipv6,
    within,
    namespace: `/proc/${pid}/ns/net`,
    run: (command, ...args) => run(undefined, [command, ...args]),
    ask: (questions) => JSON.parse(run(JSON.stringify(questions), [process.execPath, ASK])),
    call: async (question) => {
      const [command = '', ...args] = [...within, process.execPath, ASK];
      const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
      child.stdin.end(JSON.stringify([question]));
      const [answer] = JSON.parse(await text(child.stdout));
      return answer;
    },
  };
}

/** Gives the host its addresses, on a device that is there or made now. */
function bringUp(host: TestHost, device: string, make?: string): void {
  if (make) host.run('ip', ...words(make));
  host.run('ip', ...words('link set lo up'));
  host.run('ip', ...words(`addr add ${host.ipv4}/24 dev ${device}`));
  host.run('ip', ...words(`addr add ${host.ipv6}/64 dev ${device} nodad`));
  host.run('ip', ...words(`link set ${device} up`));
}

function words(text: string): string[] {
  return text.split(' ');
}

async function endAll(children: readonly ChildProcess[]): Promise<void> {
  await Promise.all(children.map(end));
}
