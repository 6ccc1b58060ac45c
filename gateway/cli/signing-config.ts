import * as v from 'valibot';
import { filePath, origin, pattern } from './config-fields.ts';

const pkcs11Schema = v.strictObject({
  /** The token's module, a shared library. */
  module: filePath,
  /** Labels of the token and of the key pair in it. */
  token: v.string(),
  key: v.string(),
  pinFile: filePath,
});
const transitSchema = v.strictObject({
  /** OpenBao or HashiCorp Vault. */
  url: origin,
  mount: v.optional(v.string(), 'transit'),
  key: v.string(),
  tokenFile: filePath,
});
const keylessSchema = v.strictObject({
  /** Gives out the certificates. */
  fulcio: origin,
  /** The transparency log, and the version of its API. */
  rekor: v.optional(v.strictObject({ url: origin, version: v.optional(v.picklist([1, 2]), 2) })),
  timestampAuthority: v.optional(origin),
  /** Holds an OpenID Connect token for the audience `sigstore`; read anew for each signature. */
  tokenFile: filePath,
  /** Who that is to machines, and whom they believe it: as in their policy. */
  issuer: v.string(),
  subject: v.string(),
  trustedRoot: filePath,
});
const keyFields = {
  /** An encrypted cosign key and the file that holds its password. */
  key: v.optional(filePath),
  passwordFile: v.optional(filePath),
  /** Instead: a key in a token, or one in a key service. */
  pkcs11: v.optional(pkcs11Schema),
  transit: v.optional(transitSchema),
};
const keyPlaceSchema = v.strictObject(keyFields);

/** Where a key is. */
export type KeyPlace = v.InferOutput<typeof keyPlaceSchema>;

/** One key that the gateway has at hand. */
export const onlineKeySchema = v.pipe(
  keyPlaceSchema,
  v.check((place) => namesOneKey(place), 'must have key and passwordFile, or pkcs11, or transit'),
);

const fields = v.strictObject({
  repository: pattern,
  ...keyFields,
  /** Instead of any key. */
  keyless: v.optional(keylessSchema),
  images: v.optional(v.boolean(), true),
  deltas: v.optional(v.boolean(), true),
  /** `plan`: images are signed when a machine asks for a plan; `push`: when they are pushed as well. */
  on: v.optional(v.picklist(['plan', 'push']), 'plan'),
  /** Sign only images that this policy file accepts. */
  requirePublisher: v.optional(filePath),
});

/** What is signed, and with what; the fields are documented in deploy/snapgate.yaml. */
export const signingSchema = v.pipe(
  fields,
  v.check(
    ({ keyless, key, passwordFile, pkcs11, transit }) =>
      keyless === undefined
        ? namesOneKey({ key, passwordFile, pkcs11, transit })
        : [key, passwordFile, pkcs11, transit].every((one) => one === undefined),
    'must have key and passwordFile, or pkcs11, or transit, or keyless',
  ),
  v.check(
    ({ keyless }) =>
      keyless === undefined ||
      keyless.timestampAuthority !== undefined ||
      keyless.rekor?.version === 1,
    'keyless must have timestampAuthority or rekor of version 1, or nothing would say when it was signed',
  ),
);
export type SigningConfig = v.InferOutput<typeof signingSchema>;

function namesOneKey({ key, passwordFile, pkcs11, transit }: KeyPlace): boolean {
  const isOne = [key, pkcs11, transit].filter(Boolean).length === 1;
  return isOne && (key === undefined) === (passwordFile === undefined);
}

/** A rule whose paths are taken from a folder, by `at`. */
export function withSigningPaths(rule: SigningConfig, at: (path: string) => string): SigningConfig {
  const { keyless, requirePublisher } = rule;
  return {
    ...keyAt(rule, at),
    ...(keyless && {
      keyless: {
        ...keyless,
        tokenFile: at(keyless.tokenFile),
        trustedRoot: at(keyless.trustedRoot),
      },
    }),
    ...(requirePublisher === undefined ? {} : { requirePublisher: at(requirePublisher) }),
  };
}

/** The place of a key whose paths are taken from a folder, by `at`. */
export function keyAt<Place extends KeyPlace>(place: Place, at: (path: string) => string): Place {
  const { key, passwordFile, pkcs11, transit } = place;
  return {
    ...place,
    ...(key === undefined ? {} : { key: at(key) }),
    ...(passwordFile === undefined ? {} : { passwordFile: at(passwordFile) }),
    ...(pkcs11 && {
      pkcs11: { ...pkcs11, module: at(pkcs11.module), pinFile: at(pkcs11.pinFile) },
    }),
    ...(transit && { transit: { ...transit, tokenFile: at(transit.tokenFile) } }),
  };
}
