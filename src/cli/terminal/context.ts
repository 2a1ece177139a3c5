import type { LoadedConfig } from '../../config/load.js';
import type { Io } from './io.js';

/** What the built-in commands get of the command line. */
export interface CliContext {
  readonly io: Io;
  /** `--json` */
  readonly json: boolean;
  /**
   * The configuration, with the flags of this call.
   *
   * @param env whose; this process's if left out
   * @throws Pm2EnvoyError `config-invalid`
   */
  load(env?: Readonly<Record<string, string>>): LoadedConfig;
  /** Whether this call has settings of its own: `--config`, or a flag. */
  readonly isGivenSettings: boolean;
  /** Those, as they were typed. */
  readonly given: {
    readonly configFile: string | undefined;
    readonly flags: Readonly<Record<string, string>>;
  };
  /** The exit code of a command that ends well, but not with 0. */
  endWith(code: number): void;
}
