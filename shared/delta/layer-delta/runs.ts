import { type ByteReader, invalidDelta } from './bytes.ts';

/** What is left of a run of equal bytes and of the run of differing ones after it. */
export type Run = { equal: number; differing: number };

/** The streams that ADD's runs stand in (FORMAT.md section 6). */
type RunStreams = { readonly runs: ByteReader; readonly differences: ByteReader };

/** Reads the next run of an operation that has `left` bytes to go. Throws DELTA_INVALID. */
export function nextRun({ runs }: RunStreams, run: Run, left: number): void {
  run.equal = runs.number();
  if (run.equal > left) throw invalidDelta('a run is longer than its operation');
  if (run.equal === left) return;
  run.differing = runs.number();
  if (run.differing === 0 || run.equal + run.differing > left) {
    throw invalidDelta('a run is longer than its operation, or empty');
  }
}

/** Adds differences to `length` bytes of the output from `at`. Throws DELTA_INVALID. */
export function addDifferences(
  streams: RunStreams,
  output: Uint8Array,
  at: number,
  length: number,
): void {
  const run: Run = { equal: 0, differing: 0 };
  for (let done = 0; done < length; ) {
    nextRun(streams, run, length - done);
    done += run.equal;
    streams.differences.addTo(output, at + done, run.differing);
    done += run.differing;
    run.differing = 0;
  }
}
