import { statSync } from 'node:fs';

/** The header that a command line of this host sends, for a manager of another one to refuse. */
export const HOST_HEADER = 'pm2-envoy-host';

/**
 * Names that tell this host from another project on the same machine: its run directory, the same by
 * whatever path and in whatever mount namespace it is accessed, and the Envoy at admin-address.
 *
 * @param adminAddress as it is shown, if pm2-envoy did not start Envoy
 */
export function hostNames(runDir: string, adminAddress: string | undefined): string[] {
  const names = adminAddress === undefined ? [] : [`admin ${adminAddress}`];
  try {
    const { dev, ino } = statSync(runDir);
    return [...names, `run-dir ${dev}:${ino}`];
  } catch {
    // It can't be made, or no one has done so yet: by its path.
    return [...names, `run-dir ${encodeURIComponent(runDir)}`];
  }
}
