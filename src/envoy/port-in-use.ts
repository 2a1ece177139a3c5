/**
 * The port that Envoy could not bind, as its error says; empty: it names none; undefined: that was not the fault, or it
 * is said already what to do: where the Envoy in service has the port.
 */
export function portInUse(reason: string): string | undefined {
  if (!/Address already in use/.test(reason) || /enable_reuse_port/.test(reason)) return undefined;
  return /:(\d+)'/.exec(reason)?.[1] ?? '';
}

/** What to do about it. */
export function freePort(port: string): string {
  const filter = port ? ` 'sport = :${port}'` : '';
  return `end the program that has the port (\`ss -ltnp${filter}\`), or change the port in the bootstrap (envoy-config)`;
}
