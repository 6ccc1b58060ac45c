import { fileURLToPath } from 'node:url';
import { type CommandContext, type OptionSpec, requiredOption } from '../../shared/cli/command.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { openPkcs11 } from '../signing/pkcs11.ts';
import { openKeyFile, readPasswordFile, type Signer } from '../signing/signer.ts';
import { openTransit } from '../signing/transit.ts';
import { readPassword } from './password.ts';

/** The option that names a key. */
export const KEY_OPTION: Readonly<Record<string, OptionSpec>> = {
  key: {
    type: 'string',
    value: 'FILE|URI',
    help: 'encrypted private key, as keys generate makes it; or pkcs11:token=T;object=K?module-path=M; or openbao://K, hashivault://K',
  },
};

/** A key that was opened, and what gives it back. */
export type OpenedKey = { readonly signer: Signer; close(): void };

/**
 * Opens the key that `--key` names: a file, a PKCS#11 URI (RFC 7512) whose PIN is the password unless
 * `pin-source` names a file, or a key in the transit engine of OpenBao or HashiCorp Vault, which the
 * usual variables tell how to reach. Throws USAGE, KEY_INVALID, CONFIG_INVALID, UPSTREAM_FAILED.
 */
export async function openKeyOption(context: CommandContext): Promise<OpenedKey> {
  const text = requiredOption(context.options, 'key');
  if (text.startsWith('pkcs11:')) {
    const { pinSource, ...uri } = parsePkcs11Uri(text);
    const pin = pinSource ? await readPasswordFile(pinSource) : await readPassword(context);
    const signer = openPkcs11({ ...uri, pin });
    return { signer, close: () => signer.close() };
  }
  const service = /^(openbao|hashivault):\/\/([\w.-]+)$/.exec(text);
  const signer =
    service === null
      ? await openKeyFile(text, await readPassword(context))
      : await openTransit(transitOf(service[1] ?? '', service[2] ?? ''));
  return { signer, close: () => {} };
}

/** What of a PKCS#11 URI is understood. Throws USAGE. */
export function parsePkcs11Uri(text: string): {
  readonly module: string;
  readonly token: string;
  readonly key: string;
  readonly pinSource?: string;
} {
  const [path = '', query = ''] = text.slice('pkcs11:'.length).split('?');
  const attributes = new Map([...path.split(';'), ...query.split('&')].map(attributeOf));
  if (attributes.has('pin-value')) {
    throw usage('pin-value would show the PIN to everybody on this machine');
  }
  const { token, object, module } = {
    ...{ token: attributes.get('token'), object: attributes.get('object') },
    module: attributes.get('module-path'),
  };
  if (!token || !object || !module) throw usage('token, object and module-path must stand in it');
  const source = attributes.get('pin-source');
  const pinSource = source?.startsWith('file:') ? fileURLToPath(asFileUrl(source)) : source;
  return { module, token, key: object, ...(pinSource ? { pinSource } : {}) };
}

function attributeOf(text: string): [string, string] {
  const at = text.indexOf('=');
  try {
    return [text.slice(0, Math.max(0, at)), decodeURIComponent(text.slice(at + 1))];
  } catch {
    throw usage('it cannot be read');
  }
}

/** `file:pin` is as good as `file:///…/pin` to those that write such addresses. */
function asFileUrl(text: string): URL {
  return new URL(text.replace(/^file:(?!\/\/)/, 'file://'));
}

function usage(message: string): SnapgateError {
  return new SnapgateError('USAGE', `--key: the PKCS#11 address: ${message}`, {
    hint: 'For example: pkcs11:token=release;object=signing?module-path=/usr/lib/libsofthsm2.so',
  });
}

function transitOf(scheme: string, key: string) {
  const names = scheme === 'openbao' ? ['BAO_ADDR', 'BAO_TOKEN'] : ['VAULT_ADDR', 'VAULT_TOKEN'];
  const [address = '', token = ''] = names.map((name) => process.env[name]);
  const url = URL.parse(address);
  if (url === null || token === '') {
    throw new SnapgateError('USAGE', `--key: ${names.join(' and ')} must be set`);
  }
  const mount = process.env.TRANSIT_SECRET_ENGINE_PATH;
  return { url, key, token, ...(mount ? { mount } : {}) };
}
