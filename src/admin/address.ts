/** Where an Envoy's admin interface listens. */
export type AdminAddress = { kind: 'unix'; path: string } | { kind: 'tcp'; url: string };

/** Reads `unix:/path` or `http://host:port`; the configuration has checked the form. */
export function parseAdminAddress(text: string): AdminAddress {
  if (text.startsWith('unix:')) return { kind: 'unix', path: text.slice('unix:'.length) };
  const url = new URL(text);
  // Node resolves localhost to ::1 first, and Envoy's admin is nearly always on 127.0.0.1.
  if (url.hostname === 'localhost') url.hostname = '127.0.0.1';
  return { kind: 'tcp', url: url.origin };
}

/** The address as it is written in the configuration. */
export function formatAdminAddress(address: AdminAddress): string {
  return address.kind === 'unix' ? `unix:${address.path}` : address.url;
}
