import { fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import type { ByteSource } from '../../shared/recompress/part.ts';

/** A temporary file that one thread appends to and reads at any place meanwhile. */
export class ScratchFile {
  readonly path: string;
  readonly #fd: number;
  /** Where the next byte goes. */
  position = 0;

  constructor(path: string) {
    this.path = path;
    this.#fd = openSync(path, 'a+', 0o600);
    this.position = fstatSync(this.#fd).size;
  }

  append(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at);
    this.position += bytes.length;
  }

  /** Takes back what was appended from `position` on. */
  truncate(position: number): void {
    ftruncateSync(this.#fd, position);
    this.position = position;
  }

  /** A stretch of what was appended. */
  source(start: number, size: number): ByteSource {
    return {
      size,
      read: (target, offset) => {
        const count = Math.max(0, Math.min(target.length, size - offset));
        return count === 0 ? 0 : readSync(this.#fd, target, 0, count, start + offset);
      },
    };
  }
}
