import { type ErrorCode, isPm2EnvoyError } from './errors.js';

/** Exit codes of the command line (docs/commands.md) and of the two apps. */
export const EXIT = {
  done: 0,
  unexpected: 1,
  usage: 2,
  timeout: 3,
  cancelled: 4,
  unreachable: 5,
  /** The runner was told to stop before its Envoy was LIVE (EX_TEMPFAIL); pm2 must not restart it. */
  stoppedBeforeLive: 75,
  refused: 77,
  configuration: 78,
  /** Ctrl-C (128 + SIGINT). */
  interrupted: 130,
} as const;

/** The exit code that a failed command or app ends with. */
export function exitCodeOf(error: unknown): number {
  return isPm2EnvoyError(error) ? exitCodeOfCode(error.code) : EXIT.unexpected;
}

/** The same of a code that was recorded. */
export function exitCodeOfCode(code: string): number {
  switch (code as ErrorCode) {
    case 'config-invalid':
    case 'bootstrap-invalid':
    case 'generation-incomplete':
    case 'listener-not-redeployable':
    case 'listeners-removed':
    case 'envoy-not-found':
    case 'run-dir-unusable':
    case 'plugin-invalid':
    case 'serve-failed':
      return EXIT.configuration;
    case 'manager-unreachable':
    case 'pm2-unreachable':
    case 'admin-gone':
    case 'admin-timeout':
      return EXIT.unreachable;
    case 'envoy-not-pinned':
      return EXIT.usage;
    case 'not-resumable':
      return EXIT.cancelled;
    case 'manager-refused':
      return EXIT.refused;
    default:
      return EXIT.unexpected;
  }
}
