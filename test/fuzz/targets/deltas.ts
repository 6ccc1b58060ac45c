import { zstdCompressSync } from 'node:zlib';
import type { SourceTree } from '../../../shared/delta/piece.ts';
import { applyTarDiff } from '../../../shared/delta/tar-diff.ts';
import { TAR_DIFF_MAGIC } from '../../../shared/delta/tar-diff-writer.ts';
import { SnapgateError } from '../../../shared/errors.ts';
import { parseRecipe } from '../../../shared/recompress/recipe.ts';
import { inChunks } from '../../support/bytes.ts';
import {
  type SampleDelta,
  sampleLayerDelta,
  streamsOf,
  withStreams,
} from '../../support/sample-layer-delta.ts';
import { checkLayerDelta } from '../layer-delta.ts';
import type { Target } from '../target.ts';

const SOURCE = Buffer.alloc(5000, 'the source ');
const tree: SourceTree = {
  open(path) {
    // A reader may name what is inside, and nothing else must ever come here.
    if (path.startsWith('/') || path.split('/').includes('..'))
      throw new Error(`asked for ${path}`);
    if (path !== 'lib') throw new SnapgateError('DELTA_SOURCE_MISMATCH', 'no such file');
    const read = (target: Uint8Array, offset: number) => SOURCE.copy(target, 0, offset);
    return { path, size: SOURCE.length, read };
  },
  close() {},
};
const LIMITS = {
  ...{ maxPathBytes: 4096, maxAddDataBytes: 2 ** 20, maxOutputBytes: 2 ** 22, maxWindowLog: 21 },
};

let sample: Promise<SampleDelta> | undefined;
const layerDelta = () => {
  sample ??= sampleLayerDelta();
  return sample;
};

export const DELTA_TARGETS: readonly Target[] = [
  {
    // The operations; they are packed before they are read, so that changes reach them.
    name: 'tar-diff',
    samples: async () => [
      Buffer.from([0, 3, 97, 98, 99, 1, 3, 108, 105, 98, 4, 10, 2, 100, 3, 2, 1, 1]),
    ],
    words: ['\x01\x03lib', '\x01\x06../lib', '\x01\x04/lib', '\x02\xff\xff\xff\x7f', '\x04\x00'],
    async read(input) {
      const delta = Buffer.concat([TAR_DIFF_MAGIC, zstdCompressSync(input)]);
      for await (const _piece of applyTarDiff(inChunks(delta, 100), tree, LIMITS));
    },
  },
  {
    name: 'tar-diff-packed',
    samples: async () => [
      Buffer.concat([TAR_DIFF_MAGIC, zstdCompressSync(Buffer.from([0, 1, 97]))]),
    ],
    async read(input) {
      for await (const _piece of applyTarDiff(inChunks(input, 100), tree, LIMITS));
    },
  },
  {
    // The streams of a delta, each with its length before it; two readers must agree.
    name: 'layer-delta',
    samples: async () => [joinStreams(await streamsOf((await layerDelta()).delta))],
    async read(input) {
      const { delta, source, simple } = await layerDelta();
      const streams = splitStreams(input, (await streamsOf(delta)).length);
      return checkLayerDelta(withStreams(delta, streams), 0, source, simple);
    },
  },
  {
    name: 'layer-delta-packed',
    samples: async () => [(await layerDelta()).delta],
    async read(input) {
      const { source, simple } = await layerDelta();
      return checkLayerDelta(input, 0, source, simple);
    },
  },
  {
    name: 'recipe',
    samples: async () =>
      ['gnu-gzip level=9 frame=1f8b0800000000000203', 'lz4hc level=9'].map(Buffer.from),
    words: [' level=', ' frame=', 'zstd-1.5.7', ' __proto__=1', '999999999999999'],
    read: (input) => parseRecipe(input.toString('latin1')),
  },
];

function joinStreams(streams: readonly Uint8Array[]): Buffer {
  return Buffer.concat(
    streams.flatMap((stream) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(stream.length);
      return [length, stream];
    }),
  );
}

/** As many streams as are wanted, whatever the lengths in front of them say. */
function splitStreams(input: Buffer, count: number): Buffer[] {
  const streams: Buffer[] = [];
  let at = 0;
  for (let i = 0; i < count; i += 1) {
    const length = at + 4 <= input.length ? input.readUInt32LE(at) : 0;
    const end = i === count - 1 ? input.length : Math.min(at + 4 + length, input.length);
    streams.push(Buffer.from(input.subarray(Math.min(at + 4, end), end)));
    at = end;
  }
  return streams;
}
