import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** A TCP proxy that counts the bytes of both directions: all that is on the line above TCP. */
export type CountingProxy = {
  readonly url: string;
  /** Bytes since the last call. */
  take(): number;
  close(): Promise<void>;
};

/** Starts one in front of `http://HOST:PORT`. */
export async function startCountingProxy(target: string): Promise<CountingProxy> {
  const { hostname, port } = new URL(target);
  let bytes = 0;
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname);
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from);
      from.on('error', () => to.destroy());
      from.on('data', (chunk) => {
        bytes += chunk.length;
      });
      from.pipe(to);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port: own } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${own}`,
    take: () => {
      const counted = bytes;
      bytes = 0;
      return counted;
    },
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
