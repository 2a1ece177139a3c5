import type { Finding } from './finding.js';

/** A container with pm2-envoy, and how its platform stops it: all that a drain in it depends on. */
export interface StoppedContainer {
  /** For messages: `Deployment edge`. */
  where: string;
  /** Who stops it and asks its probes, for messages: `the kubelet`, `Docker`. */
  platform: string;
  /**
   * From the start of the hook, or else the first signal, to SIGKILL; undefined: it is not known, and a finding says
   * so, or asks for it.
   */
  gracePeriodMs: number | undefined;
  /** What the platform may cut the grace period to, by a setting that is not in the manifest. */
  limit?: { ms: number; message: string; remedy: string };
  /** Of the platform; undefined: the image's own, SIGTERM. */
  stopSignal: string | undefined;
  /** It has the addresses of its machine. */
  isHostNetwork: boolean;
  image: string;
  /** Entry point and arguments, where the image's own are replaced. */
  command: readonly string[];
  /** Variables of pm2-envoy and pm2; undefined: the value is somewhere else. */
  variables: Variables;
  /** Where further variables may come from: `envFrom`, `env_file`. */
  unseen: readonly string[];
  /** Ports by their names. */
  ports: ReadonlyMap<string, number>;
  /** What runs before the signal, within the grace period. */
  preStop: Action | undefined;
  probes: readonly Probe[];
  isReadOnlyRoot: boolean;
  mounts: readonly Mount[];
  /** What is wrong with the manifest's own fields, or holds on this platform only. */
  findings: readonly Finding[];
}

/** Names to values; undefined: the value is not in the manifest. */
export type Variables = ReadonlyMap<string, string | undefined>;

/** What a platform does for a hook or a probe. */
export type Action =
  | { kind: 'exec'; command: readonly string[] }
  | {
      kind: 'http';
      /** Undefined: the container's own address. */
      host?: string;
      path: string;
      /** NaN: there is no port of that name. */
      port: number;
      isHttps: boolean;
      /** What it sends as Authorization. */
      authorization?: string;
    }
  | { kind: 'port'; port: number }
  | { kind: 'sleep'; ms: number }
  | { kind: 'other' };

/** One probe of a container. */
export interface Probe {
  /** As the manifest calls it: `livenessProbe`. */
  name: string;
  /** `alive`: the container is ended when it says no. `ready`: it gets no new requests then. */
  role: 'startup' | 'ready' | 'alive';
  action: Action;
  timeoutSeconds: number;
  /** After this long of saying no the platform acts. */
  patienceMs: number;
  /** The grace period when this probe ends the container, where it has one of its own. */
  gracePeriodMs?: number;
}

/** A place in the container that is not the image's. */
export interface Mount {
  path: string;
  isWritable: boolean;
  /** Only a file or folder of the volume, which does not follow its changes. */
  isPart: boolean;
}

/** Whether a path lies in a mount. */
export function isWithin(path: string, { path: mount }: Pick<Mount, 'path'>): boolean {
  const folder = mount.endsWith('/') ? mount : `${mount}/`;
  return path === mount || path.startsWith(folder);
}

/** Whether anything says that pm2-envoy runs in it. */
export function isOurs(container: StoppedContainer): boolean {
  const { image, command, variables, preStop } = container;
  if ([...variables.keys()].some((name) => name.startsWith('PM2_ENVOY_'))) return true;
  const words = [image, ...command, ...(preStop?.kind === 'exec' ? preStop.command : [])];
  if (words.some((word) => /\bpm2-envoy\b/.test(word))) return true;
  // Other programs run under pm2-runtime too: an ecosystem file may be ours, a script is not.
  return command.some((word) => /\bpm2-runtime\b/.test(word)) && !runsScript(command);
}

/** Whether pm2-runtime is given another program instead of an ecosystem file. */
export function runsScript(command: readonly string[]): boolean {
  const words = command.join(' ').split(/\s+/);
  const at = words.findLastIndex((word) => /\bpm2-runtime$/.test(word));
  if (at < 0) return false;
  const [file] = words.slice(at + 1).filter((word) => word !== 'start' && !word.startsWith('-'));
  return file !== undefined && !/\.config\.[cm]?js$|\.json$|\.ya?ml$/.test(file);
}
