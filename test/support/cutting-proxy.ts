import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** A line between a machine and its gateway that can be cut. */
export type CuttingProxy = {
  readonly port: number;
  /** How often it was cut so far. */
  readonly cuts: number;
  /**
   * The next `count` times, a connection is reset once a random number of bytes, between `least` and
   * `most`, has come over it; `seed` makes that repeatable.
   */
  cut(count: number, options: { seed: number; least: number; most: number }): void;
  stop(): Promise<void>;
};

/** Starts a proxy on loopback that passes bytes on as they are. */
export async function startCuttingProxy(upstream: string): Promise<CuttingProxy> {
  const { hostname, port } = new URL(upstream);
  const sockets = new Set<Socket>();
  let cuts = 0;
  let left = 0;
  let nextLimit = () => Number.POSITIVE_INFINITY;
  const keep = (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket)).on('error', () => {});
  };
  const server = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ port: Number(port), host: hostname, allowHalfOpen: true });
    for (const socket of [near, far]) keep(socket);
    let room = left > 0 ? nextLimit() : undefined;
    far.on('data', (chunk) => {
      // A connection that stood before the cuts began takes part in them, too.
      if (room === undefined && left > 0) room = nextLimit();
      if (room !== undefined && left > 0 && chunk.length >= room) {
        left -= 1;
        cuts += 1;
        near.write(chunk.subarray(0, room), () => near.resetAndDestroy());
        far.destroy();
        return;
      }
      if (room !== undefined) room -= chunk.length;
      if (!near.write(chunk)) far.pause();
    });
    near.on('drain', () => far.resume());
    far.on('end', () => near.end());
    near.pipe(far);
    near.on('close', () => far.destroy());
    far.on('error', () => near.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    get cuts() {
      return cuts;
    },
    cut(count, { seed, least, most }) {
      let state = seed;
      left = count;
      nextLimit = () => {
        // A linear congruential generator is random enough here (Knuth's constants).
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        return least + Math.floor((state / 2 ** 32) * (most - least));
      };
    },
    async stop() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
