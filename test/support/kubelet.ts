import type { TestHost } from './hosts.js';
import { podman } from './podman.js';

/** A preStop hook as a manifest has it. */
export type PreStop =
  | { exec: { command: readonly string[] } }
  | {
      httpGet: {
        path: string;
        port: number;
        httpHeaders?: readonly { name: string; value: string }[];
      };
    };

/** What of a pod matters when it is deleted; names as in a manifest. */
export interface DeletedPod {
  /** Its only container, for Podman. */
  name: string;
  podIp: string;
  preStop?: PreStop;
  terminationGracePeriodSeconds: number;
  /** {@link MINIMUM_GRACE_S} by default, as any kubelet has it. */
  minimumGraceS?: number;
  /** The host that the kubelet calls from. */
  node: TestHost;
}

/** How the end of a container went; times since the deletion, in milliseconds. */
export interface Deletion {
  /** `failed`: the kubelet makes an event of it, FailedPreStopHook. `unfinished`: it was left to itself. */
  hook: 'none' | 'done' | 'failed' | 'unfinished';
  /** What the hook printed or answered, which the kubelet does not look at, or why it failed. */
  hookSaid: string;
  /** When SIGTERM was sent. */
  termAtMs: number;
  endAtMs: number;
  /** 137: by SIGKILL. */
  exitCode: number;
}

/**
 * The kubelet always gives this long from SIGTERM to SIGKILL.
 * Source: minimumGracePeriodInSeconds, pkg/kubelet/kuberuntime/kuberuntime_container.go.
 */
const MINIMUM_GRACE_S = 2;

/**
 * Ends a container as the kubelet does when its pod is deleted. Source of the order: killContainer in
 * pkg/kubelet/kuberuntime/kuberuntime_container.go, and "Termination of Pods" in the documentation of
 * Kubernetes:
 *
 * 1. The grace period begins. The preStop hook runs inside it.
 * 2. SIGTERM comes when the hook has returned, whatever it returned, or when the grace period is over.
 * 3. SIGKILL comes when the rest of the grace period is over, but not sooner than 2 s after SIGTERM.
 */
export async function deletePod(pod: DeletedPod): Promise<Deletion> {
  const startMs = performance.now();
  const sinceMs = (): number => Math.round(performance.now() - startMs);
  const graceS = pod.terminationGracePeriodSeconds;
  const { hook, hookSaid } = await runPreStop(pod);
  const termAtMs = sinceMs();
  // executePreStopHook counts the time that the hook took in whole seconds.
  const leftS = Math.max(
    pod.minimumGraceS ?? MINIMUM_GRACE_S,
    graceS - Math.floor(termAtMs / 1_000),
  );
  // What the runtime does for the CRI call StopContainer(timeout): SIGTERM, wait, SIGKILL.
  await podman('stop', '--time', String(leftS), pod.name);
  const exitCode = Number(await podman('inspect', '--format={{.State.ExitCode}}', pod.name));
  return { hook, hookSaid, termAtMs, endAtMs: sinceMs(), exitCode };
}

/**
 * Source: executePreStopHook. A hook that takes longer than the grace period is neither waited for nor
 * ended: what it runs in the container goes on there.
 */
async function runPreStop(pod: DeletedPod): Promise<Pick<Deletion, 'hook' | 'hookSaid'>> {
  if (!pod.preStop) return { hook: 'none', hookSaid: '' };
  const limitMs = pod.terminationGracePeriodSeconds * 1_000;
  const timer: { id?: NodeJS.Timeout } = {};
  const tooLong = new Promise<Pick<Deletion, 'hook' | 'hookSaid'>>((resolve) => {
    timer.id = setTimeout(() => resolve({ hook: 'unfinished', hookSaid: '' }), limitMs);
  });
  const ran = runHook(pod, pod.preStop).then(
    (hookSaid) => ({ hook: 'done' as const, hookSaid }),
    (error: unknown) => ({ hook: 'failed' as const, hookSaid: String(error) }),
  );
  return Promise.race([ran, tooLong]).finally(() => clearTimeout(timer.id));
}

/**
 * Source: Run and runHTTPHandler, pkg/kubelet/lifecycle/handlers.go. An exec fails by its exit code. An
 * httpGet goes to the pod's address and fails only when there is no answer: the status is not looked at.
 */
async function runHook({ name, podIp, node }: DeletedPod, preStop: PreStop): Promise<string> {
  if ('exec' in preStop) return podman('exec', name, ...preStop.exec.command);
  const { path, port, httpHeaders = [] } = preStop.httpGet;
  const headers = Object.fromEntries(httpHeaders.map(({ name, value }) => [name, value]));
  const agent = { 'user-agent': 'kube-lifecycle/1.37', accept: '*/*' };
  const answer = await node.call({
    host: podIp,
    port,
    path,
    headers: { ...agent, ...headers },
    limitMs: 600_000,
  });
  if (answer.error) throw new Error(`Get http://${podIp}:${port}${path}: ${answer.error}`);
  return `${answer.status} ${answer.body}`;
}
