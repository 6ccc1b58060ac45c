import { ByteWriter } from './bytes.ts';
import { openPacker, type StreamPacker } from './coder.ts';
import { CODER, type LayerDeltaHeader, STREAMS, type StreamName } from './header.ts';

/** Fewer bytes than this are stored: a coder's own overhead is as large. */
const MIN_PACKED = 32;
/** Content that is new; a major release is made of it. */
const BULK: StreamName = 'literals';

/** The unpacked bytes of one segment, by stream. */
export type SegmentBytes = Readonly<Record<StreamName, Uint8Array>>;

/** Writes a delta segment by segment, without its header. */
export class SegmentWriter {
  readonly #write: (bytes: Uint8Array) => Promise<void>;
  readonly #header: Pick<LayerDeltaHeader, 'coders' | 'segmentLimit'>;
  readonly #level: number;
  #packers: (StreamPacker | undefined)[] = [];
  /** Packed bytes so far, by stream. */
  readonly packed: Record<StreamName, number> = {
    ...{ commands: 0, operations: 0, lengths: 0, seeks: 0 },
    ...{ runs: 0, differences: 0, literals: 0, text: 0 },
  };

  /** `level` is that of zstd, 1 to 22. Each buffer that `write` gets is its own. */
  constructor(
    header: Pick<LayerDeltaHeader, 'coders' | 'segmentLimit'>,
    level: number,
    write: (bytes: Uint8Array) => Promise<void>,
  ) {
    this.#header = header;
    this.#level = level;
    this.#write = write;
  }

  /** Throws RangeError for more bytes than the header's segment limit. */
  async segment(
    streams: SegmentBytes,
    checkpoint?: { readonly outputPosition: number; readonly sourcePointer: number },
  ): Promise<void> {
    const head = new ByteWriter();
    head.byte(checkpoint === undefined ? 1 : 2);
    if (checkpoint !== undefined) {
      this.close();
      head.number(checkpoint.outputPosition);
      head.number(checkpoint.sourcePointer);
    }
    const used = STREAMS.map((name, index) => ({ name, index, bytes: streams[name] }));
    const present = used.filter(({ bytes }) => bytes.length > 0);
    const total = present.reduce((sum, { bytes }) => sum + bytes.length, 0);
    if (total > this.#header.segmentLimit) throw new RangeError('a segment is too large');
    head.byte(present.reduce((bits, { index }) => bits | (1 << index), 0));
    for (const { bytes } of present) head.number(bytes.length);
    const packed = await Promise.all(present.map(({ index, bytes }) => this.#pack(index, bytes)));
    for (const part of packed) head.number(2 * part.bytes.length + (part.stored ? 1 : 0));
    await this.#write(head.take());
    for (const [i, { name }] of present.entries()) {
      const bytes = packed[i]?.bytes ?? new Uint8Array(0);
      this.packed[name] += bytes.length;
      await this.#write(bytes);
    }
  }

  async end(): Promise<void> {
    await this.#write(Uint8Array.of(0));
    this.close();
  }

  close(): void {
    for (const packer of this.#packers) packer?.close();
    this.#packers = [];
  }

  async #pack(index: number, bytes: Uint8Array): Promise<{ bytes: Uint8Array; stored: boolean }> {
    const coder = this.#header.coders[index];
    if (coder === undefined || coder.coder === CODER.STORED || bytes.length < MIN_PACKED) {
      return { bytes: bytes.slice(), stored: true };
    }
    this.#packers[index] ??= openPacker(coder, this.#level, STREAMS[index] === BULK);
    return { bytes: await this.#packers[index].pack(bytes), stored: false };
  }
}
