import type { LibraryHandle, TypeObject } from 'koffi';
import { SO_ATTACH_REUSEPORT_CBPF, SO_REUSEPORT, SOL_SOCKET } from './filter.js';

/**
 * What steering needs of the C library. Node can neither set socket options nor replace itself by a program.
 * A call that fails throws an Error with its name and errno.
 */
export interface Libc {
  /** A UDP socket that has joined the group of its address (SO_REUSEPORT, bind). */
  join(address: SocketAddress, v6Only: boolean): number;
  /** Attaches a classic BPF program to the group of a socket, instead of the one before. */
  attach(socket: number, filter: Buffer): void;
  close(socket: number): void;
  /** What a socket has received; undefined: nothing. Never waits. */
  receive(socket: number): Buffer | undefined;
  /** Sends one datagram from a socket of its own. */
  send(to: SocketAddress, payload: Buffer): void;
  /** Whether a file has capabilities of its own, which a process that may gain no privileges does not get. */
  hasFileCapabilities(file: string): boolean;
  /** Puts a seccomp filter on this thread and what it starts. */
  restrict(filter: Buffer): void;
  /** Replaces this process by a program; returns only by throwing. */
  exec(file: string, args: readonly string[]): never;
}

type Koffi = typeof import('koffi')['default'];

/** An address of a UDP socket, as the kernel has it. */
export interface SocketAddress {
  readonly family: 4 | 6;
  /** 4 or 16 bytes, network order. */
  readonly bytes: Buffer;
  readonly port: number;
}

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;
const MSG_DONTWAIT = 0x40;
const F_SETFD = 2;
const PR_SET_NO_NEW_PRIVS = 38;
const PR_SET_SECCOMP = 22;
const SECCOMP_MODE_FILTER = 2;

/** Loads koffi and the C library, 4 MB on disk: only where something has to be steered. Throws where it can't. */
export async function loadLibc(): Promise<Libc> {
  const { default: koffi } = await import('koffi');
  const c = declareCalls(koffi, openLibrary(koffi));
  return {
    join: (address, v6Only) => {
      const fd = c.socket(address.family === 4 ? AF_INET : AF_INET6, SOCK_DGRAM_CLOEXEC, 0);
      try {
        c.setInt(fd, SOL_SOCKET, SO_REUSEPORT, [1], 4);
        if (address.family === 6) c.setInt(fd, IPPROTO_IPV6, IPV6_V6ONLY, [v6Only ? 1 : 0], 4);
        const name = socketName(address);
        c.bind(fd, name, name.length);
        return fd;
      } catch (error) {
        c.close(fd);
        throw error;
      }
    },
    attach: (fd, filter) => {
      c.setProgram(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, programOf(filter), 16);
    },
    close: (fd) => {
      c.close(fd);
    },
    receive: (fd) => {
      const buffer = Buffer.alloc(64);
      const length: number = c.receive(fd, buffer, buffer.length, MSG_DONTWAIT);
      return length < 0 ? undefined : buffer.subarray(0, length);
    },
    send: (to, payload) => {
      const fd = c.socket(to.family === 4 ? AF_INET : AF_INET6, SOCK_DGRAM_CLOEXEC, 0);
      try {
        const name = socketName(to);
        c.sendTo(fd, payload, payload.length, 0, name, name.length);
      } finally {
        c.close(fd);
      }
    },
    hasFileCapabilities: (file) => c.attributeSize(file, 'security.capability', null, 0) > 0,
    restrict: (filter) => {
      try {
        c.controlProgram(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, programOf(filter));
      } catch {
        // Without CAP_SYS_ADMIN only for a process that can't gain privileges by what it runs.
        c.control(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        c.controlProgram(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, programOf(filter));
      }
    },
    exec: (file, args) => {
      // Node has them closed in whatever it runs.
      for (const fd of [0, 1, 2]) c.setFlags(fd, F_SETFD, 0);
      c.execute(file, [file, ...args, null]);
      throw new Error(`${file} was not run`);
    },
  };
}

/** The C functions by what they are used for; those that `define` makes throw where one fails. */
function declareCalls(koffi: Koffi, library: LibraryHandle) {
  const define = (name: string, result: string, args: (string | TypeObject)[]) => {
    const call = library.func(name, result, args);
    return (...values: unknown[]): number => {
      const answer: number = call(...values);
      if (answer < 0) throw new Error(`${name} failed (errno ${koffi.errno()})`);
      return answer;
    };
  };
  const program = koffi.pointer(koffi.struct({ length: 'uint16', filter: 'void *' }));
  return {
    socket: define('socket', 'int', ['int', 'int', 'int']),
    bind: define('bind', 'int', ['int', 'void *', 'uint32']),
    close: define('close', 'int', ['int']),
    setInt: define('setsockopt', 'int', ['int', 'int', 'int', 'int *', 'uint32']),
    setProgram: define('setsockopt', 'int', ['int', 'int', 'int', program, 'uint32']),
    receive: library.func('recv', 'long', ['int', 'void *', 'ulong', 'int']),
    sendTo: define('sendto', 'long', ['int', 'void *', 'ulong', 'int', 'void *', 'uint32']),
    attributeSize: library.func('getxattr', 'long', ['str', 'str', 'void *', 'ulong']),
    control: define('prctl', 'int', ['int', 'ulong', 'ulong', 'ulong', 'ulong']),
    controlProgram: define('prctl', 'int', ['int', 'ulong', program]),
    setFlags: define('fcntl', 'int', ['int', 'int', 'int']),
    execute: define('execv', 'int', ['str', koffi.pointer('str')]),
  };
}

/** `struct sock_fprog` */
function programOf(filter: Buffer): { length: number; filter: Buffer } {
  return { length: filter.length / 8, filter };
}

/** glibc's name, and musl's. */
function openLibrary(koffi: Koffi): LibraryHandle {
  try {
    return koffi.load('libc.so.6');
  } catch {
    return koffi.load('libc.so');
  }
}

/** `struct sockaddr_in` or `sockaddr_in6`. */
function socketName({ family, bytes, port }: SocketAddress): Buffer {
  const name = Buffer.alloc(family === 4 ? 16 : 28);
  name.writeUInt16LE(family === 4 ? AF_INET : AF_INET6, 0);
  name.writeUInt16BE(port, 2);
  bytes.copy(name, family === 4 ? 4 : 8);
  return name;
}
