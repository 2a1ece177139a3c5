import { closeSync, fstatSync, openSync, readFileSync, type Stats, statSync } from 'node:fs';
import { messageOf } from '../errors.js';
import { type Log, silentLog } from '../log.js';
import type { Config } from './config.js';

/** The shutdown token as it is now; undefined: no one is trusted by a token. */
export type TokenSource = () => string | undefined;

/** A token must fit into the headers of a request, beside the others. */
const LONGEST = 4_096;

/**
 * Creates the token source of a loaded configuration. A `shutdown-token-file` is read at each call, so
 * a new token holds immediately, and the old one no longer; a file that is gone, empty or open to others
 * means no token, and is logged.
 */
export function createTokenSource(
  config: Pick<Config, 'shutdownToken' | 'shutdownTokenFile'>,
  log: Log = silentLog,
): TokenSource {
  const { shutdownToken, shutdownTokenFile: path } = config;
  // The pipe of a shell's <(…) can be read only once, and that was done.
  if (path === undefined || isPipe(path)) return () => shutdownToken;
  let token: string | undefined = shutdownToken;
  let problem: string | undefined;
  return () => {
    const last = { token, problem };
    try {
      // Opening a pipe would wait for a writer.
      if (isPipe(path)) throw new Error('is no longer a file');
      token = readTokenFile(path);
      problem = undefined;
    } catch (error) {
      token = undefined;
      problem = messageOf(error);
    }
    if (problem !== undefined && problem !== last.problem) {
      log.error(`no shutdown token is accepted: shutdown-token-file ${path} ${problem}`);
    } else if (token !== undefined && token !== last.token) {
      log.info(`shutdown-token-file ${path} has changed: the new token is valid`);
    }
    return token;
  };
}

/**
 * Reads a token file, without the space around the token.
 *
 * @throws Error whose message goes on after the file's name: `can't be read: …`, `is open to others …`
 */
export function readTokenFile(path: string): string {
  const { stats, text } = readWithStats(path);
  const problem = stats.isFile() ? openness(stats) : undefined;
  if (problem) throw new Error(problem);
  const token = text.trim();
  if (token === '') throw new Error("can't be used: the file is empty");
  const fault = tokenFault(token);
  if (fault) throw new Error(`can't be used: its content ${fault}`);
  return token;
}

/** Why a text can't be a token, without quoting it; undefined: it can. */
export function tokenFault(text: string): string | undefined {
  if (text.length > LONGEST) return `must be at most ${LONGEST} characters long`;
  // Anything else can't be sent as a header, or not by every client in the same way.
  if (/^[!-~]([ -~]*[!-~])?$/.test(text)) return undefined;
  return 'must be one line of printable ASCII, with no space around it';
}

/**
 * The rule of ssh and PostgreSQL for keys: no one but the owner; and where that is root, its group may
 * read. Kubernetes mounts a secret like that for a pod with fsGroup, where no other mode can be had.
 */
export function openness({ mode, uid }: Pick<Stats, 'mode' | 'uid'>): string | undefined {
  if ((mode & (uid === 0 ? 0o037 : 0o077)) === 0) return undefined;
  const shown = (mode & 0o777).toString(8).padStart(4, '0');
  return `is open to others (mode ${shown}): chmod ${uid === 0 ? 640 : 600} it; for a secret of Kubernetes set defaultMode: 0440, and fsGroup unless the container runs as root`;
}

function readWithStats(path: string): { stats: Stats; text: string } {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(path, 'r');
    const stats = fstatSync(descriptor);
    if (!stats.isFile() && !stats.isFIFO()) throw new Error('it is not a file');
    if (stats.size > 2 * LONGEST) throw new Error('it is too long for a token');
    return { stats, text: readFileSync(descriptor, 'utf8') };
  } catch (error) {
    throw new Error(`can't be read: ${messageOf(error)}`, { cause: error });
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

function isPipe(path: string): boolean {
  try {
    return statSync(path).isFIFO();
  } catch {
    return false;
  }
}
