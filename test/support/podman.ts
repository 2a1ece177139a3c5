import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { envoyBinary } from './envoy.js';
import { makeFolder } from './folder.js';

const run = promisify(execFile);
/** Building an image takes a minute here. */
const LIMIT_MS = 240_000;
/** Images that tests have made; they stay for the next run, under a tag that names what they are made of. */
const PREFIX = 'localhost/pm2-envoy-test';
const CA_CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt';

/**
 * Settings that let Podman run in a container or a virtual machine of CI: runc, because crun does not
 * start on hybrid cgroups, and limits that need no privilege to set.
 */
const CONTAINERS_CONF = `[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]
`;

/**
 * What systemd needs in a container for the sandbox of a unit and for sysctl, and who tests it for a look into the
 * sandbox. Less than privileged: there systemd would also set this machine's kernel.
 */
export const AS_HOST: readonly string[] = [
  '--systemd=always',
  '--cap-add=SYS_ADMIN,SYS_PTRACE',
  '--security-opt=seccomp=unconfined',
  '--security-opt=apparmor=unconfined',
  '--security-opt=unmask=/proc/sys',
];

let conf: ReturnType<typeof makeFolder> | undefined;

/** Runs Podman; gives what it prints, rejects with what it says when it fails. */
export async function podman(...args: readonly string[]): Promise<string> {
  const { stdout } = await run('podman', args, {
    env: podmanEnv(),
    timeout: LIMIT_MS,
    maxBuffer: 1 << 26,
  });
  return stdout.trim();
}

/** The environment in which `podman` works here. */
export function podmanEnv(): NodeJS.ProcessEnv {
  if (!conf) {
    const folder = makeFolder();
    conf = folder;
    writeFileSync(join(folder.path, 'containers.conf'), CONTAINERS_CONF);
    process.once('exit', () => folder.remove());
  }
  return { ...process.env, CONTAINERS_CONF: join(conf.path, 'containers.conf') };
}

/**
 * A base image as `node:NN-slim` is one, for a machine that reaches no image registry: Debian by mmdebstrap,
 * with the Node that runs the tests, npm, and this machine's certificates.
 */
export function baseImage(): Promise<string> {
  // Without ca-certificates, as the official ones.
  return debianImage('base', ['libstdc++6', 'apt']);
}

/**
 * A host as a virtual machine is one: systemd as PID 1, an SSH server, Python; and what the base image has. It is run
 * with {@link AS_HOST}.
 */
export function hostImage(): Promise<string> {
  return debianImage('host', [
    'ca-certificates',
    'libstdc++6',
    'apt',
    'systemd',
    'systemd-sysv',
    'dbus',
    'openssh-server',
    'python3',
    'python3-apt',
    'iproute2',
    'procps',
    'libcap2-bin',
    'logrotate',
  ]);
}

/** An image that has Envoy where the official one has it, and nothing else. */
export async function envoyImage(name: 'ENVOY_BIN' | 'OLDER_ENVOY_BIN' = 'ENVOY_BIN') {
  const binary = envoyBinary(name);
  const { stdout } = await run(binary, ['--version']);
  return makeImage('envoy', [stdout], async (folder, tag) => {
    cpSync(binary, join(folder, 'envoy'), { dereference: true });
    const file = 'FROM scratch\nCOPY --chmod=755 envoy /usr/local/bin/envoy\n';
    await build(folder, tag, file);
  });
}

/** Ends and removes containers, whether or not they are there. */
export async function removeContainers(...names: readonly string[]): Promise<void> {
  if (names.length > 0) await podman('rm', '--force', '--time', '0', '--ignore', ...names);
}

function debianImage(name: string, packages: readonly string[]): Promise<string> {
  return makeImage(name, [process.version, ...packages], async (folder, tag) => {
    const include = `--include=${packages.join(',')}`;
    const tar = join(folder, 'debian.tar');
    await run('mmdebstrap', ['--quiet', '--variant=minbase', include, 'bookworm', tar], {
      timeout: LIMIT_MS,
    });
    await podman('import', '--quiet', tar, `${tag}-debian`);
    copyNode(join(folder, 'node'));
    await build(
      folder,
      tag,
      [
        `FROM ${tag}-debian`,
        'COPY node /usr/local',
        // Debian's own would change the kernel of the machine that runs the test.
        'RUN rm -f /usr/lib/sysctl.d/*',
        // As the official image has it.
        'RUN groupadd --gid 1000 node && useradd --uid 1000 --gid node --create-home node',
        'ENV NODE_EXTRA_CA_CERTS=/usr/local/share/ca-certificates.crt',
        '',
      ].join('\n'),
    );
  });
}

/** bin/node, npm, and the certificates that npm needs on this machine. */
function copyNode(folder: string): void {
  mkdirSync(join(folder, 'bin'), { recursive: true });
  cpSync(CA_CERTIFICATES, join(folder, 'share/ca-certificates.crt'));
  cpSync(process.execPath, join(folder, 'bin/node'), { dereference: true });
  cpSync(npmFolder(), join(folder, 'lib/node_modules/npm'), { recursive: true });
  for (const name of ['npm', 'npx']) {
    const script = `#!/bin/sh\nexec node /usr/local/lib/node_modules/npm/bin/${name}-cli.js "$@"\n`;
    writeFileSync(join(folder, 'bin', name), script, { mode: 0o755 });
  }
}

function npmFolder(): string {
  const prefix = resolve(dirname(process.execPath), '..');
  const folder = ['lib', 'share', 'local/lib']
    .map((name) => join(prefix, name, 'node_modules/npm'))
    .find((path) => existsSync(path));
  if (!folder) throw new Error(`no npm beside ${process.execPath}`);
  return folder;
}

/** Makes an image, unless there is one of this name that is made of the same. */
export async function makeImage(
  name: string,
  madeOf: readonly string[],
  make: (folder: string, tag: string) => Promise<void>,
): Promise<string> {
  const source = readFileSync(import.meta.filename, 'utf8');
  const hash = createHash('sha256').update(JSON.stringify([source, ...madeOf]));
  const tag = `${PREFIX}/${name}:${hash.digest('hex').slice(0, 12)}`;
  if (await hasImage(tag)) return tag;
  const folder = makeFolder();
  try {
    await make(folder.path, tag);
  } finally {
    folder.remove();
  }
  return tag;
}

function hasImage(tag: string): Promise<boolean> {
  return podman('image', 'exists', tag).then(
    () => true,
    () => false,
  );
}

async function build(folder: string, tag: string, containerfile: string): Promise<void> {
  const file = join(folder, 'Containerfile');
  writeFileSync(file, containerfile);
  await podman('build', '--quiet', '--file', file, '--tag', tag, folder);
}
