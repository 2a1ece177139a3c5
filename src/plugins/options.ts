import { resolve } from 'node:path';
import { parseDuration } from '../config/duration.js';
import { FORMATS } from '../config/formats.js';
import { messageOf, Pm2EnvoyError } from '../errors.js';
import { closest } from '../text.js';
import type { OptionFormat, OptionSpec, PluginHost, PluginSchema } from './api/types.js';
import { fillInAll } from './ready-made/variables.js';

type Kind = Exclude<OptionFormat, readonly string[]>;

/** What is allowed of each kind, for messages and `pm2-envoy plugin list`. */
const ALLOWED: Readonly<Record<Kind, string>> = {
  text: 'a text, not empty',
  url: 'a URL that begins with http:// or https://',
  flag: 'true or false',
  list: 'a list of texts',
  count: FORMATS.count.allowed,
  port: FORMATS.port.allowed,
  path: FORMATS.path.allowed,
  duration: FORMATS.duration.allowed,
  'positive duration': FORMATS['positive duration'].allowed,
};
const WITH_VARIABLES: readonly OptionFormat[] = ['text', 'url', 'path', 'list'];

/**
 * The options of a plugin as its schema wants them, with its defaults.
 *
 * @throws Pm2EnvoyError `plugin-invalid` with every mistake: option, value and what is allowed
 */
export function readOptions(
  schema: PluginSchema,
  given: Readonly<Record<string, unknown>>,
  env: PluginHost['env'],
): Record<string, unknown> {
  const problems = Object.keys(given)
    .filter((name) => !Object.hasOwn(schema, name))
    .map((name) => describeUnknown(name, Object.keys(schema)));
  const options: Record<string, unknown> = {};
  for (const [name, spec] of Object.entries(schema)) {
    try {
      const value = readOption(spec, given[name], env);
      if (value !== undefined) options[name] = value;
    } catch (error) {
      const shown = spec.secret ? 'its value' : JSON.stringify(given[name]);
      problems.push(
        given[name] === undefined
          ? `"${name}" ${messageOf(error)}`
          : `"${name}": ${shown} ${messageOf(error)}`,
      );
    }
  }
  if (problems.length > 0) throw new Pm2EnvoyError('plugin-invalid', problems.join('; '));
  return options;
}

/** What is allowed, in words. */
export function allowedOf(format: OptionFormat): string {
  if (!isFormat(format)) return `no format of ours (${format})`;
  if (typeof format === 'string') return ALLOWED[format];
  return `${format.slice(0, -1).join(', ')} or ${format.at(-1)}`;
}

/** A schema is what a plugin's author has written: a JSON Schema, too. */
function isFormat(format: unknown): boolean {
  return typeof format === 'string' ? Object.hasOwn(ALLOWED, format) : Array.isArray(format);
}

function describeUnknown(name: string, known: readonly string[]): string {
  const near = closest(name, known);
  return `"${name}" is not a known option${near ? ` (did you mean "${near}"?)` : ''}; known are ${known.join(', ') || 'none'}`;
}

function readOption(spec: OptionSpec, given: unknown, env: PluginHost['env']): unknown {
  const { format } = spec;
  if (!isFormat(format)) {
    throw new Error(
      `has the format ${format} in its schema; there are ${Object.keys(ALLOWED).join(', ')}, and lists of texts`,
    );
  }
  if (given === undefined && spec.default === undefined) {
    throw new Error(`is missing: ${allowedOf(format)}. ${spec.doc}`);
  }
  const value = given === undefined ? spec.default : given;
  if (value === null && spec.default === null) return undefined;
  const filled = WITH_VARIABLES.includes(format) ? fillInAll(value, env) : value;
  if (!isAllowed(format, filled)) throw new Error(`must be ${allowedOf(format)}`);
  if (format === 'path') return resolve(String(filled));
  return format === 'duration' || format === 'positive duration' ? parseDuration(filled) : filled;
}

function isAllowed(format: OptionFormat, value: unknown): boolean {
  switch (format) {
    case 'text':
      return typeof value === 'string' && value !== '';
    case 'url':
      return typeof value === 'string' && /^https?:\/\//.test(value) && URL.canParse(value);
    case 'flag':
      return typeof value === 'boolean';
    case 'list':
    case 'count':
    case 'port':
    case 'path':
    case 'duration':
    case 'positive duration':
      return passes(() => FORMATS[format].validate(value)) && value !== null;
    default:
      return format.some((one) => one === value);
  }
}

function passes(check: () => void): boolean {
  try {
    check();
    return true;
  } catch {
    return false;
  }
}
