import type { PathRule } from '../host/bootstrap-admin.js';

/**
 * Whether `admin.allow_paths` allows a request, as Envoy decides it: by path and query together (seen in
 * 1.40.0), a regular expression by the whole of them. No rule allows everything. Pure.
 */
export function allowsPath(rules: readonly PathRule[], pathAndQuery: string): boolean {
  return rules.length === 0 || rules.some((rule) => matches(rule, pathAndQuery));
}

function matches({ kind, text, ignoreCase }: PathRule, given: string): boolean {
  const [rule, path] = ignoreCase ? [text.toLowerCase(), given.toLowerCase()] : [text, given];
  switch (kind) {
    case 'exact':
      return path === rule;
    case 'prefix':
      return path.startsWith(rule);
    case 'suffix':
      return path.endsWith(rule);
    case 'contains':
      return path.includes(rule);
    case 'regex':
      return expressionOf(text)?.test(given) ?? false;
  }
}

/** RE2 as JavaScript has it; what JavaScript does not take allows nothing. */
function expressionOf(re2: string): RegExp | undefined {
  const [, flags = '', body = re2] = /^\(\?([is]+)\)(.*)$/s.exec(re2) ?? [];
  try {
    return new RegExp(`^(?:${body})$`, flags);
  } catch {
    return undefined;
  }
}
