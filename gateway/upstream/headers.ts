/** Headers of a request or answer, names in lower case. */
export type HeaderMap = Readonly<Record<string, string | readonly string[] | undefined>>;
/** Headers that are ready to be sent. */
export type OutgoingHeaders = Record<string, string | string[]>;

/** Headers of one connection only (RFC 9110, section 7.6.1). */
const HOP_BY_HOP = [
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
];
/** What a registry must not hear from a client: it would build its own addresses from some of it. */
const NOT_UPSTREAM = [
  'cookie',
  'expect',
  'forwarded',
  'host',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-port',
  'x-forwarded-prefix',
  'x-forwarded-proto',
  'x-real-ip',
];
/** What is said of the registry's origin, and does not hold for the gateway's. */
const NOT_DOWNSTREAM = ['alt-svc', 'set-cookie', 'strict-transport-security'];

function without(headers: HeaderMap, dropped: readonly string[]): OutgoingHeaders {
  const named = String(headers.connection ?? '').toLowerCase();
  const gone = new Set([...HOP_BY_HOP, ...dropped, ...named.split(',').map((s) => s.trim())]);
  const kept: OutgoingHeaders = {};
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || gone.has(name)) continue;
    kept[name] = typeof value === 'string' ? value : [...value];
  }
  return kept;
}

/** What of a client's request goes to the registry. Authorization goes too: see {@link forForeign}. */
export function requestHeaders(headers: HeaderMap): OutgoingHeaders {
  return without(headers, NOT_UPSTREAM);
}

/** What of a request may go to another origin than the registry's: no credentials. */
export function forForeign(headers: OutgoingHeaders): OutgoingHeaders {
  return without(headers, ['authorization', 'cookie']);
}

/** What of the registry's answer goes to the client. */
export function answerHeaders(headers: HeaderMap): OutgoingHeaders {
  return without(headers, NOT_DOWNSTREAM);
}

/** The value of a header that comes once. */
export function headerValue(headers: HeaderMap, name: string): string | undefined {
  const value = headers[name];
  return typeof value === 'string' ? value : value?.[0];
}
