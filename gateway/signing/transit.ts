import { verify } from 'node:crypto';
import * as v from 'valibot';
import { SnapgateError } from '../../shared/errors.ts';
import { readBody } from '../../shared/registry/transport.ts';
import { parsePublicKey } from '../../shared/signing/public-key.ts';
import type { Signer } from './signer.ts';

/** How long the service may take to answer, in milliseconds. */
const ANSWER_MS = 10_000;
/** Largest answer read, in bytes. */
const MAX_ANSWER = 64 * 1024;

const keySchema = v.object({
  data: v.object({
    type: v.literal('ecdsa-p256', 'the key is not of the type ecdsa-p256'),
    latest_version: v.pipe(v.number(), v.integer(), v.minValue(1)),
    keys: v.record(v.string(), v.object({ public_key: v.string() })),
  }),
});
const signatureSchema = v.object({
  data: v.object({
    signature: v.pipe(v.string(), v.regex(/^vault:v[0-9]+:[A-Za-z0-9+/]+={0,2}$/)),
  }),
});

/** A key in the transit engine of OpenBao or HashiCorp Vault. */
export type TransitOptions = {
  /** Origin of the service. */
  readonly url: URL;
  /** Where the engine is mounted; `transit` when absent. */
  readonly mount?: string;
  readonly key: string;
  /** It may sign with the key and read it. */
  readonly token: string;
};

/**
 * Opens a key in the transit engine (its HTTP API, "Read key" and "Sign data"). The version that is
 * newest now is used until it is opened again. Throws UPSTREAM_UNREACHABLE, UPSTREAM_FAILED,
 * KEY_INVALID.
 */
export async function openTransit(options: TransitOptions): Promise<Signer> {
  const { mount = 'transit', key } = options;
  const name = `${encodeURIComponent(mount)}/keys/${encodeURIComponent(key)}`;
  const { data } = await ask(options, name, undefined, keySchema);
  const version = data.latest_version;
  const publicKey = parsePublicKey(data.keys[String(version)]?.public_key ?? '', key);
  return {
    publicKey,
    async sign(bytes) {
      const path = `${encodeURIComponent(mount)}/sign/${encodeURIComponent(key)}/sha2-256`;
      const body = {
        ...{ input: Buffer.from(bytes).toString('base64'), key_version: version },
        marshaling_algorithm: 'asn1',
      };
      const answer = await ask(options, path, body, signatureSchema);
      const signature = Buffer.from(answer.data.signature.split(':')[2] ?? '', 'base64');
      if (verify('sha256', bytes, publicKey.keyObject, signature)) return signature;
      throw failed('its signature does not fit its key', options);
    },
  };
}

async function ask<T>(
  options: TransitOptions,
  path: string,
  body: object | undefined,
  schema: v.GenericSchema<unknown, T>,
): Promise<T> {
  let answer: Response;
  let text: string;
  try {
    answer = await fetch(new URL(`/v1/${path}`, options.url), {
      method: body === undefined ? 'GET' : 'POST',
      headers: { 'x-vault-token': options.token, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      // The token must not follow a redirect.
      redirect: 'error',
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    text = await readText(answer);
  } catch (thrown) {
    if (thrown instanceof SnapgateError) throw thrown;
    throw new SnapgateError('UPSTREAM_UNREACHABLE', 'the key service does not answer', {
      where: options.url.host,
      hint: 'See whether it runs and is unsealed.',
      cause: thrown,
    });
  }
  if (!answer.ok) throw failed(`it answered ${answer.status}`, options);
  try {
    return v.parse(schema, JSON.parse(text));
  } catch (cause) {
    throw failed((cause as Error).message.slice(0, 200), options);
  }
}

async function readText(answer: Response): Promise<string> {
  const { bytes, truncated } = await readBody(answer.body ?? [], MAX_ANSWER);
  if (truncated) throw new SnapgateError('LIMIT_EXCEEDED', 'the answer is too large');
  return Buffer.from(bytes).toString('utf8');
}

function failed(message: string, { url, key }: TransitOptions): SnapgateError {
  return new SnapgateError('UPSTREAM_FAILED', `key service: ${message}`, {
    where: `${url.host}, key ${key}`,
    hint: 'See whether the key is there and whether the token may sign with it.',
  });
}
