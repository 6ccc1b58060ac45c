import createLzma from 'node-liblzma/wasm/liblzma.js';
import { SnapgateError } from '../../errors.ts';
import type { Liblzma } from './liblzma.ts';

/** Gives the bytes of node-liblzma's WebAssembly, which a process reads in its own way. */
export type ReadLiblzma = () => Promise<Uint8Array>;

type Memory = { readonly buffer: ArrayBuffer; grow(pages: number): number };
type Instance = { readonly exports: Readonly<Record<string, unknown>> };

/** What is used of WebAssembly's JavaScript interface, which the types of Node.js leave out. */
declare const WebAssembly: {
  compile(bytes: Uint8Array<ArrayBuffer>): Promise<object>;
  readonly Instance: new (module: object, imports: object) => Instance;
  readonly Memory: new (limits: { initial: number }) => Memory;
};

/** Bytes of a page of WebAssembly memory, and the most pages that two bytes can say. */
const PAGE = 65_536;
const MOST_PAGES = 2 ** 14 - 1;
const HEADER_BYTES = 8;
const MEMORY_SECTION = 5;
const WITH_MAXIMUM = 1;

/**
 * A liblzma of its own with so many bytes of memory, at most 1 GiB, which go when nobody holds it
 * any more. The package's build says that 256 MiB are the most it may have; that is one number of
 * its memory section (WebAssembly Core Specification, section 5.5.8), and no code depends on it.
 * Throws UNSUPPORTED where the build is another one than is known.
 */
export async function openLargeLiblzma(read: ReadLiblzma, memoryBytes: number): Promise<Liblzma> {
  const wasm = await WebAssembly.compile(withMoreMemory(await read()));
  return createLzma({
    instantiateWasm(imports: object, receive: (instance: Instance) => void) {
      const instance = new WebAssembly.Instance(wasm, imports);
      const memory = Object.values(instance.exports).find(
        (exported) => exported instanceof WebAssembly.Memory,
      );
      if (memory === undefined) throw unknownBuild();
      // All at once: the package's own code for growing stops at 256 MiB. Pages not used cost nothing.
      const pages = Math.min(MOST_PAGES, Math.ceil(memoryBytes / PAGE));
      memory.grow(Math.max(0, pages - memory.buffer.byteLength / PAGE));
      receive(instance);
      return instance.exports;
    },
  });
}

/** The same WebAssembly, allowed as much memory as the size of its number can say. */
function withMoreMemory(wasm: Uint8Array): Uint8Array<ArrayBuffer> {
  const changed = new Uint8Array(wasm);
  let at = HEADER_BYTES;
  /** Unsigned LEB128. */
  const number = () => {
    let value = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = changed[at++] ?? 0;
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw unknownBuild();
  };
  while (at < changed.length) {
    const id = changed[at++];
    const end = number() + at;
    if (id === MEMORY_SECTION) {
      const isOne = number() === 1 && changed[at++] === WITH_MAXIMUM;
      number();
      if (!isOne || end - at !== 2) break;
      changed.set([0xff, 0x7f], at);
      return changed;
    }
    at = end;
  }
  throw unknownBuild();
}

function unknownBuild(): SnapgateError {
  return new SnapgateError('UNSUPPORTED', 'node-liblzma is of another build than is known', {
    hint: 'Install the version that the package lock names.',
  });
}
