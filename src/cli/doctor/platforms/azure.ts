import type { StoppedContainer } from '../container.js';
import { type Fields, listOf, objectOf, textOf } from '../fields.js';
import { readPod } from './kubernetes.js';

/** terminationGracePeriodSeconds of Azure Container Apps: what is not said, and the most. */
const RULES = { platform: 'Container Apps', graceSeconds: 30, mostSeconds: 600 };

/** The containers of a container app, of `az containerapp --yaml` or ARM; undefined: there is none. */
export function readAzure(document: unknown): StoppedContainer[] | undefined {
  const apps = appsIn(document);
  return apps.length > 0 ? apps.flatMap(readApp) : undefined;
}

function appsIn(value: unknown): Fields[] {
  if (typeof value !== 'object' || value === null) return [];
  const fields = objectOf(value);
  const { template } = objectOf(fields['properties']);
  if (Array.isArray(objectOf(template)['containers'])) return [fields];
  const { resources } = fields;
  return listOf(resources).flatMap(appsIn);
}

function readApp(app: Fields): StoppedContainer[] {
  const template = objectOf(objectOf(app['properties'])['template']);
  const containers = listOf(template['containers']).map((one) => {
    const container = objectOf(one);
    const probes = listOf(container['probes'])
      .map(objectOf)
      .map((probe) => [`${String(probe['type']).toLowerCase()}Probe`, probe]);
    return { ...container, ...Object.fromEntries(probes) };
  });
  const where = `container app ${textOf(app['name']) ?? ''}`.trim();
  return readPod({ ...template, containers }, where, RULES);
}
