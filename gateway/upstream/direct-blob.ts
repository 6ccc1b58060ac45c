import { connect, type Socket } from 'node:net';
import { Readable } from 'node:stream';
import { SnapgateError } from '../../shared/errors.ts';
import { displayUrl } from '../../shared/registry/transport.ts';
import { type AnswerHead, parseAnswerHead } from './answer-head.ts';
import type { OutgoingHeaders } from './headers.ts';

/** Bytes read at once. Large pieces save the most: the work is per piece, not per byte. */
const BUFFER_BYTES = 1024 * 1024;
/** Most transfers that have such a buffer; the others take the usual way. */
const MAX_ACTIVE = 64;
const MAX_HEAD_BYTES = 64 * 1024;
/** Answers other than blobs that are small enough to be kept. */
const MAX_SMALL_BYTES = 64 * 1024;

/** A blob that goes from one socket to the other through one buffer. */
export type DirectBody = {
  /** Writes exactly Content-Length bytes. Throws UPSTREAM_UNREACHABLE, UPSTREAM_TIMEOUT, CANCELLED. */
  pipeTo(out: Socket): Promise<void>;
  destroy(): void;
};

export type DirectRequest = {
  readonly url: URL;
  readonly headers: OutgoingHeaders;
  readonly signal: AbortSignal;
  readonly connectTimeoutMs: number;
  readonly answerTimeoutMs: number;
  readonly stallTimeoutMs: number;
};

export type DirectAnswer = Pick<AnswerHead, 'status' | 'headers'> &
  ({ readonly direct: DirectBody } | { readonly body: Readable });

let active = 0;

/**
 * Asks for a blob over plain HTTP on a connection of its own, and gives it in a form that can be
 * copied to a client's socket without passing through streams, which is more than twice as fast.
 * Undefined when this way is not open: the caller then asks as usual.
 */
export async function requestDirectly(call: DirectRequest): Promise<DirectAnswer | undefined> {
  if (call.url.protocol !== 'http:' || active >= MAX_ACTIVE || call.signal.aborted)
    return undefined;
  const transfer = new Transfer(call);
  try {
    const head = await transfer.head();
    if (head === undefined) return transfer.giveUp();
    if (head.status === 200 || head.status === 206) return { ...head, direct: transfer };
    const small = await transfer.smallBody(head.length);
    if (small === undefined) return transfer.giveUp();
    transfer.destroy();
    return { ...head, body: Readable.from([small], { objectMode: false }) };
  } catch (thrown) {
    transfer.destroy();
    // Whatever went wrong before an answer came, the usual way tries again or says it better.
    if (call.signal.aborted || !(thrown instanceof SnapgateError)) throw thrown;
    if (thrown.code === 'UPSTREAM_TIMEOUT') throw thrown;
    return undefined;
  }
}

/** Takes a piece that was read; true when the buffer may be filled again at once. */
type Sink = (piece: Buffer) => boolean;

class Transfer implements DirectBody {
  readonly #call: DirectRequest;
  readonly #socket: Socket;
  readonly #failure = Promise.withResolvers<never>();
  #sink: Sink = () => false;
  /** What came with the head. */
  #rest: Buffer = Buffer.alloc(0);
  #left = 0;
  #isOpen = true;
  /** Whether the registry is what is waited for, and not the client. */
  #isReading = true;

  constructor(call: DirectRequest) {
    this.#call = call;
    active += 1;
    this.#failure.promise.catch(() => {});
    const buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
    this.#socket = connect({
      host: call.url.hostname.replace(/^\[|\]$/g, ''),
      port: Number(call.url.port || 80),
      onread: { buffer, callback: (size) => this.#sink(buffer.subarray(0, size)) },
    });
    this.#socket.setNoDelay(true);
    this.#socket.setTimeout(call.connectTimeoutMs, () => this.#onTimeout());
    this.#socket.once('connect', () => this.#socket.setTimeout(call.answerTimeoutMs));
    this.#socket.once('error', (cause) => this.#fail(this.#broken(cause)));
    this.#socket.once('end', () => this.#fail(this.#broken()));
    this.#socket.once('close', () => this.#fail(this.#broken()));
    call.signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  async head(): Promise<AnswerHead | undefined> {
    const found = Promise.withResolvers<string | undefined>();
    let bytes = Buffer.alloc(0);
    this.#sink = (piece) => {
      bytes = Buffer.concat([bytes, piece]);
      const end = bytes.indexOf('\r\n\r\n');
      if (end < 0 && bytes.length <= MAX_HEAD_BYTES) return true;
      this.#rest = bytes.subarray(end + 4);
      const isHead = end >= 0 && end <= MAX_HEAD_BYTES;
      found.resolve(isHead ? bytes.toString('latin1', 0, end) : undefined);
      return false;
    };
    this.#socket.write(requestText(this.#call));
    const head = await Promise.race([found.promise, this.#failure.promise]);
    this.#socket.setTimeout(this.#call.stallTimeoutMs);
    const parsed = head === undefined ? undefined : parseAnswerHead(head);
    this.#left = parsed?.length ?? 0;
    return parsed;
  }

  /** The whole body, when it is no longer than error bodies are. */
  async smallBody(length: number): Promise<Buffer | undefined> {
    if (length > MAX_SMALL_BYTES) return undefined;
    const whole = Promise.withResolvers<Buffer>();
    let bytes = this.#rest;
    const add = (piece: Buffer) => {
      bytes = Buffer.concat([bytes, piece]);
      if (bytes.length < length) return true;
      whole.resolve(bytes.subarray(0, length));
      return false;
    };
    this.#sink = add;
    if (add(Buffer.alloc(0))) this.#socket.resume();
    return Promise.race([whole.promise, this.#failure.promise]);
  }

  async pipeTo(out: Socket): Promise<void> {
    const done = Promise.withResolvers<void>();
    const write = (piece: Buffer) => {
      // More than was announced would be taken for the next answer.
      const bytes = piece.subarray(0, this.#left);
      this.#left -= bytes.length;
      this.#isReading = false;
      out.write(bytes, (error) => {
        if (error) this.#onAbort();
        else if (this.#left === 0) done.resolve();
        else {
          this.#isReading = true;
          this.#socket.resume();
        }
      });
      // The buffer is filled again only when all of it was taken.
      return false;
    };
    this.#sink = write;
    if (this.#left === 0) done.resolve();
    else if (this.#rest.length > 0) write(this.#rest);
    else this.#socket.resume();
    try {
      await Promise.race([done.promise, this.#failure.promise]);
    } finally {
      this.destroy();
    }
  }

  giveUp(): undefined {
    this.destroy();
    return undefined;
  }

  destroy(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    active -= 1;
    this.#call.signal.removeEventListener('abort', this.#onAbort);
    this.#socket.on('error', () => {}).destroy();
  }

  #onTimeout(): void {
    if (!this.#isReading) return;
    const where = displayUrl(this.#call.url);
    this.#fail(new SnapgateError('UPSTREAM_TIMEOUT', 'no answer in time', { where }));
  }

  readonly #onAbort = () => {
    this.#fail(new SnapgateError('CANCELLED', 'cancelled', { where: displayUrl(this.#call.url) }));
  };

  #fail(error: SnapgateError): void {
    this.#failure.reject(error);
    this.destroy();
  }

  #broken(cause?: Error): SnapgateError {
    const reason = (cause as NodeJS.ErrnoException | undefined)?.code ?? 'it was closed';
    return new SnapgateError('UPSTREAM_UNREACHABLE', `the connection failed: ${reason}`, {
      where: displayUrl(this.#call.url),
      ...(cause === undefined ? {} : { cause }),
    });
  }
}

function requestText({ url, headers }: DirectRequest): string {
  const lines = [`GET ${url.pathname}${url.search} HTTP/1.1`, `host: ${url.host}`];
  for (const [name, value] of Object.entries(headers)) {
    for (const one of Array.isArray(value) ? value : [value]) lines.push(`${name}: ${one}`);
  }
  return `${lines.join('\r\n')}\r\nconnection: close\r\n\r\n`;
}
