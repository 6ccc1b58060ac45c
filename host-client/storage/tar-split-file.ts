import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';
import type { Piece } from '../../shared/delta/piece.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { TarEvent } from '../../shared/tar/reader.ts';
import { buffersPassed } from '../system/tidy-memory.ts';
import type { LayerFiles } from './layer-files.ts';
import { MAX_LINE_BYTES, parseTarSplitLine, TarSplitWriter } from './tar-split.ts';

/** Bytes of lines that are collected before they are packed. */
const FLUSH_BYTES = 256 * 1024;
const READ_BYTES = 256 * 1024;

/** Writes a layer's tar-split record to a file, packed. */
export class TarSplitFile {
  readonly path: string;
  readonly #writer = new TarSplitWriter((line) => this.#collect(line));
  readonly #gzip = createGzip({ level: 1 });
  readonly #done: Promise<void>;
  #lines: string[] = [];
  #bytes = 0;

  constructor(path: string) {
    this.path = path;
    const file = createWriteStream(path, { flags: 'wx', mode: 0o600 });
    this.#done = pipeline(this.#gzip, file);
    this.#done.catch(() => undefined);
  }

  /** Takes the next event of the stream; wait for the result if there is one. */
  handle(event: TarEvent): Promise<unknown> | undefined {
    this.#writer.handle(event);
    return this.#bytes < FLUSH_BYTES ? undefined : this.#flush();
  }

  #collect(line: string): void {
    this.#lines.push(line);
    this.#bytes += line.length;
  }

  async #flush(): Promise<void> {
    const text = this.#lines.join('');
    this.#lines = [];
    this.#bytes = 0;
    if (!this.#gzip.write(text)) await Promise.race([once(this.#gzip, 'drain'), this.#done]);
  }

  /** Ends the record; the next sync of the file system brings it to the disk. */
  async finish(): Promise<void> {
    this.#writer.finish();
    await this.#flush();
    this.#gzip.end();
    await this.#done;
  }

  /** Ends early and removes the file. */
  async discard(): Promise<void> {
    this.#gzip.destroy();
    await this.#done.catch(() => undefined);
    await rm(this.path, { force: true });
  }
}

/**
 * The tar stream of a layer from its record and its files. Throws STORAGE_INVALID when the record is
 * damaged or a file is not there or has another size.
 */
export async function* reassembleTar(
  recordPath: string,
  files: LayerFiles,
): AsyncGenerator<Piece, void, void> {
  const buffer = Buffer.allocUnsafe(READ_BYTES);
  for await (const line of packedLines(recordPath)) {
    const entry = parseTarSplitLine(line);
    if (entry.kind === 'bytes') {
      if (entry.bytes.length > 0) yield { bytes: entry.bytes };
    } else if (entry.size > 0) yield* fileContent(files, entry.name, entry.size, buffer);
  }
}

/**
 * The tar stream of a layer from its record alone, with zeros in place of what its files hold: for
 * its headers. Throws STORAGE_INVALID when the record is damaged.
 */
export async function* recordedHeaders(recordPath: string): AsyncGenerator<Piece, void, void> {
  const zeros = new Uint8Array(READ_BYTES);
  for await (const line of packedLines(recordPath)) {
    const entry = parseTarSplitLine(line);
    if (entry.kind === 'bytes') {
      if (entry.bytes.length > 0) yield { bytes: entry.bytes };
      continue;
    }
    for (let left = entry.size; left > 0; left -= READ_BYTES) {
      yield { bytes: zeros.subarray(0, Math.min(READ_BYTES, left)) };
    }
  }
}

function* fileContent(
  files: LayerFiles,
  name: string,
  size: number,
  buffer: Buffer,
): Generator<Piece, void, void> {
  const changed = (cause?: unknown) =>
    new SnapgateError('STORAGE_INVALID', 'a file of a held layer is not as it was unpacked', {
      where: JSON.stringify(name),
      cause,
    });
  let file: ReturnType<LayerFiles['open']>;
  try {
    file = files.open(name);
  } catch (cause) {
    throw changed(cause);
  }
  if (file.size !== size) throw changed();
  for (let offset = 0; offset < size; ) {
    const read = file.read(buffer, offset);
    if (read === 0) throw changed();
    yield { bytes: buffer.subarray(0, read), source: { file, offset } };
    offset += read;
  }
}

/** Lines of a packed file, without their newlines. */
async function* packedLines(path: string): AsyncGenerator<string, void, void> {
  const gunzip = createGunzip();
  const done = pipeline(createReadStream(path), gunzip);
  done.catch(() => undefined);
  const invalid = (message: string, cause?: unknown) =>
    new SnapgateError('STORAGE_INVALID', message, { where: path, cause });
  let rest: Buffer[] = [];
  let restBytes = 0;
  try {
    for await (const chunk of gunzip as AsyncIterable<Buffer>) {
      let start = 0;
      for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
        const line = Buffer.concat([...rest, chunk.subarray(start, end)]);
        yield line.toString('utf8');
        rest = [];
        restBytes = 0;
        start = end + 1;
      }
      buffersPassed(chunk.length);
      rest.push(chunk.subarray(start));
      restBytes += chunk.length - start;
      if (restBytes > MAX_LINE_BYTES) throw invalid('a tar-split record has too long a line');
    }
  } catch (cause) {
    if (cause instanceof SnapgateError) throw cause;
    throw invalid('a tar-split record cannot be read', cause);
  }
  if (restBytes > 0) yield Buffer.concat(rest).toString('utf8');
}
