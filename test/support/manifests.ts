import { execFile } from 'node:child_process';
import { dirname, join, resolve } from 'node:path';
import { parseAllDocuments } from 'yaml';

export const ROOT: string = resolve(import.meta.dirname, '../..');
/** Of Kubernetes: the oldest that we say it works with, the oldest that upstream supports, and the newest. */
export const VERSIONS: readonly string[] = ['1.30', '1.35', '1.37'];
const LIMIT_MS = 120_000;

/** A program's end, and what it said. */
export interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

/** Builds a folder with a kustomization; rejects with what kustomize says, if only a warning. */
export async function kustomize(folder: string): Promise<string> {
  const binary = process.env['KUSTOMIZE_BIN'] ?? 'kustomize';
  const { code, stdout, stderr } = await call(binary, ['build', folder], {
    missing: 'go install sigs.k8s.io/kustomize/kustomize/v5, and set KUSTOMIZE_BIN',
  });
  if (code !== 0 || stderr !== '') throw new Error(stderr || stdout);
  return stdout;
}

/** Has kubernetes-validate compare files with the schemas of each of these versions of Kubernetes. */
export function validate(versions: readonly string[], files: readonly string[]): Promise<Ended> {
  const binary = process.env['KUBERNETES_VALIDATE_BIN'] ?? 'kubernetes-validate';
  const wanted = versions.flatMap((version) => ['-k', version]);
  return call(binary, ['--strict', ...wanted, ...files], {
    missing: 'pip install kubernetes-validate, and set KUBERNETES_VALIDATE_BIN',
    // What `pip install --target` has put beside it, and no Python knows of.
    env: { PYTHONPATH: dirname(dirname(binary)) },
  });
}

/** Runs `pm2-envoy doctor --manifest -`. */
export function doctor(manifest: string): Promise<Ended> {
  return call(
    process.execPath,
    [join(ROOT, 'bin/pm2-envoy.js'), 'doctor', '--manifest', '-'],
    { missing: 'npm run build' },
    manifest,
  );
}

/** What of a Kubernetes object the tests look at. */
export interface KubernetesObject {
  kind: string;
  metadata: { name: string; labels?: Record<string, string> };
  // biome-ignore lint/suspicious/noExplicitAny: the schemas are checked before it is read.
  spec: any;
}

/** The objects of a manifest. */
export function objectsOf(manifest: string): KubernetesObject[] {
  return parseAllDocuments(manifest).map((document) => document.toJS());
}

function call(
  binary: string,
  args: readonly string[],
  { missing, env = {} }: { missing: string; env?: NodeJS.ProcessEnv },
  input = '',
): Promise<Ended> {
  return new Promise((done, fail) => {
    const options = { env: { ...process.env, ...env }, timeout: LIMIT_MS, maxBuffer: 1 << 24 };
    const child = execFile(binary, [...args], options, (error, stdout, stderr) => {
      if (error?.code === 'ENOENT') fail(new Error(`${binary} is not there: ${missing}`));
      else if (error && typeof error.code !== 'number') fail(error);
      else done({ code: error ? Number(error.code) : 0, stdout, stderr });
    });
    child.stdin?.on('error', () => undefined).end(input);
  });
}
