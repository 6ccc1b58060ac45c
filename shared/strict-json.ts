const MAX_DEPTH = 64;
// In valid JSON every bracket, brace, colon and comma outside of a string is structure.
const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\]:]/g;

/**
 * Parses JSON that has one meaning only: well-formed UTF-8, no key twice in an object, no more than
 * 64 levels. Two readers of such a text cannot see different things in it, which matters wherever a
 * signature or a decision hangs on it (RFC 8259, section 4). Throws SyntaxError.
 */
export function parseStrictJson(text: string | Uint8Array): unknown {
  const source = typeof text === 'string' ? text : decode(text);
  const value: unknown = JSON.parse(source);
  const keys: (Set<string> | undefined)[] = [];
  let last = '';
  for (const [token] of source.matchAll(TOKEN)) {
    if (token === '{') keys.push(new Set());
    else if (token === '[') keys.push(undefined);
    else if (token === '}' || token === ']') keys.pop();
    else if (token === ':') addKey(keys.at(-1), JSON.parse(last));
    else last = token;
    if (keys.length > MAX_DEPTH) throw new SyntaxError('JSON is nested too deeply');
  }
  return value;
}

function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new SyntaxError('JSON is not UTF-8');
  }
}

function addKey(keys: Set<string> | undefined, key: string): void {
  if (keys?.has(key)) throw new SyntaxError(`JSON has the key ${JSON.stringify(key)} twice`);
  keys?.add(key);
}
