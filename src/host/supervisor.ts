/** The pm2, the app and the folder that a runner belongs to: the same for its next runners. */
export interface Supervisor {
  /** PM2_HOME; `none` for a runner that pm2 has not started. */
  home: string;
  /** Name of the pm2 app. */
  app: string;
  folder: string;
}

/** Whether both are the same. */
export function sameSupervisor(a: Supervisor | undefined, b: Supervisor | undefined): boolean {
  return a?.home === b?.home && a?.app === b?.app && a?.folder === b?.folder;
}

/** In words, for the log. */
export function describeSupervisor({ home, app, folder }: Supervisor): string {
  return `PM2_HOME ${home}, app ${app}, folder ${folder}`;
}
