import { readdirSync } from 'node:fs';
import { listening, socketInodes } from './sockets.js';

/** A port that another program listens on as well: the kernel deals new connections out among both. */
export interface SharedPort {
  port: number;
  /** Undefined where this user is not allowed to see whose it is. */
  pid: number | undefined;
}

/**
 * Ports that one of `own` listens on, and a process that is not among them too: with SO_REUSEPORT, Envoy's
 * default, no one is told. Linux only; none where /proc can't be read.
 */
export function sharedPorts(own: readonly number[]): SharedPort[] {
  try {
    const inodes = new Set(own.flatMap((pid) => [...socketInodes(pid)]));
    const all = listening(own[0] ?? 0);
    const ours = new Set(all.filter(({ inode }) => inodes.has(inode)).map(({ local }) => local));
    const foreign = all.filter(({ local, inode }) => ours.has(local) && !inodes.has(inode));
    const byLocal = new Map(foreign.map((socket) => [socket.local, socket]));
    return [...byLocal.values()].map(({ port, inode }) => ({ port, pid: ownerOf(inode) }));
  } catch {
    return [];
  }
}

function ownerOf(inode: number): number | undefined {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .find((pid) => {
      try {
        return socketInodes(pid).has(inode);
      } catch {
        return false;
      }
    });
}
