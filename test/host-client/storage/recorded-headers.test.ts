import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { recordedHeaders, TarSplitFile } from '../../../host-client/storage/tar-split-file.ts';
import { headerStream } from '../../../shared/delta/layer-delta/header-stream.ts';
import { readTar } from '../../../shared/tar/reader.ts';
import { headerStreamOf } from '../../support/layer-delta.ts';
import { type TarSpec, tarOf } from '../../support/tar-of.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'snapgate-test-'));
});
afterEach(() => rm(folder, { recursive: true }));

async function recorded(tar: Buffer): Promise<Buffer> {
  const file = new TarSplitFile(join(folder, 'record.gz'));
  async function* pieces() {
    yield { bytes: tar };
  }
  for await (const event of readTar(pieces())) await file.handle(event);
  await file.finish();
  const parts: Uint8Array[] = [];
  for await (const bytes of headerStream(recordedHeaders(file.path))) parts.push(bytes);
  return Buffer.concat(parts);
}

describe('the headers that Podman keeps of a layer', () => {
  it.each<[string, TarSpec[]]>([
    ['files of all sizes', [1, 511, 512, 513, 700_000].map((size) => spec(`f${size}`, size))],
    ['an empty layer', []],
    ['long names', [spec(`d/${'x'.repeat(200)}`, 10), { name: 'l', type: 'symlink' }]],
    ['a name twice', [spec('a', 1000), spec('b', 3), spec('a', 2000)]],
    ['a whiteout', [spec('.wh.gone', 0), spec('d/.wh..wh..opq', 0), spec('a', 5)]],
  ])('are those of its tar stream: %s', async (_, specs) => {
    const tar = tarOf(specs);
    expect((await recorded(tar)).equals(await headerStreamOf(tar))).toBe(true);
  });
});

function spec(name: string, size: number): TarSpec {
  return { name, content: Buffer.alloc(size, 'content ') };
}
