import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A request that came in: what was asked, and with which headers. */
export type SeenRequest = Pick<IncomingMessage, 'method' | 'url' | 'headers'>;

export type UpstreamServer = {
  readonly url: string;
  readonly seen: SeenRequest[];
  /** Replaces what is done with requests. */
  handle: (request: IncomingMessage, response: ServerResponse) => void;
  /** Connections that are open now. */
  connections(): Promise<number>;
  close(): Promise<void>;
};

/** A server on loopback that does as it is told, to stand in for a registry that misbehaves. */
export async function startUpstreamServer(): Promise<UpstreamServer> {
  const seen: SeenRequest[] = [];
  const server = createServer((request, response) => {
    const { method, url, headers } = request;
    seen.push({ method, url, headers });
    upstream.handle(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const upstream: UpstreamServer = {
    url: `http://127.0.0.1:${port}`,
    seen,
    handle: (_request, response) => response.writeHead(404).end(),
    connections: () =>
      new Promise((resolve, reject) => {
        server.getConnections((error, count) => (error ? reject(error) : resolve(count)));
      }),
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return upstream;
}
