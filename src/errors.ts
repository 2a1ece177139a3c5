/** Why an operation failed; one code is one row of docs/errors.md. */
export type ErrorCode =
  | 'config-invalid'
  | 'envoy-not-found'
  | 'envoy-install-failed'
  | 'envoy-not-pinned'
  | 'envoy-start-failed'
  | 'bootstrap-invalid'
  | 'generation-incomplete'
  | 'listener-not-redeployable'
  | 'listeners-removed'
  | 'run-dir-unusable'
  | 'admin-gone'
  | 'admin-timeout'
  | 'admin-refused'
  | 'admin-failed'
  | 'admin-payload'
  | 'plugin-invalid'
  | 'plugin-timeout'
  | 'manager-unreachable'
  | 'manager-refused'
  | 'manager-answer'
  | 'not-resumable'
  | 'serve-failed'
  | 'pm2-unreachable'
  | 'redeploy-failed';

/**
 * The one error class of pm2-envoy. `message` says what failed, with which value, and what to do;
 * `code` is for programs; `cause` is the lower error, if there was one.
 */
export class Pm2EnvoyError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'Pm2EnvoyError';
    this.code = code;
  }
}

/** Whether `error` is a {@link Pm2EnvoyError}, of the given code if one is named. */
export function isPm2EnvoyError(error: unknown, code?: ErrorCode): error is Pm2EnvoyError {
  return error instanceof Pm2EnvoyError && (code === undefined || error.code === code);
}

/** The text of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The same for a file that could not be opened, without its name, which the sentence around it has. */
export function fileReasonOf(error: unknown, file: string): string {
  return messageOf(error).replace(`, open '${file}'`, '');
}

/** The `code` of a Node system error (`ENOENT`, `EADDRINUSE`, …), if it has one. */
export function systemCodeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string'
    ? error.code
    : undefined;
}

/** For the end of a switch over a union: the compiler proves that it is never reached. */
export function unreachable(value: never): never {
  throw new TypeError(`unexpected value ${JSON.stringify(value)}`);
}
