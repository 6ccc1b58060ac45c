/** One HTTP request. Header names are lower case. */
export type HttpRequest = {
  readonly method: string;
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | AsyncIterable<Uint8Array>;
  readonly signal?: AbortSignal | undefined;
};

/** One HTTP answer. Header names are lower case; of repeated headers the values are joined by `, `. */
export type HttpResponse = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** Must be read to its end or returned from (`break`), so that the connection is freed. */
  readonly body: AsyncIterable<Uint8Array>;
};

/**
 * Sends a request. Redirects are not followed. Throws UPSTREAM_UNREACHABLE when no answer came,
 * UPSTREAM_TIMEOUT when it took too long, CANCELLED when `signal` was aborted; the body throws the
 * same when it breaks off.
 */
export type Transport = (request: HttpRequest) => Promise<HttpResponse>;

/** Reads a body of at most `limit` bytes; what is beyond is dropped and `truncated` set. */
export async function readBody(
  body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  limit: number,
): Promise<{ bytes: Uint8Array; truncated: boolean }> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  let truncated = false;
  for await (const chunk of body) {
    const room = limit - size;
    if (chunk.length > room) {
      chunks.push(chunk.subarray(0, room));
      truncated = true;
      break;
    }
    chunks.push(chunk);
    size += chunk.length;
  }
  return { bytes: Buffer.concat(chunks), truncated };
}

/** Ends a body that is not wanted, so that its connection is freed. */
export async function discardBody(body: AsyncIterable<Uint8Array>): Promise<void> {
  await readBody(body, 64 * 1024).catch(() => undefined);
}

/** A URL for messages: without user, password and query, which may carry secrets. */
export function displayUrl(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}`;
}

/** Headers as {@link HttpResponse} has them. */
export function flatHeaders(
  headers: Readonly<Record<string, string | string[] | undefined>>,
): HttpResponse['headers'] {
  const flat: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) flat[name] = Array.isArray(value) ? value.join(', ') : value;
  }
  return flat;
}
