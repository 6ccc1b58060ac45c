import { connect, createServer, type Socket } from 'node:net';
import type { Stage } from './stage.ts';

/** The line between the machine and the gateway: it passes everything on, and counts. */
export type Line = {
  /** `127.0.0.1:PORT`, where the machine finds the gateway. */
  readonly host: string;
  /** Bytes of all TCP connections so far, both ways together. */
  bytes(): number;
};

/** Lays a line to `target` (`127.0.0.1:PORT`). */
export async function layLine(stage: Stage, target: string): Promise<Line> {
  const [address, port] = target.split(':');
  const open = new Set<Socket>();
  let total = 0;
  const server = createServer((near) => {
    const far = connect(Number(port), address);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      open.add(from);
      from.on('data', (chunk) => {
        total += chunk.length;
      });
      from.pipe(to);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        open.delete(from);
        to.destroy();
      });
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(0, '127.0.0.1', resolve);
  });
  stage.later('cut the line', async () => {
    for (const socket of open) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  const own = server.address();
  if (own === null || typeof own === 'string') throw new Error('the line has no port');
  return { host: `127.0.0.1:${own.port}`, bytes: () => total };
}
