/**
 * Catches SIGUSR1 and pm2's message of `pm2 reloadLogs` from the moment that this module is loaded: a log was moved
 * away (logrotate). Without a listener SIGUSR1 opens Node's debugger, to anyone on this host.
 */
let isAsked = false;
let listener: (() => void) | undefined;

const tell = (): void => {
  if (listener) listener();
  else isAsked = true;
};
process.on('SIGUSR1', tell);
process.on('message', (message: unknown) => {
  // pm2's lib/God/ActionMethods.js; only an app in cluster mode is sent it.
  if ((message as { type?: unknown } | null)?.type === 'log:reload') tell();
});

/** Calls `reopen` each time that the logs are to be opened again, and immediately if they were already. */
export function onReopenLogs(reopen: () => void): void {
  listener = reopen;
  if (isAsked) reopen();
  isAsked = false;
}
