import { parseDuration } from '../../config/duration.js';
import { messageOf, Pm2EnvoyError } from '../../errors.js';
import { isObject } from '../../json.js';
import { closest } from '../../text.js';
import type { HookFunction, HookSpec } from '../api/types.js';

/** What the hooks of a ready-made plugin are configured with. */
export interface HookShape {
  /** The key that is meant where a hook's value is no object. */
  main: string;
  /** Its keys besides that one, `timeout` and `required`. */
  more?: readonly string[];
  /** Makes the hook of its settings. */
  create(settings: HookSettings): HookFunction;
}

/** The settings of one hook. */
export interface HookSettings {
  /** `before:shutdown:fail-health` */
  readonly hook: string;
  /**
   * What `parse` makes of the value of a key; it gets undefined where the key is left out. What it throws
   * is said with hook, key and value.
   *
   * @param show how the value is written there: a secret must not be
   */
  read<T>(key: string, parse: (value: unknown) => T, show?: (value: unknown) => string): T;
}

/** A value that is shown by its key alone: it may hold a secret. */
export const unshown = (): string => '';

const LONGEST_SHOWN = 200;

/**
 * Reads the options of a ready-made plugin, `{hooks: {NAME: …}}`. That each name is one of a lifecycle
 * event is the host's to check.
 *
 * @throws Pm2EnvoyError `plugin-invalid` at the first mistake: hook, key, value and what is allowed
 */
export function readHooks(
  options: Readonly<Record<string, unknown>>,
  shape: HookShape,
): Record<string, HookSpec> {
  refuseUnknown(Object.keys(options), ['hooks'], '');
  const { hooks } = options;
  if (!isObject(hooks) || Object.keys(hooks).length === 0) {
    throw invalid(`"hooks" must be an object, such as {"shutdown:finish": {"${shape.main}": …}}`);
  }
  return Object.fromEntries(
    Object.entries(hooks).map(([name, value]) => [name, readHook(name, value, shape)]),
  );
}

/** Whether a JSON value is an object. */
function readHook(hook: string, value: unknown, shape: HookShape): HookSpec {
  const given = isObject(value) ? value : { [shape.main]: value };
  const known = [shape.main, ...(shape.more ?? []), 'timeout', 'required'];
  refuseUnknown(Object.keys(given), known, `hook ${hook}: `);
  const settings: HookSettings = {
    hook,
    read: (key, parse, show = shown) => {
      try {
        return parse(given[key]);
      } catch (error) {
        const what = Object.hasOwn(given, key) ? show(given[key]) : 'is missing:';
        throw invalid([`hook ${hook}: "${key}"`, what, messageOf(error)].filter(Boolean).join(' '));
      }
    },
  };
  const timeoutMs = settings.read('timeout', parseTimeout);
  return {
    run: shape.create(settings),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    required: settings.read('required', (flag) => parseRequired(flag, hook)),
  };
}

function refuseUnknown(keys: readonly string[], known: readonly string[], where: string): void {
  const unknown = keys.find((key) => !known.includes(key));
  if (unknown === undefined) return;
  const near = closest(unknown, known);
  const hint = near ? ` (did you mean "${near}"?)` : '';
  throw invalid(
    `${where}${JSON.stringify(unknown)} is not a known key${hint}; known are ${known.join(', ')}`,
  );
}

function parseTimeout(value: unknown): number | undefined {
  if (value === undefined) return undefined;
  const ms = parseDuration(value);
  if (ms < 1) throw new Error('must be at least 1ms');
  return ms;
}

function parseRequired(value: unknown, hook: string): boolean {
  if (value !== undefined && typeof value !== 'boolean') throw new Error('must be true or false');
  if (value === true && !hook.startsWith('before:')) {
    throw new Error('is only for hooks before an event');
  }
  return value === true;
}

function shown(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length > LONGEST_SHOWN ? `${text.slice(0, LONGEST_SHOWN)}…` : text;
}

function invalid(reason: string): Pm2EnvoyError {
  return new Pm2EnvoyError('plugin-invalid', reason);
}
