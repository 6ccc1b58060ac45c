import { createServer as createPlainServer, type Server } from 'node:http';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import { SnapgateError } from '../../shared/errors.ts';
import { type AppOptions, createApp } from '../app.ts';
import type { GatewayConfig } from './config.ts';
import { followTls, readTls } from './tls.ts';

/** Longest pause on a client's connection while a request is under way, in milliseconds. */
const CLIENT_STALL_MS = 120_000;
/** Bounds that no client may exceed. Uploads take as long as they take, as long as bytes come. */
const LIMITS = {
  maxHeaderSize: 64 * 1024,
  headersTimeout: 30_000,
  requestTimeout: 0,
  keepAliveTimeout: 75_000,
};

/** A server that answers under `url`. */
export type RunningServer = {
  readonly url: string;
  /** Takes no new requests and waits for those under way, but no longer than `graceMs`. */
  close(graceMs: number): Promise<void>;
};

/** Starts the HTTP server. Throws CONFIG_INVALID when its address or certificate cannot be used. */
export async function startServer(
  config: GatewayConfig['listen'],
  options: AppOptions,
): Promise<RunningServer> {
  const app = createApp(options);
  const tls = config.tls && (await readTls(config.tls));
  const make =
    tls === undefined
      ? { createServer: createPlainServer, serverOptions: LIMITS }
      : { createServer: createTlsServer, serverOptions: { ...LIMITS, ...tls } };
  const { fetch } = app;
  // Only one of the two kinds of server is ever made here, and both are a Server of node:http.
  const server = createAdaptorServer({ fetch, overrideGlobalObjects: false, ...make }) as Server;
  server.setTimeout(CLIENT_STALL_MS, (socket) => socket.destroy());
  await listen(server, config);
  const { port } = server.address() as AddressInfo;
  const host = config.address.includes(':') ? `[${config.address}]` : config.address;
  const url = `${tls === undefined ? 'http' : 'https'}://${host}:${port}`;
  const unfollow = config.tls && followTls(server as TlsServer, config.tls, options.log);
  const close = (graceMs: number) => {
    unfollow?.();
    return closeServer(server, graceMs);
  };
  return { url, close };
}

async function listen(server: Server, { address, port }: GatewayConfig['listen']): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, address, () => {
        server.off('error', reject);
        resolve();
      });
    });
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new SnapgateError('CONFIG_INVALID', `listen: the address cannot be used: ${code}`, {
      where: `${address}:${port}`,
      hint: 'Choose a free port and an address of this machine.',
      cause,
    });
  }
}

async function closeServer(server: Server, graceMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  // Connections that wait for a next request are closed at once, and the others after their answer.
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), graceMs);
  const sweep = setInterval(() => server.closeIdleConnections(), 100);
  await closed;
  clearTimeout(timer);
  clearInterval(sweep);
}
