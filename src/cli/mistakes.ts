import type { Command, CommanderError } from 'commander';
import { FORMATS } from '../config/formats.js';
import { isKey, specOf } from '../config/schema.js';
import { closest } from '../text.js';

/** What is wrong with a command line, and what to do: two lines. */
export type Mistake = readonly [what: string, more: string];

/** What people look for by the words of other programs. */
const KNOWN_ELSEWHERE: Readonly<Record<string, string>> = {
  drain: '`pm2-envoy shutdown` drains, and Envoy keeps running; `pm2 stop envoy` also stops it',
  stop: '`pm2 stop envoy` drains and stops Envoy; `pm2-envoy shutdown` only drains',
  start:
    '`pm2 start ecosystem.config.js` starts; `pm2-envoy redeploy` starts a stopped Envoy again',
  restart:
    '`pm2-envoy redeploy` brings up a new Envoy with no request lost; so does `pm2 restart envoy`',
  reload: '`pm2-envoy redeploy` checks first, then reloads; `pm2 reload envoy` only reloads',
  upgrade: '`pm2-envoy redeploy --envoy VERSION` installs and runs another Envoy',
  cancel: '`pm2-envoy resume` cancels a drain until the listeners close',
  undrain: '`pm2-envoy resume` cancels a drain until the listeners close',
  logs: '`pm2 logs envoy` and `pm2 logs envoy-manager` show the logs',
  install: '`pm2-envoy envoy install` downloads Envoy',
  which: '`pm2-envoy envoy which` prints which Envoy would be run',
  version: '`pm2-envoy --version` shows it',
  watch: '`pm2-envoy status --watch` watches',
};

/** `help envoy install` as `envoy install --help`: commander's own `help` reads one word only. */
export function expandHelp(argv: readonly string[]): readonly string[] {
  const end = argv.findIndex((word) => word.startsWith('-'));
  const words = end < 0 ? argv : argv.slice(0, end);
  return words.includes('help') ? [...words.filter((word) => word !== 'help'), '--help'] : argv;
}

/** A word that is no command in front of `--help`, which commander passes over; undefined: there is none. */
export function findMistake(program: Command, argv: readonly string[]): Mistake | undefined {
  if (!argv.includes('--help') && !argv.includes('-h')) return undefined;
  const { command, rest } = walk(program, argv);
  const [word] = rest;
  if (command.commands.length === 0 || word === undefined || word.startsWith('-')) return undefined;
  return explain(command, unknownCommand(command, word));
}

/** What commander refused, with the nearest command or option that there is. */
export function explainError(
  program: Command,
  argv: readonly string[],
  error: CommanderError,
): Mistake {
  const { command } = walk(program, argv);
  const quoted = /'([^']*)'/.exec(error.message)?.[1] ?? '';
  switch (error.code) {
    case 'commander.unknownCommand':
      return explain(command, unknownCommand(command, quoted));
    case 'commander.unknownOption':
      return explain(command, unknownOption(program, command, quoted));
    case 'commander.optionMissingArgument':
      return explain(command, missingValue(quoted));
    case 'commander.excessArguments':
      return explain(command, excessWord(command));
    default:
      return explain(command, error.message.replace(/^error: /, ''));
  }
}

/** Follows the words that are commands. */
function walk(
  program: Command,
  argv: readonly string[],
): { command: Command; rest: readonly string[] } {
  const [word, ...rest] = argv;
  const next = program.commands.find((one) => one.name() === word);
  return next ? walk(next, rest) : { command: program, rest: argv };
}

function explain(command: Command, what: string): Mistake {
  return [`pm2-envoy: ${what}`, `\`${pathOf(command)} --help\` says more`];
}

function pathOf(command: Command): string {
  return command.parent ? `${pathOf(command.parent)} ${command.name()}` : command.name();
}

function unknownCommand(command: Command, word: string): string {
  const names = command.commands.map((one) => one.name());
  const known = command.parent ? undefined : KNOWN_ELSEWHERE[word];
  if (known !== undefined) return `unknown command '${word}'; ${known}`;
  return `unknown command '${word}'${suggest(closest(word, names))}`;
}

function unknownOption(program: Command, command: Command, given: string): string {
  const [flag = '', value] = given.split('=');
  const known = flagsOf(command);
  if (known.includes(flag)) return `option '${flag}' takes no value, so leave out '=${value}'`;
  const owner =
    command === program ? program.commands.find((one) => flagsOf(one).includes(flag)) : undefined;
  if (owner) return `option '${flag}' goes after the command: pm2-envoy COMMAND ${given}`;
  if (/^-[vV]$/.test(flag)) return `unknown option '${given}'${suggest('--version')}`;
  const kebab = flag.replaceAll('_', '-').replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  return `unknown option '${given}'${suggest(closest(kebab, known))}`;
}

function missingValue(flags: string): string {
  const [flag = ''] = flags.split(' ');
  const key = flag.replace(/^--/, '');
  const allowed = isKey(key) ? `: ${FORMATS[specOf(key).format].allowed}` : '';
  return `option '${flags}' argument missing${allowed.replaceAll('`', '')}`;
}

function excessWord(command: Command): string {
  const [word = ''] = command.args.slice(command.registeredArguments.length);
  const option = closest(`--${word}`, flagsOf(command));
  return `too many arguments for '${command.name()}': '${word}'${suggest(option)}`;
}

function flagsOf(command: Command): string[] {
  return [...command.options.flatMap(({ long }) => (long ? [long] : [])), '--help'];
}

function suggest(word: string | undefined): string {
  return word === undefined ? '' : ` (Did you mean ${word}?)`;
}
