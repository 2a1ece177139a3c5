import { readdirSync, readFileSync } from 'node:fs';
import { socketInodes } from '../host/sockets.js';
import type { SocketAddress } from './libc.js';

/** A UDP socket that is bound, and connected to no one. */
export interface UdpSocket {
  /** As /proc has it: the same for all sockets of a group. */
  readonly key: string;
  readonly address: SocketAddress;
  readonly inode: number;
}

/** All of this network namespace; undefined where /proc does not tell. */
export function udpSockets(): UdpSocket[] | undefined {
  const v4 = readTable('/proc/net/udp', 4);
  const v6 = readTable('/proc/net/udp6', 6);
  return v4 && [...v4, ...(v6 ?? [])];
}

/** The inodes of the sockets that a process has; of one that has ended, none. */
export function inodesOf(pid: number): ReadonlySet<number> {
  try {
    return socketInodes(pid);
  } catch {
    return new Set();
  }
}

/** `127.0.0.1:443`, `[00…01]:443`: for people. */
export function showAddress({ family, bytes, port }: SocketAddress): string {
  if (family === 4) return `${[...bytes].join('.')}:${port}`;
  const words = bytes.toString('hex').match(/.{4}/g) ?? [];
  return `[${words.map((word) => word.replace(/^0+(?=.)/, '')).join(':')}]:${port}`;
}

/** Where to send to so that a socket of this address gets it. */
export function reachable(address: SocketAddress): SocketAddress {
  if (address.bytes.some((byte) => byte !== 0)) return address;
  const loopback = Buffer.from(address.bytes);
  loopback[loopback.length - 1] = 1;
  if (address.family === 4) loopback[0] = 127;
  return { ...address, bytes: loopback };
}

function readTable(file: string, family: 4 | 6): UdpSocket[] | undefined {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
  const seen = new Set<string>();
  const found: UdpSocket[] = [];
  for (const line of text.split('\n').slice(1)) {
    const [, local = '', remote = '', , , , , , , inode = '0'] = line.trim().split(/\s+/);
    if (inode === '0' || seen.has(inode) || !/^0+:0000$/.test(remote)) continue;
    seen.add(inode);
    const [hex = '', port = ''] = local.split(':');
    const address = { family, bytes: inNetworkOrder(hex), port: Number.parseInt(port, 16) };
    found.push({ key: `udp${family} ${local}`, address, inode: Number(inode) });
  }
  return found;
}

/** The kernel prints words in the machine's order: little-endian on x64 and arm64. */
function inNetworkOrder(hex: string): Buffer {
  const bytes = Buffer.from(hex, 'hex');
  return bytes.swap32();
}

function _filesOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`);
  } catch {
    return [];
  }
}
