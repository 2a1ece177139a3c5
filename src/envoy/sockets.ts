import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/**
 * Counts a process's TCP connections on the given local ports, from /proc: the last resort where
 * Envoy's own gauges are hidden. Linux only; undefined where it can't be read.
 *
 * @param pid the process, in our PID namespace and readable by us
 * @param localPorts the ports that it listens, or listened, on
 */
export function countConnections(
  pid: number,
  localPorts: readonly number[],
): Record<string, number> | undefined {
  try {
    const inodes = socketInodes(pid);
    const ports = new Set(localPorts);
    const byPort: Record<string, number> = {};
    for (const table of ['tcp', 'tcp6']) {
      for (const { localPort, inode, listening } of readTable(`/proc/${pid}/net/${table}`)) {
        if (listening || !ports.has(localPort) || !inodes.has(inode)) continue;
        const name = `port ${localPort}`;
        byPort[name] = (byPort[name] ?? 0) + 1;
      }
    }
    return byPort;
  } catch {
    return undefined;
  }
}

interface SocketRow {
  localPort: number;
  inode: string;
  listening: boolean;
}

function socketInodes(pid: number): Set<string> {
  const inodes = new Set<string>();
  for (const descriptor of readdirSync(`/proc/${pid}/fd`)) {
    try {
      const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${descriptor}`))?.[1];
      if (inode) inodes.add(inode);
    } catch {
      // Closed while we looked.
    }
  }
  return inodes;
}

/** Rows of /proc/net/tcp: local address is field 2 (hex), state field 4 (0A listens), inode field 10. */
function readTable(path: string): SocketRow[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    return [];
  }
  return text
    .split('\n')
    .slice(1)
    .filter((line) => line !== '')
    .map((line) => {
      const fields = line.trim().split(/\s+/);
      return {
        localPort: Number.parseInt(fields[1]?.split(':')[1] ?? '', 16),
        inode: fields[9] ?? '',
        listening: fields[3] === '0A',
      };
    });
}
