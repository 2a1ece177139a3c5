import type { Action } from './container.js';

/** What a hook by exec comes to. */
export interface Hook {
  /** `pm2-envoy shutdown` is in it. */
  drains: boolean;
  /** How long it sleeps; undefined: it sleeps for a time that can't be read. */
  sleepMs: number | undefined;
  /** Why nothing runs at all. */
  fault?: string;
}

const UNITS_S: Readonly<Record<string, number>> = { '': 1, s: 1, m: 60, h: 3_600, d: 86_400 };

/** What a hook does before, beside and instead of the drain. */
export function hookOf(action: Action): Hook {
  if (action.kind === 'sleep') {
    return { drains: false, sleepMs: Number.isNaN(action.ms) ? undefined : action.ms };
  }
  if (action.kind !== 'exec') return { drains: false, sleepMs: 0 };
  const [program = ''] = action.command;
  const text = action.command.join(' ');
  return {
    drains: /\bpm2-envoy\b(?:\.js)?.*\sshutdown\b/.test(text),
    sleepMs: sleepIn(text),
    // The runtime takes the first text for the program's name, spaces and all.
    ...(/\s/.test(program) ? { fault: `there is no program ${JSON.stringify(program)}` } : {}),
  };
}

function sleepIn(text: string): number | undefined {
  let totalMs = 0;
  for (const [, words = ''] of text.matchAll(/\bsleep\s+([^;&|)"']+)/g)) {
    // sleep(1) adds up what it is given.
    for (const word of words.trim().split(/\s+/)) {
      const [, number, unit = ''] = /^(\d+(?:\.\d+)?)([smhd]?)$/.exec(word) ?? [];
      if (number === undefined) return undefined;
      totalMs += Number(number) * (UNITS_S[unit] ?? 1) * 1_000;
    }
  }
  return totalMs;
}
