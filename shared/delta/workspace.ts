import type { SourceFile } from './piece.ts';

/** A run of bytes that is written once, from its start on, and then read anywhere. */
export type WorkFile = {
  write(bytes: Uint8Array, offset: number): void;
  read(target: Uint8Array, offset: number): number;
  /** Gives the room back. */
  close(): void;
};

/** Room for what is kept while a delta is applied. Throws NO_SPACE when there is none. */
export type Workspace = {
  /** `size` in bytes; 0 when it shows only while it is written. */
  create(size: number): WorkFile;
};

/** Room in memory. */
export const MEMORY_WORKSPACE: Workspace = {
  create(size) {
    let bytes: Uint8Array = new Uint8Array(size);
    return {
      write(part, offset) {
        if (offset + part.length > bytes.length) {
          const grown = new Uint8Array(2 * bytes.length + part.length);
          grown.set(bytes);
          bytes = grown;
        }
        bytes.set(part, offset);
      },
      read(target, offset) {
        const part = bytes.subarray(offset, offset + target.length);
        target.set(part);
        return part.length;
      },
      close() {
        bytes = new Uint8Array(0);
      },
    };
  },
};

/** A finished work file as something to copy from. */
export function workSource(file: WorkFile, size: number, name: string): SourceFile {
  return { path: name, size, read: (target, offset) => file.read(target, offset) };
}
