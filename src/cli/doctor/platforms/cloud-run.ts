import type { StoppedContainer } from '../container.js';
import { listOf, objectOf, textOf } from '../fields.js';
import { problem } from '../finding.js';
import { readPod } from './kubernetes.js';

/** Cloud Run: SIGKILL comes 10 s after SIGTERM, regardless of the manifest (docs/platforms.md). */
const GRACE_S = 10;
const RULES = { platform: 'Cloud Run', graceSeconds: GRACE_S, mostSeconds: GRACE_S };

/** The containers of a service of Cloud Run, or of Knative; undefined: it is none. */
export function readCloudRun(document: unknown): StoppedContainer[] | undefined {
  const { apiVersion, metadata, spec } = objectOf(document);
  if (!textOf(apiVersion)?.startsWith('serving.knative.dev/')) return undefined;
  const pod = objectOf(objectOf(objectOf(spec)['template'])['spec']);
  const where = `service ${textOf(objectOf(metadata)['name']) ?? ''}`;
  const hasHook = listOf(pod['containers']).some((one) => objectOf(one)['lifecycle']);
  return readPod(pod, where, RULES).map((container) => ({
    ...container,
    findings: [
      ...container.findings,
      ...(hasHook
        ? [problem('preStop', 'Cloud Run has no lifecycle hooks', 'leave lifecycle out')]
        : []),
    ],
  }));
}
