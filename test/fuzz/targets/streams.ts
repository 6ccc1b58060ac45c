import { gzipSync, zstdCompressSync } from 'node:zlib';
import { LayerTranslator } from '../../../host-client/storage/translator.ts';
import { archiveFiles } from '../../../shared/oci/layout/archive-files.ts';
import { LayoutReader } from '../../../shared/oci/layout/layout-reader.ts';
import { analyse } from '../../../shared/recompress/analyse.ts';
import { createEncoders, repack } from '../../../shared/recompress/encoders.ts';
import { unpackPart } from '../../../shared/recompress/formats.ts';
import { bytesSource, DEFAULT_UNPACK_LIMITS } from '../../../shared/recompress/part.ts';
import { decodeSendStream } from '../../../shared/send-stream/decoder.ts';
import { SendStreamEncoder, streamHeader } from '../../../shared/send-stream/encoder.ts';
import { readTar } from '../../../shared/tar/reader.ts';
import { unpackZstdFrames } from '../../../shared/zstd-frames.ts';
import { collect, contentIn, inChunks } from '../../support/bytes.ts';
import { rawTar } from '../../support/raw-tar.ts';
import type { Target } from '../target.ts';

const TAR_WORDS = [
  ...['ustar\0', '././@LongLink', '../', '/', '.wh.', '.wh..wh..opq', '25 path=../../etc/shadow\n'],
  ...['GNU.sparse.major=1\n', 'SCHILY.xattr.user.a=b\n', 'linkpath=', '0000777', '\x80\0\0\0'],
  Buffer.alloc(512),
];
const sampleTar = () =>
  rawTar([
    { name: 'etc', type: '5' },
    { name: 'etc/os', content: 'version 1' },
    { name: 'etc/link', type: '2', link: 'os' },
    { name: 'etc/hard', type: '1', link: 'etc/os' },
    { name: 'usr/.wh.gone', content: '' },
    { name: 'dev/null', type: '3', major: 1, minor: 3 },
    {
      name: 'long',
      content: 'x',
      pax: { path: `${'d/'.repeat(60)}long` },
      xattrs: { 'user.a': 'b' },
    },
  ]);

const PARSE_RECIPE = { encoder: 'zstd-parse', settings: {}, frame: new Uint8Array(0) };

async function* pieces(input: Buffer) {
  for await (const bytes of inChunks(input, 512)) yield { bytes };
}

/** Whether a path of a command leads out of the subvolume. */
function leadsOut(path: string): boolean {
  return path.startsWith('/') || path.split('/').includes('..');
}

export const STREAM_TARGETS: readonly Target[] = [
  {
    name: 'tar',
    samples: async () => [sampleTar()],
    words: TAR_WORDS,
    async read(input) {
      for await (const _event of readTar(pieces(input)));
    },
  },
  {
    // What a layer makes of a machine's storage: no command may name a place outside.
    name: 'layer',
    samples: async () => [sampleTar()],
    words: TAR_WORDS,
    async read(input) {
      const translator = new LayerTranslator(undefined, (command) => {
        const { path, to, target, op } = command as Partial<Record<string, string>>;
        const paths = [path ?? '', to ?? '', op === 'link' ? (target ?? '') : ''];
        const out = paths.find(leadsOut);
        if (out !== undefined) throw new Error(`${op} leads out: ${JSON.stringify(out)}`);
      });
      for await (const event of readTar(pieces(input))) await translator.handle(event);
      translator.finish();
    },
  },
  {
    name: 'archive',
    samples: async () => {
      const index = '{"schemaVersion":2,"manifests":[]}';
      const layout = '{"imageLayoutVersion":"1.0.0"}';
      return [
        rawTar([
          { name: 'oci-layout', content: layout },
          { name: 'index.json', content: index },
          { name: `blobs/sha256/${'0'.repeat(64)}`, content: 'x' },
        ]),
      ];
    },
    words: [...TAR_WORDS, 'index.json', 'oci-layout', 'blobs/sha256/'],
    async read(input) {
      const read = async (target: Uint8Array, offset: number, length: number, at: number) => {
        const bytesRead = input.copy(target, offset, at, at + length);
        return { bytesRead, buffer: target };
      };
      const files = await archiveFiles({ read } as never, input.length, 'archive');
      await new LayoutReader(files).getManifest('v1');
    },
  },
  {
    name: 'zstd',
    samples: async () => [zstdCompressSync(Buffer.alloc(100_000, 'word ')), zstdCompressSync('')],
    words: [Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), Buffer.from([0x50, 0x2a, 0x4d, 0x18])],
    async read(input) {
      let size = 0;
      try {
        for await (const chunk of unpackZstdFrames(inChunks(input, 100), 20)) {
          size += chunk.length;
          if (size > 2 ** 26) return;
        }
      } catch (thrown) {
        // What the decoder itself throws is translated by those who call.
        if (!/^(Z_|ZSTD_|ERR_ZSTD|ERR_ZLIB)/.test((thrown as { code?: string }).code ?? '')) {
          throw thrown;
        }
      }
    },
  },
  {
    // Frames of images and of machines; whatever they hold, they are damaged or can be made again.
    name: 'zstd-parse',
    samples: async () => [
      zstdCompressSync(Buffer.from('a frame of words, words and words. '.repeat(40))),
      zstdCompressSync(Buffer.alloc(200_000, 'of long runs ')),
    ],
    words: [Buffer.from([0x28, 0xb5, 0x2f, 0xfd]), Buffer.from([0, 0, 0xff])],
    async read(input) {
      const part = { kind: 'packed', offset: 0, size: input.length, format: 'zstd-parse' } as const;
      const limits = { ...DEFAULT_UNPACK_LIMITS, maxUnpackedBytes: 2 ** 22 };
      const both = await collect(unpackPart(bytesSource(input), part, limits)).catch(
        () => undefined,
      );
      if (both === undefined) return;
      await collect(repack(createEncoders(), PARSE_RECIPE, contentIn(both)));
    },
  },
  {
    // Content with its parse, as a delta makes it.
    name: 'zstd-parse-packed',
    samples: async () => {
      const frame = zstdCompressSync(Buffer.from('content with its parse '.repeat(30)));
      const part = { kind: 'packed', offset: 0, size: frame.length, format: 'zstd-parse' } as const;
      return [await collect(unpackPart(bytesSource(frame), part))];
    },
    async read(input) {
      await collect(repack(createEncoders(), PARSE_RECIPE, contentIn(input)));
    },
  },
  {
    // Files of images that are taken apart; whatever they hold, there is an answer.
    name: 'analyse',
    samples: async () => [
      gzipSync('a file in gzip'),
      zstdCompressSync('a file in zstd'),
      Buffer.concat([Buffer.alloc(512), gzipSync('an initrd of parts')]),
      Buffer.from('fd377a585a000004e6d6b44602002101', 'hex'),
      Buffer.from(`070701${'0'.repeat(104)}name\0`, 'latin1'),
    ],
    words: [
      ...['070701', '070702', 'TRAILER!!!\0', 'HdrS', 'MZ', Buffer.from([0x1f, 0x8b, 8, 0])],
      ...[Buffer.from('fd377a585a00', 'hex'), Buffer.from([0x28, 0xb5, 0x2f, 0xfd])],
      Buffer.from([0x02, 0x21, 0x4c, 0x18]),
    ],
    async read(input) {
      const parts = await analyse(bytesSource(input));
      let end = 0;
      for (const { offset, size } of parts) {
        if (offset !== end || size <= 0) throw new Error('the parts do not follow each other');
        end = offset + size;
      }
      if (end !== input.length) throw new Error('the parts are not the whole file');
    },
  },
  {
    name: 'send-stream',
    samples: async () => {
      const encoder = new SendStreamEncoder();
      encoder.add({ op: 'subvol', path: 'a', uuid: Buffer.alloc(16, 7), ctransid: 1 });
      encoder.add({ op: 'mkfile', path: 'o1', ino: 257 });
      encoder.add({ op: 'write', path: 'o1', offset: 0, data: Buffer.from('content') });
      encoder.add({ op: 'end' });
      return [Buffer.concat([streamHeader(), Buffer.from(encoder.take())])];
    },
    read: (input) => collect([...decodeSendStream(input)].map(() => Buffer.alloc(0))),
  },
];
