/** Status and headers of an HTTP/1.1 answer. */
export type AnswerHead = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[]>>;
  /** Content-Length. */
  readonly length: number;
};

const STATUS = /^HTTP\/1\.1 ([2-5]\d\d)(?: [^\r\n]*)?$/;
const FIELD = /^([!#$%&'*+\-.^_`|~\dA-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*$/;

/**
 * Parses the head of an answer, without the empty line at its end, when it is of the plainest kind:
 * one Content-Length and no other framing (RFC 9112, section 6). Undefined for anything else, which
 * is left to a complete HTTP client.
 */
export function parseAnswerHead(text: string): AnswerHead | undefined {
  const [first = '', ...lines] = text.split('\r\n');
  const status = STATUS.exec(first)?.[1];
  if (status === undefined) return undefined;
  const headers: Record<string, string | string[]> = Object.create(null);
  for (const line of lines) {
    const field = FIELD.exec(line);
    if (field === null) return undefined;
    const [, name = '', value = ''] = field;
    add(headers, name.toLowerCase(), value);
  }
  const length = headers['content-length'];
  const isPlain = typeof length === 'string' && /^\d{1,15}$/.test(length);
  if (!isPlain || headers['transfer-encoding'] !== undefined) return undefined;
  return { status: Number(status), headers, length: Number(length) };
}

function add(headers: Record<string, string | string[]>, name: string, value: string): void {
  const before = headers[name];
  if (before === undefined) headers[name] = value;
  else headers[name] = [...(Array.isArray(before) ? before : [before]), value];
}
