import { SnapgateError } from '../../../shared/errors.ts';
import { discardBody, displayUrl, readBody } from '../../../shared/registry/transport.ts';
import type { MetadataFiles } from '../../../shared/tuf/artifact.ts';
import { maxBytes, roleOfFile } from '../../../shared/tuf/roles.ts';
import { collectMetadata } from '../../tuf/collect.ts';
import { TufFolder } from '../../tuf/folder.ts';
import { createTransport } from '../../upstream/transport.ts';

/**
 * Reads all metadata of the repository in a folder, or of that which a gateway serves at
 * `http[s]://HOST[:PORT]`. Throws METADATA_MISSING, METADATA_INVALID, LIMIT_EXCEEDED, UPSTREAM_FAILED.
 */
export async function readMetadataFrom(text: string, signal: AbortSignal): Promise<MetadataFiles> {
  const url = /^https?:\/\//.test(text) ? URL.parse(text) : null;
  if (url !== null) return readServed(url, signal);
  const folder = await TufFolder.open(text);
  return collectMetadata((name) => folder.metadata(name), text);
}

async function readServed(gateway: URL, signal: AbortSignal): Promise<MetadataFiles> {
  const { transport, close } = createTransport({});
  const base = new URL('/tuf/metadata/', gateway);
  try {
    return await collectMetadata(async (name) => {
      const url = new URL(name, base);
      const { status, body } = await transport({ method: 'GET', url, headers: {}, signal });
      if (status === 200) return await readWhole(body, url, name);
      await discardBody(body);
      if (status === 404) return undefined;
      throw new SnapgateError('UPSTREAM_FAILED', `the gateway answered ${status}`, {
        where: displayUrl(url),
      });
    }, displayUrl(base));
  } finally {
    await close();
  }
}

async function readWhole(
  body: AsyncIterable<Uint8Array>,
  url: URL,
  name: string,
): Promise<Uint8Array> {
  const limit = maxBytes(roleOfFile(name) ?? 'targets');
  const { bytes, truncated } = await readBody(body, limit);
  if (!truncated) return bytes;
  throw new SnapgateError('LIMIT_EXCEEDED', `more than ${limit} bytes of metadata`, {
    where: displayUrl(url),
  });
}
