import { constants, gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { sha256 } from '../../../shared/digest.ts';
import {
  DOCKER_LAYER_GZIP,
  OCI_LAYER_GZIP,
  OCI_LAYER_TAR,
  OCI_LAYER_ZSTD,
} from '../../../shared/oci/media-types.ts';
import { DEFAULT_UNPACK_LIMITS, unpackLayer } from '../../../shared/oci/unpack-layer.ts';

const tar = Buffer.from('a layer '.repeat(100_000));
const diffId = sha256(tar);

async function unpack(mediaType: string, bytes: Buffer, limits = {}, id = diffId) {
  const body = async function* () {
    for (let at = 0; at < bytes.length; at += 1000) yield bytes.subarray(at, at + 1000);
  };
  const chunks: Uint8Array[] = [];
  const blob = { digest: sha256(bytes), mediaType };
  const all = { ...DEFAULT_UNPACK_LIMITS, ...limits };
  for await (const chunk of unpackLayer(body(), blob, id, all)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

describe('unpackLayer', () => {
  it.each([
    ['none', OCI_LAYER_TAR, tar],
    ['gzip', OCI_LAYER_GZIP, gzipSync(tar)],
    [
      'gzip of several members',
      DOCKER_LAYER_GZIP,
      Buffer.concat([gzipSync(tar.subarray(0, 999)), gzipSync(tar.subarray(999))]),
    ],
    ['zstd', OCI_LAYER_ZSTD, zstdCompressSync(tar)],
    [
      'zstd of several frames',
      OCI_LAYER_ZSTD,
      Buffer.concat([zstdCompressSync(tar.subarray(0, 999)), zstdCompressSync(tar.subarray(999))]),
    ],
  ])('unpacks %s', async (_, mediaType, bytes) => {
    expect((await unpack(mediaType, bytes)).equals(tar)).toBe(true);
  });

  it('refuses a layer of another diff_id', async () => {
    await expect(unpack(OCI_LAYER_TAR, tar, {}, sha256('other'))).rejects.toMatchObject({
      code: 'DIFF_ID_MISMATCH',
    });
  });

  it('refuses a bomb before it is unpacked', async () => {
    for (const [type, bytes] of [
      [OCI_LAYER_GZIP, gzipSync(Buffer.alloc(50_000_000))],
      [OCI_LAYER_ZSTD, zstdCompressSync(Buffer.alloc(50_000_000))],
    ] as const) {
      await expect(unpack(type, bytes, { maxBytes: 1_000_000 })).rejects.toMatchObject({
        code: 'LIMIT_EXCEEDED',
      });
    }
    const params = { [constants.ZSTD_c_windowLog]: 24 };
    const wide = zstdCompressSync(Buffer.alloc(20_000_000), { params });
    await expect(unpack(OCI_LAYER_ZSTD, wide, { maxWindowLog: 20 })).rejects.toMatchObject({
      code: 'LIMIT_EXCEEDED',
    });
  });

  it('refuses what is damaged or of another kind', async () => {
    const cut = [
      [OCI_LAYER_GZIP, gzipSync(tar).subarray(0, 500)],
      [OCI_LAYER_ZSTD, zstdCompressSync(tar).subarray(0, 40)],
      [OCI_LAYER_GZIP, tar],
      [OCI_LAYER_ZSTD, tar],
      ['text/plain', tar],
    ] as const;
    for (const [type, bytes] of cut) {
      await expect(unpack(type, bytes)).rejects.toMatchObject({ code: 'TAR_INVALID' });
    }
  });
});
