import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';

/** Reads the WebAssembly of node-liblzma. */
export function readLiblzma(): Promise<Uint8Array> {
  const { resolve } = createRequire(import.meta.url);
  return readFile(resolve('node-liblzma/wasm/liblzma.wasm'));
}
