import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Answers a request in place of the registry; `false` leaves it to the registry. */
export type Tamper = (request: IncomingMessage, response: ServerResponse) => boolean | undefined;

/** A registry on loopback that answers as the real one behind it, but for what tests spoil. */
export type HostileRegistry = {
  readonly url: string;
  tamper: Tamper | undefined;
  /** Paths that were asked for, in order. */
  readonly paths: string[];
  close(): Promise<void>;
};

/** Starts one in front of a registry. */
export async function startHostileRegistry(upstreamUrl: string): Promise<HostileRegistry> {
  const paths: string[] = [];
  const server = createServer((incoming, response) => {
    paths.push(incoming.url ?? '');
    if (registry.tamper?.(incoming, response) === true) return;
    const { method, headers, url = '' } = incoming;
    const passed = request(new URL(url, upstreamUrl), { method, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(response);
    });
    incoming.pipe(passed);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const registry: HostileRegistry = {
    ...{ url: `http://127.0.0.1:${port}`, tamper: undefined, paths },
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return registry;
}
