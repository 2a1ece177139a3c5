/** The pm2, the app and the folder that a runner belongs to: the same for its next runners. */
export interface Supervisor {
  /** PM2_HOME; `none` for a runner that pm2 has not started. */
  home: string;
  /** Name of the pm2 app. */
  app: string;
  /** Number of the pm2 app; undefined: not known. */
  pmId?: string | undefined;
  /** As pm2 has it: a link stays one, whatever it points to. */
  folder: string;
}

/**
 * Whether both are the same. One app of one pm2 is the same even if its folder has moved. An earlier version did not
 * write its number down.
 */
export function sameSupervisor(a: Supervisor | undefined, b: Supervisor | undefined): boolean {
  if (!a || !b) return a === b;
  const pmId = a.pmId ?? b.pmId;
  const isOneApp = pmId !== undefined && pmId === (b.pmId ?? a.pmId);
  return a.home === b.home && a.app === b.app && (isOneApp || a.folder === b.folder);
}

/** In words, for the log. */
export function describeSupervisor({ home, app, folder }: Supervisor): string {
  return `PM2_HOME ${home}, app ${app}, folder ${folder}`;
}
