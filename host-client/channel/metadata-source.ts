import { setTimeout as sleep } from 'node:timers/promises';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import type { ContentReader } from '../../shared/oci/content.ts';
import { readSmallBlob } from '../../shared/oci/read-small-blob.ts';
import {
  discardBody,
  displayUrl,
  readBody,
  type Transport,
} from '../../shared/registry/transport.ts';
import { listMetadata, TUF_TAG } from '../../shared/tuf/artifact.ts';
import { fileTag } from '../../shared/tuf/metadata.ts';

/** How often a file is asked for before a connection that breaks is reported. */
const TRIES = 3;
const PAUSE_MS = 500;

/** What is asked of a source. */
export type MetadataRequest = {
  /** Name of the file, such as `3.snapshot.json`. */
  readonly file: string;
  /** Most bytes that are taken. */
  readonly limit: number;
  /** What is held under this name; given back where the source has nothing else. */
  readonly held?: Uint8Array | undefined;
  readonly signal: AbortSignal;
};

/**
 * Where channel metadata comes from: a gateway, or a file that was carried here. Nothing that it
 * gives is trusted. `read` gives undefined for a file that is not there; throws LIMIT_EXCEEDED and
 * what the connection throws.
 */
export type MetadataSource = {
  readonly name: string;
  read(request: MetadataRequest): Promise<Uint8Array | undefined>;
};

/** The metadata that a gateway serves under `/tuf/metadata/`. */
export function gatewayMetadata(transport: Transport, gateway: URL): MetadataSource {
  const base = new URL('/tuf/metadata/', gateway);
  return {
    name: displayUrl(base),
    async read(request) {
      for (let attempt = 1; ; attempt += 1) {
        try {
          return await ask(transport, new URL(request.file, base), request);
        } catch (thrown) {
          const { code } = toSnapgateError(thrown);
          if (code !== 'UPSTREAM_UNREACHABLE' || attempt >= TRIES) throw thrown;
          await sleep(PAUSE_MS * attempt, undefined, { signal: request.signal });
        }
      }
    },
  };
}

async function ask(
  transport: Transport,
  url: URL,
  { limit, held, signal }: MetadataRequest,
): Promise<Uint8Array | undefined> {
  const headers: Record<string, string> =
    held === undefined ? {} : { 'if-none-match': `"${fileTag(held)}"` };
  const where = displayUrl(url);
  // Redirects are not followed: a gateway has its metadata itself.
  const { status, body } = await transport({ method: 'GET', url, headers, signal });
  if (status !== 200) await discardBody(body);
  if (status === 304 && held !== undefined) return held;
  if (status === 404) return undefined;
  if (status !== 200) {
    throw new SnapgateError('UPSTREAM_FAILED', `the gateway answered ${status}`, { where });
  }
  const { bytes, truncated } = await readBody(body, limit);
  if (!truncated) return bytes;
  throw new SnapgateError('LIMIT_EXCEEDED', `more than ${limit} bytes of metadata`, { where });
}

/** The metadata that was carried here in a bundle. */
export function bundledMetadata(reader: ContentReader): MetadataSource {
  let files: ReturnType<typeof listMetadata> | undefined;
  return {
    name: `${reader.name}:${TUF_TAG}/`,
    async read({ file, limit, signal }) {
      files ??= listMetadata(reader, TUF_TAG, signal);
      const blob = (await files).get(file);
      return blob === undefined ? undefined : readSmallBlob(reader, blob, limit, signal);
    },
  };
}
