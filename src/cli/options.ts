import { type Command, Option } from 'commander';
import { FORMATS, type FormatName } from '../config/formats.js';
import { KEYS, type Key, specOf } from '../config/schema.js';
import type { CommandSpec } from '../plugins/api/types.js';
import { helpAfter } from './help.js';

/** The options that every command has, as they were given. */
export interface GivenOptions {
  json: boolean;
  configFile: string | undefined;
  /** Name or number of the pm2 app whose settings count in place of the shell's. */
  app: string | undefined;
  /** Settings by their key. */
  flags: Record<string, string>;
}

/** Commands about an Envoy that pm2 runs. */
const ABOUT_AN_APP = [
  'shutdown',
  'resume',
  'status',
  'redeploy',
  'doctor',
  'config',
  'plugin:list',
];

/** Groups of our own; those of a plugin have a general text. */
const GROUPS: Readonly<Record<string, string>> = {
  envoy: 'Install an Envoy, or show which one would run',
  plugin: 'List the plugins in use, or create one',
};

/** Adds a command; `envoy:install` becomes the command `install` of the command `envoy`. */
export function addCommand(program: Command, name: string, spec: CommandSpec): Command {
  const words = name.split(':');
  const last = words.pop() ?? name;
  let parent = program;
  for (const word of words) {
    parent =
      parent.commands.find((command) => command.name() === word) ??
      parent.command(word).description(GROUPS[word] ?? `Commands for ${word}`);
  }
  const command = parent.command(spec.arguments ? `${last} ${spec.arguments}` : last);
  command.description(spec.usage);
  for (const [flags, usage] of Object.entries(spec.options ?? {})) command.option(flags, usage);
  if (ABOUT_AN_APP.includes(name)) {
    command.option('--app <name>', 'the Envoy of this app of pm2, with its settings');
  }
  command.option('--json', 'print one JSON document');
  command.helpOption('-h, --help', 'show this help');
  // The same of every command: one shows them.
  const isHidden = name !== 'config';
  command.optionsGroup('Settings (also in a file, or as PM2_ENVOY_…; see docs/configuration.md):');
  command.addOption(
    new Option('--config <file>', 'JSON file with any of the following').hideHelp(isHidden),
  );
  for (const key of settingsOf(spec)) {
    const flag = `--${key} <${PLACEHOLDERS[specOf(key).format]}>`;
    command.addOption(new Option(flag, describeSetting(key)).hideHelp(isHidden));
  }
  command.addHelpText('after', helpAfter(name));
  return command;
}

/** The settings that are no option of the command's own: `doctor --grace-period` is what to check against. */
function settingsOf({ options = {} }: CommandSpec): Key[] {
  const own = Object.keys(options).map((flags) => /--([\w-]+)/.exec(flags)?.[1]);
  return KEYS.filter((key) => !own.includes(key));
}

/** Reads them from what commander has parsed. */
export function takeOptions(
  spec: CommandSpec,
  options: Readonly<Record<string, unknown>>,
): GivenOptions {
  const { config, app } = options;
  const flags: Record<string, string> = {};
  for (const key of settingsOf(spec)) {
    const value = options[camelCase(key)];
    if (typeof value === 'string') flags[key] = value;
  }
  return {
    json: options['json'] === true,
    configFile: typeof config === 'string' ? config : undefined,
    app: typeof app === 'string' ? app : undefined,
    flags,
  };
}

const PLACEHOLDERS: Readonly<Record<FormatName, string>> = {
  duration: 'duration',
  'positive duration': 'duration',
  'grace period': 'duration',
  count: 'number',
  port: 'port',
  host: 'ip',
  'admin address': 'address',
  'drain rule': 'rule',
  'listener rule': 'rule',
  'orphaned drain rule': 'rule',
  token: 'token',
  path: 'path',
  list: 'a,b',
  arguments: '"a b"',
  plugins: 'a,b',
  'log level': 'level',
  'log format': 'format',
};
/** Their values are words that only the whole text explains. */
const CHOICES: readonly FormatName[] = ['drain rule', 'listener rule', 'orphaned drain rule'];

/** What fits into a line or two; all of it is in docs/configuration.md. */
function describeSetting(key: Key): string {
  const { doc, format, default: value } = specOf(key);
  const text = CHOICES.includes(format) ? doc : (doc.split(/(?<=\.) /)[0] ?? doc);
  const isShort = typeof value === 'string' || typeof value === 'number';
  const allowed = key.startsWith('log-') ? ` Allowed: ${FORMATS[format].allowed}.` : '';
  return `${text}${allowed}${isShort ? ` Default: ${value}.` : ''}`.replaceAll('`', '');
}

function camelCase(key: string): string {
  return key.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
}
