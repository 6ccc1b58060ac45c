import { SnapgateError } from '../../shared/errors.ts';
import type { TarEvent } from '../../shared/tar/reader.ts';
import { Crc64 } from './crc64.ts';

/**
 * The tar-split record of a layer: what is needed beside the unpacked files to give back the very
 * tar stream. Lines of JSON, in the order of the stream (github.com/vbatts/tar-split, `storage`):
 *
 * ```
 * {"type":2,"payload":BASE64,"position":N}                        bytes as they are
 * {"type":1,"name":NAME,"size":N,"payload":CRC64,"position":N}    the content of a file
 * ```
 *
 * A name that is not UTF-8 is `name_raw`, in base64. What has no content has no size, and null as
 * its payload. Names may appear once.
 */
export type TarSplitEntry =
  | { readonly kind: 'bytes'; readonly bytes: Buffer }
  | { readonly kind: 'file'; readonly name: string; readonly size: number };

const SEGMENT = 2;
const FILE = 1;
/** Longest segment written as one line: what a reader must hold at once. */
const MAX_SEGMENT_BYTES = 1024 * 1024;
/** Longest line read: a pax header of the size that is accepted, with room. */
export const MAX_LINE_BYTES = 8 * 1024 * 1024;

/**
 * Writes the record while the stream passes by. A path that comes again, a whiteout, and the content
 * of a sparse file are kept as bytes: Podman takes each name once, and reads files as they are.
 */
export class TarSplitWriter {
  readonly #line: (line: string) => void;
  readonly #names = new Set<string>();
  #position = 0;
  #segment: Uint8Array[] = [];
  #segmentBytes = 0;
  #file: { name: string; size: number; left: number; crc: Crc64 } | undefined;

  /** `line` receives each line, with its newline. */
  constructor(line: (line: string) => void) {
    this.#line = line;
  }

  handle(event: TarEvent): void {
    switch (event.kind) {
      case 'entry': {
        const { path, size, sparse } = event.entry;
        this.#bytes(event.raw);
        const name = cleanName(path);
        const again = this.#names.has(name);
        const missing = size > 0 && (sparse !== undefined || /(^|\/)\.wh\.[^/]*$/.test(name));
        if (again || missing) return;
        this.#names.add(name);
        if (size === 0) this.#entry(path, 0, null);
        else this.#file = { name: path, size, left: size, crc: new Crc64() };
        return;
      }
      case 'content':
        this.#content(event.piece.bytes);
        return;
      default:
        this.#bytes(event.bytes);
    }
  }

  finish(): void {
    this.#flush();
  }

  #content(bytes: Uint8Array): void {
    const file = this.#file;
    if (file === undefined) {
      this.#bytes(Buffer.from(bytes));
      return;
    }
    file.crc.update(bytes);
    file.left -= bytes.length;
    if (file.left > 0) return;
    this.#entry(file.name, file.size, file.crc.digest().toString('base64'));
    this.#file = undefined;
  }

  #bytes(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += MAX_SEGMENT_BYTES) {
      const part = bytes.subarray(at, at + MAX_SEGMENT_BYTES);
      if (this.#segmentBytes + part.length > MAX_SEGMENT_BYTES) this.#flush();
      this.#segment.push(part);
      this.#segmentBytes += part.length;
    }
  }

  #flush(): void {
    if (this.#segmentBytes === 0) return;
    const payload = Buffer.concat(this.#segment).toString('base64');
    this.#segment = [];
    this.#segmentBytes = 0;
    this.#line(`{"type":${SEGMENT},"payload":"${payload}","position":${this.#position}}\n`);
    this.#position += 1;
  }

  #entry(path: string, size: number, payload: string | null): void {
    this.#flush();
    const bytes = Buffer.from(path, 'latin1');
    const text = bytes.toString('utf8');
    const name = Buffer.from(text).equals(bytes)
      ? { name: text }
      : { name_raw: bytes.toString('base64') };
    const sized = size === 0 ? {} : { size };
    const entry = { type: FILE, ...name, ...sized, payload, position: this.#position };
    this.#line(`${JSON.stringify(entry)}\n`);
    this.#position += 1;
  }
}

/** How tar-split compares names: `filepath.Clean` of Go. */
function cleanName(path: string): string {
  return path
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .join('/');
}

/** Parses one line of a record; names come out as latin1. Throws STORAGE_INVALID. */
export function parseTarSplitLine(line: string): TarSplitEntry {
  let json: Record<string, unknown>;
  try {
    json = JSON.parse(line) as Record<string, unknown>;
  } catch (cause) {
    throw invalid('a line is not JSON', cause);
  }
  const { type, payload, name, name_raw: raw, size = 0 } = json ?? {};
  if (type === SEGMENT && typeof payload === 'string') {
    return { kind: 'bytes', bytes: Buffer.from(payload, 'base64') };
  }
  const path =
    typeof raw === 'string' && raw !== ''
      ? Buffer.from(raw, 'base64').toString('latin1')
      : typeof name === 'string'
        ? Buffer.from(name, 'utf8').toString('latin1')
        : undefined;
  const sized = typeof size === 'number' && Number.isSafeInteger(size) && size >= 0;
  if (type !== FILE || path === undefined || !sized) throw invalid('a line has wrong fields');
  return { kind: 'file', name: path, size };
}

function invalid(message: string, cause?: unknown): SnapgateError {
  return new SnapgateError('STORAGE_INVALID', `tar-split record: ${message}`, { cause });
}
