import type { AddressInfo } from 'node:net';
import { createServer, connect as openSocket, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** What is wrong with a line. */
export type Fault = {
  /** How likely a segment is lost: it comes after a retransmission timeout, which doubles, as TCP has it. */
  readonly loss?: number;
  /** Milliseconds that each way takes. */
  readonly delayMs?: number;
  readonly bytesPerSecond?: number;
  /** A connection is reset after so many bytes from the gateway. */
  readonly resetAfter?: number;
};

/** A line on loopback between a machine and its gateway. */
export type FaultyLine = {
  readonly url: string;
  readonly port: number;
  fault: Fault;
  /** Port of the gateway on loopback, which may change while the line is in use. */
  target: number;
  /** Bytes that reached the machine so far, all connections together. */
  readonly received: number;
  /** Bytes that reached the gateway. */
  readonly sent: number;
  /** Connections that were reset. */
  readonly resets: number;
  /** First bytes of the ranges that the machine asked for. */
  readonly ranges: number[];
  /** Called after each piece that reached the machine. */
  onReceived: (() => void) | undefined;
  stop(): Promise<void>;
};

const SEGMENT_BYTES = 1460;
const RETRANSMIT_MS = 200;

/** Starts a line that can be slow, lossy and cut: what `tc netem` does, for kernels without it. */
export async function startFaultyLine(target: number, address = '127.0.0.1'): Promise<FaultyLine> {
  const sockets = new Set<Socket>();
  const server = createServer((client) => void relay(client, line, sockets));
  await new Promise<void>((resolve) => server.listen(0, address, resolve));
  const { port } = server.address() as AddressInfo;
  const line = {
    ...{ url: `http://${address}:${port}`, port, target, fault: {} as Fault },
    ...{ received: 0, sent: 0, resets: 0, ranges: [] as number[] },
    onReceived: undefined as (() => void) | undefined,
    stop: () => stop(server, sockets),
  };
  return line;
}

type Line = Awaited<ReturnType<typeof startFaultyLine>> & {
  received: number;
  sent: number;
  resets: number;
};

function relay(client: Socket, line: Line, sockets: Set<Socket>): void {
  const gateway = openSocket(line.target, '127.0.0.1');
  for (const socket of [client, gateway]) {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.once('close', () => sockets.delete(socket));
  }
  client.on('data', (chunk: Buffer) => {
    for (const [, first] of chunk.toString('latin1').matchAll(/^range: bytes=(\d+)-/gim)) {
      line.ranges.push(Number(first));
    }
  });
  let passed = 0;
  pump(client, gateway, line, (bytes) => {
    line.sent += bytes;
  });
  pump(gateway, client, line, (bytes) => {
    passed += bytes;
    line.received += bytes;
    line.onReceived?.();
    if (passed < (line.fault.resetAfter ?? Number.POSITIVE_INFINITY) || client.destroyed) return;
    line.resets += 1;
    client.resetAndDestroy();
    gateway.destroy();
  });
  gateway.once('error', () => client.resetAndDestroy());
}

/** Passes on what comes, each piece at the time at which this line would have brought it. */
function pump(from: Socket, to: Socket, line: Line, passed: (bytes: number) => void): void {
  let at = 0;
  let queue: Promise<unknown> = Promise.resolve();
  const later = (when: number, action: () => void) => {
    queue = queue.then(() => sleep(Math.max(0, when - performance.now()))).then(action);
  };
  from.on('data', (chunk: Buffer) => {
    const { loss = 0, delayMs = 0, bytesPerSecond = Number.POSITIVE_INFINITY } = line.fault;
    for (let start = 0; start < chunk.length; start += SEGMENT_BYTES) {
      const piece = chunk.subarray(start, start + SEGMENT_BYTES);
      at = Math.max(at, performance.now() + delayMs) + (piece.length / bytesPerSecond) * 1000;
      for (let wait = RETRANSMIT_MS; Math.random() < loss; wait *= 2) at += wait;
      later(at, () => {
        if (!to.destroyed) to.write(piece);
        passed(piece.length);
      });
    }
  });
  from.once('end', () => later(at, () => to.end()));
  from.once('close', () => later(at, () => to.destroy()));
}

async function stop(server: Server, sockets: Set<Socket>): Promise<void> {
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => server.close(resolve));
}
