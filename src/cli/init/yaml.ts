import { stringify } from 'yaml';

/** YAML without references: pm2 changes what it has read. A module of its own, because other commands do without. */
export function toYaml(value: unknown): string {
  return stringify(value, { aliasDuplicateObjects: false });
}
