import { createHash } from 'node:crypto';
import { isPacked } from './packed-content.ts';
import { Sketcher } from './sketch.ts';
import type { ReadRange } from './spool-file.ts';

/** What is known of a file's content without looking at another. */
export type ContentFacts = {
  /** sha256 in hex digits. */
  readonly sha256: string;
  /** Samples for the resemblance to other files; empty for small ones. */
  readonly sketch: Uint32Array;
  /** Compressed or encrypted as a whole. */
  readonly isPacked: boolean;
};

/** Most bytes read at a time. */
const CHUNK = 256 * 1024;
/** How much of the start is judged, in bytes. */
const START = 64 * 1024;
/** One for all contents: V8 would mark its whole heap for what buffers of each leave behind. */
const BUFFER = Buffer.allocUnsafeSlow(CHUNK);

/** Reads a stretch of a spool file and describes it. */
export function describeContent(read: ReadRange, offset: number, size: number): ContentFacts {
  const hash = createHash('sha256');
  const sketcher = new Sketcher();
  let packed = false;
  for (let done = 0; done < size; ) {
    const bytes = BUFFER.subarray(0, Math.min(CHUNK, size - done));
    read(bytes, offset + done);
    if (done === 0) packed = isPacked(bytes.subarray(0, START));
    hash.update(bytes);
    sketcher.update(bytes);
    done += bytes.length;
  }
  return { sha256: hash.digest('hex'), sketch: sketcher.finish(size), isPacked: packed };
}
