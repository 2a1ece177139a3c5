import { userInfo } from 'node:os';

/** The name of the user that this process runs as, or its number where it has none, as in many containers. */
export function userName(): string {
  try {
    return (
      userInfo()
        .username.replace(/[^\w.@-]/g, '_')
        .slice(0, 64) || 'unknown'
    );
  } catch {
    return String(process.getuid?.() ?? 'unknown');
  }
}
