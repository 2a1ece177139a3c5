import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** What `ssh -L` does at its near end. */
export async function startForwarder(to: number): Promise<{ port: number; close(): void }> {
  const open = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect({ port: to, host: '127.0.0.1' });
    for (const socket of [near, far]) open.add(socket.on('error', () => socket.destroy()));
    near.pipe(far).pipe(near);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = (): void => {
    for (const socket of open) socket.destroy();
    server.close();
  };
  return { port: (server.address() as AddressInfo).port, close };
}
