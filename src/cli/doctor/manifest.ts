import { readFileSync } from 'node:fs';
import { text as readAll } from 'node:stream/consumers';
import { parseAllDocuments } from 'yaml';
import { fileReasonOf, messageOf, Pm2EnvoyError } from '../../errors.js';
import { isOurs, type StoppedContainer } from './container.js';
import { readAzure } from './platforms/azure.js';
import { readCloudRun } from './platforms/cloud-run.js';
import { readCompose } from './platforms/compose.js';
import { readEcs } from './platforms/ecs.js';
import { readFly } from './platforms/fly.js';
import { readKubernetes } from './platforms/kubernetes.js';
import { readNomad } from './platforms/nomad.js';
import { readQuadlet } from './platforms/quadlet.js';

/** Reads the containers of a document of one platform; undefined: it is of another platform. */
type Reader = (document: unknown) => StoppedContainer[] | undefined;

/** In the order in which they are asked; Kubernetes takes what is left. */
const READERS: readonly Reader[] = [readCompose, readEcs, readCloudRun, readAzure, readKubernetes];

/**
 * Reads a manifest: YAML or JSON of any number of documents, HCL, TOML, or a unit of Podman.
 *
 * @param file its path; `-`: stdin
 * @throws Pm2EnvoyError `config-invalid` when it can't be read
 */
export async function readManifest(file: string): Promise<string> {
  if (file === '-' && process.stdin.isTTY) {
    throw unreadable('stdin is a terminal: pipe the manifest into it');
  }
  try {
    return file === '-' ? await readAll(process.stdin) : readFileSync(file, 'utf8');
  } catch (error) {
    throw unreadable(`${file} can't be read: ${fileReasonOf(error, file)}`, error);
  }
}

/**
 * Finds every container with pm2-envoy in a manifest: one that has its variables, its command, its hook, or an image
 * that is named after it.
 *
 * @throws Pm2EnvoyError `config-invalid` when it can't be parsed, with the place
 */
export async function findContainers(manifest: string): Promise<StoppedContainer[]> {
  return (await containersOf(manifest)).filter(isOurs);
}

/** What a manifest is written in shows in its text: stdin has no name. */
async function containersOf(manifest: string): Promise<StoppedContainer[]> {
  if (/^\s*\[Container\]\s*$/m.test(manifest)) return readQuadlet(manifest);
  if (/^\s*job\s+"?[\w.-]+"?\s*\{/m.test(manifest)) {
    // Only the doctor needs them, and only for these.
    const { parse } = await import('@cdktn/hcl2json');
    return readNomad(await parsed('HCL', manifest, () => parse('manifest', manifest)));
  }
  if (/^\s*\[{1,2}[\w.'"-]+\]{1,2}\s*(#.*)?$/m.test(manifest) && /^\s*[\w.]+\s*=/m.test(manifest)) {
    const { parse } = await import('smol-toml');
    return readFly(await parsed('TOML', manifest, async () => parse(manifest)));
  }
  const documents = await yamlOf(manifest);
  return documents.flatMap((document) => {
    for (const read of READERS) {
      const found = read(document);
      if (found) return found;
    }
    return [];
  });
}

async function yamlOf(manifest: string): Promise<unknown[]> {
  return parsed('YAML', manifest, async () => {
    // Its warnings would go to stderr. kubectl takes merge keys (`<<: *base`), which YAML 1.2 has no more.
    const documents = [...parseAllDocuments(manifest, { logLevel: 'error', merge: true })];
    const [fault] = documents.flatMap(({ errors }) => errors);
    if (fault) throw fault;
    return documents.map((document): unknown => document.toJS());
  });
}

async function parsed<T>(language: string, manifest: string, parse: () => Promise<T>): Promise<T> {
  try {
    return await parse();
  } catch (error) {
    const [line = ''] = messageOf(error).split('\n');
    // A template has no place of a fault that would help.
    const hint = manifest.includes('{{') ? '; render a template first (`helm template`)' : '';
    throw unreadable(`it is not valid ${language}: ${line.replace(/:$/, '')}${hint}`, error);
  }
}

function unreadable(reason: string, cause?: unknown): Pm2EnvoyError {
  return new Pm2EnvoyError('config-invalid', `--manifest: ${reason}`, { cause });
}
