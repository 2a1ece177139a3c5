import type { KubernetesObject } from './manifests.js';

/** What of a pod matters beside what the doctor looks at: each line is a fault. */
export function faultsOf({ spec }: KubernetesObject): string[] {
  const pod = spec.template.spec;
  const [container] = pod.containers;
  const checks: Record<string, boolean> = {
    'one container': pod.containers.length === 1,
    'not root': pod.securityContext?.runAsNonRoot === true && pod.securityContext.runAsUser > 0,
    seccomp: pod.securityContext?.seccompProfile?.type === 'RuntimeDefault',
    'no token of a service account': pod.automountServiceAccountToken === false,
    'no service links': pod.enableServiceLinks === false,
    'read-only root': container.securityContext?.readOnlyRootFilesystem === true,
    'no more privileges': container.securityContext?.allowPrivilegeEscalation === false,
    'no capabilities': String(container.securityContext?.capabilities?.drop) === 'ALL',
    'a writable /tmp': mountedAt(pod, '/tmp')?.emptyDir !== undefined,
    'the bootstrap': /^pm2-envoy-\w{10}$/.test(mountedAt(pod, '/etc/pm2-envoy')?.configMap?.name),
    startup: limitOf(container.startupProbe) >= 60,
    readiness: container.readinessProbe?.httpGet?.path === '/readyz',
    liveness: container.livenessProbe?.httpGet?.path === '/healthz',
    preStop: container.lifecycle?.preStop !== undefined,
    memory: Boolean(container.resources?.requests?.memory && container.resources.limits?.memory),
    cpu: Boolean(container.resources?.requests?.cpu) && !container.resources.limits?.cpu,
  };
  return Object.keys(checks).filter((name) => !checks[name]);
}

/** The volume of a pod that its container has at a path. */
// biome-ignore lint/suspicious/noExplicitAny: as in KubernetesObject
export function mountedAt({ volumes, containers }: any, path: string) {
  const mounts: { name: string; mountPath: string }[] = containers[0].volumeMounts;
  const name = mounts.find(({ mountPath }) => mountPath === path)?.name;
  return volumes.find((volume: { name: string }) => volume.name === name);
}

/** How many seconds a container has to start. */
function limitOf(probe: { periodSeconds?: number; failureThreshold?: number } | undefined): number {
  return probe ? (probe.periodSeconds ?? 10) * (probe.failureThreshold ?? 3) : 0;
}
