import { fstatSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { type ReadRange, rangesOf } from './spool-file.ts';

/** A temporary file that one thread appends to and reads at any place meanwhile. */
export class ScratchFile {
  readonly path: string;
  /** Reads what was appended. */
  readonly read: ReadRange;
  readonly #fd: number;
  /** Where the next byte goes. */
  position = 0;

  constructor(path: string) {
    this.path = path;
    this.#fd = openSync(path, 'a+', 0o600);
    this.read = rangesOf(this.#fd, path);
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
}
