import { setTimeout as sleep } from 'node:timers/promises';
import { type ErrorCode, SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import type { ContentReader } from '../../shared/oci/content.ts';
import type { Descriptor } from '../../shared/oci/manifest.ts';
import { backOffSeconds } from '../line/back-off.ts';
import { buffersPassed } from '../system/tidy-memory.ts';
import type { BlobPart } from './blob-part.ts';

export type Blob = Pick<Descriptor, 'digest' | 'size'>;

/** How a blob is fetched. */
export type FetchOptions = {
  readonly signal?: AbortSignal | undefined;
  /** Called with the number of bytes after each piece that came. */
  readonly onBytes?: (bytes: number) => void;
  /** Passes the body on as the line's limits allow. */
  readonly pass?: (body: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>;
  /** Pauses before another try; tests replace it. Milliseconds. */
  readonly pause?: (milliseconds: number, signal?: AbortSignal) => Promise<void>;
};

/** How often in a row nothing comes before the blob is given up for now. */
const TRIES = 5;
const BACK_OFF = { first: 1, longest: 30 };
/** Who asks to be left alone for longer, in seconds, is asked by the next run. */
const LONGEST_WAIT = 300;
/** A connection that brought less does not count as one that works. */
const WORTH_BYTES = 64 * 1024;
const LINE_ERRORS: readonly ErrorCode[] = [
  ...(['UPSTREAM_UNREACHABLE', 'UPSTREAM_TIMEOUT', 'UPSTREAM_FAILED'] as const),
  ...(['TOOMANYREQUESTS', 'SIZE_INVALID'] as const),
];

/**
 * Receives what is missing of a blob. A connection that breaks is tried again while it brings
 * something. `onPiece` is called after each piece. Throws SIZE_INVALID, DIGEST_INVALID, NO_SPACE,
 * CANCELLED and what the registry answers.
 */
export async function receiveBlob(
  source: ContentReader,
  blob: Blob,
  part: BlobPart,
  options: FetchOptions,
  onPiece: () => Promise<void> | undefined,
): Promise<void> {
  for (let failures: Failures = { count: 0 }; part.size < blob.size; ) {
    const before = part.size;
    try {
      await receive(source, blob, part, options, onPiece);
    } catch (thrown) {
      const error = toSnapgateError(thrown);
      failures = addFailure(failures, error, part.size - before);
      await wait(failures.count, error.retryAfter, options);
    }
  }
  if (part.digest() === blob.digest) return;
  throw new SnapgateError('DIGEST_INVALID', `blob ${blob.digest} has another digest`, {
    where: source.name,
    hint: 'The registry or something before it changed the blob. It was deleted.',
  });
}

async function receive(
  source: ContentReader,
  blob: Blob,
  part: BlobPart,
  { signal, onBytes, pass = (body) => body }: FetchOptions,
  onPiece: () => Promise<void> | undefined,
): Promise<void> {
  const from = { offset: part.size, ...(signal === undefined ? {} : { signal }) };
  for await (const chunk of pass(source.openBlob(blob, from))) {
    await part.append(chunk);
    onBytes?.(chunk.length);
    buffersPassed(chunk.length);
    await onPiece();
  }
}

/** Failures in a row, and the one that tells most. */
type Failures = { readonly count: number; readonly short?: SnapgateError };

/**
 * Adds a failure. Throws when it is one too many, or no failure of the line. A body that ends too
 * early is a broken line at first, and a lie when nothing comes after it.
 */
function addFailure({ count, short }: Failures, error: SnapgateError, gained: number): Failures {
  if (!LINE_ERRORS.includes(error.code)) throw error;
  if ((error.retryAfter ?? 0) > LONGEST_WAIT) throw error;
  const isShort = error.code === 'SIZE_INVALID';
  const tells = isShort ? error : gained === 0 ? short : undefined;
  const isAnswered = isShort || error.code === 'UPSTREAM_FAILED';
  if (gained === 0 && isAnswered && tells !== undefined) throw tells;
  const next = gained >= WORTH_BYTES ? 1 : count + 1;
  if (next >= TRIES) throw tells ?? error;
  return { count: next, ...(tells === undefined ? {} : { short: tells }) };
}

async function wait(
  failures: number,
  retryAfter: number | undefined,
  { pause, signal }: FetchOptions,
): Promise<void> {
  const milliseconds = backOffSeconds(failures, BACK_OFF, retryAfter) * 1000;
  if (pause !== undefined) await pause(milliseconds, signal);
  else await sleep(milliseconds, undefined, signal === undefined ? {} : { signal });
}

/** Whether what came is not the blob. */
export function isLie({ code }: SnapgateError): boolean {
  return code === 'SIZE_INVALID' || code === 'DIGEST_INVALID';
}
