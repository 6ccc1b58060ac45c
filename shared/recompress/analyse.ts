import { readCpioEntry } from './cpio.ts';
import { FORMATS } from './formats.ts';
import { findKernelPayload } from './kernel-image.ts';
import {
  type ByteSource,
  DEFAULT_UNPACK_LIMITS,
  type PackedPart,
  type Part,
  readBytes,
  type UnpackLimits,
} from './part.ts';

/**
 * Takes a file apart: the compressed streams in it, the files of cpio archives, and the runs between
 * them. What is looked for is what stands at the file's start or where such a thing ended: streams
 * and archives one after the other (initrds), zeros between them, and the payload of a kernel image.
 * A file of no known kind is one raw part; an empty one has none. Never throws for what the file
 * holds: what is damaged or beyond the limits is raw.
 *
 * The content of a stream can be taken apart in turn, as a source of its own.
 */
export async function analyse(
  source: ByteSource,
  limits: UnpackLimits = DEFAULT_UNPACK_LIMITS,
): Promise<Part[]> {
  const parts = new PartList(source, limits);
  const payload = findKernelPayload(source);
  if (payload === undefined) {
    await walk(parts);
  } else {
    // Four bytes may follow the stream: its unpacked size.
    await parts.addPacked(payload.offset, payload.offset + payload.size);
  }
  return parts.finish();
}

/** A source that ends earlier. */
function upTo(source: ByteSource, end: number): ByteSource {
  if (end === source.size) return source;
  return {
    size: end,
    read: (target, offset) => source.read(target.subarray(0, Math.max(0, end - offset)), offset),
  };
}

/** Parts in order; what stands between those added becomes raw. */
class PartList {
  readonly source: ByteSource;
  readonly #limits: UnpackLimits;
  readonly #parts: Part[] = [];
  #end = 0;

  constructor(source: ByteSource, limits: UnpackLimits) {
    this.source = source;
    this.#limits = limits;
  }

  /** Whether there is room for another part, the runs around it, and the end. */
  get open(): boolean {
    return this.#parts.length + 3 < this.#limits.maxParts;
  }

  /** Adds the compressed stream at `offset`, if there is one; returns its end. */
  async addPacked(offset: number, end: number, name?: string): Promise<number | undefined> {
    const source = upTo(this.source, end);
    for (const { name: format, measure } of FORMATS) {
      const size = await measure(source, offset, this.#limits);
      if (size === undefined) continue;
      const part: PackedPart = { kind: 'packed', offset, size, format };
      this.#add(name === undefined ? part : { ...part, name });
      return offset + size;
    }
    return undefined;
  }

  addFile(offset: number, size: number, name: string): void {
    this.#add({ kind: 'raw', offset, size, name });
  }

  finish(): Part[] {
    this.#fill(this.source.size);
    return this.#parts;
  }

  #add(part: Part): void {
    this.#fill(part.offset);
    this.#parts.push(part);
    this.#end = part.offset + part.size;
  }

  #fill(to: number): void {
    if (to > this.#end) this.#parts.push({ kind: 'raw', offset: this.#end, size: to - this.#end });
    this.#end = to;
  }
}

async function walk(parts: PartList): Promise<void> {
  const { source } = parts;
  for (let offset = 0; offset < source.size && parts.open; ) {
    const end =
      (await parts.addPacked(offset, source.size)) ??
      (await addArchive(parts, offset)) ??
      skipZeros(source, offset);
    if (end === undefined) return;
    offset = end;
  }
}

/** Adds the files of the archive at `offset`; returns the end of its last entry. */
async function addArchive(parts: PartList, offset: number): Promise<number | undefined> {
  const { source } = parts;
  let at = offset;
  while (parts.open) {
    const entry = readCpioEntry(source, offset, at);
    if (entry === undefined) return at === offset ? undefined : at;
    const { content, size, path } = entry;
    const end = Math.min(entry.end, source.size);
    if (size > 0 && path !== undefined) {
      const packed = await parts.addPacked(content, content + size, path);
      if (packed === undefined) parts.addFile(content, size, path);
      else if (packed < content + size) parts.addFile(packed, content + size - packed, path);
    }
    if (entry.trailer) return end;
    at = end;
  }
  return undefined;
}

/** The end of the zeros at `offset`, or undefined where there are none. */
function skipZeros(source: ByteSource, offset: number): number | undefined {
  for (let at = offset; at < source.size; ) {
    const bytes = readBytes(source, at, 4096);
    const other = bytes.findIndex((byte) => byte !== 0);
    if (other >= 0) return at + other > offset ? at + other : undefined;
    if (bytes.length === 0) break;
    at += bytes.length;
  }
  return source.size;
}
