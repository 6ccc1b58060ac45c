import * as v from 'valibot';
import { type Digest, isDigest } from '../digest.ts';
import { isRepositoryPattern } from './repository-pattern.ts';
import { parseVersion } from './version.ts';

/** Most keys and identities, and most names in one group. */
export const MAX_SIGNERS = 64;
const MAX_RULES = 1024;
const MAX_DIGESTS = 4096;
const MAX_PARTS = 16;

// The fields are described for those who write policies in POLICY.md, in the same order.

const time = v.pipe(
  v.string(),
  v.isoTimestamp('must be a time such as 2026-01-31T00:00:00Z'),
  v.transform((text) => new Date(text)),
);
const name = v.pipe(
  v.string(),
  v.regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'must be a name of letters, digits and . _ -'),
);
const count = (least: number) =>
  v.pipe(v.number(), v.safeInteger('must be a whole number'), v.minValue(least));
const text = v.pipe(v.string(), v.minLength(1), v.maxLength(4096));
const url = v.pipe(
  text,
  v.regex(/^https?:\/\/[^\s]+$/, 'must be a URL, exactly as it is in tokens'),
);
const digests = v.pipe(
  v.array(
    v.pipe(
      v.string(),
      v.check(isDigest, 'must be sha256: and 64 hexadecimal digits'),
      v.transform((digest) => digest as Digest),
    ),
  ),
  v.maxLength(MAX_DIGESTS),
);

const keySchema = v.strictObject({
  /** PEM of an ECDSA P-256 public key, with `\n` between its lines. */
  pem: v.string(),
  /** First instant at which signatures by this key count. Always, when absent. */
  validFrom: v.optional(time),
  /** Instant from which signatures by this key count no more. Never, when absent. */
  validUntil: v.optional(time),
});

const identitySchema = v.strictObject({
  /** The OpenID Connect issuer, exactly as the certificate states it. */
  issuer: url,
  /** The whole subject alternative name: an address, or the URL of a workflow. No pattern. */
  subject: text,
  /** Name of the trusted root whose services vouch for it. */
  trustedRoot: name,
  /** How many transparency logs must hold the signature. */
  transparencyLogs: v.optional(count(0), 1),
  /** How many trusted times it must carry, from logs and timestamp authorities. */
  timestamps: v.optional(count(1), 1),
});

const groupSchema = v.strictObject({
  /** Names of the keys and identities that may sign. */
  signers: v.pipe(v.array(name), v.minLength(1, 'must name a signer'), v.maxLength(MAX_SIGNERS)),
  /** How many different ones of them must have signed. One, when absent. */
  threshold: v.optional(count(1), 1),
});

/** A requirement as it is written. */
export type RequirementInput =
  | { signers: string[]; threshold: number }
  | { allOf: RequirementInput[] }
  | { anyOf: RequirementInput[] };

const requirementSchema: v.GenericSchema<unknown, RequirementInput> = v.lazy((input) => {
  if (typeof input !== 'object' || input === null) return groupSchema;
  if ('allOf' in input) return allOfSchema;
  return 'anyOf' in input ? anyOfSchema : groupSchema;
});
const parts = v.pipe(
  v.array(requirementSchema),
  v.minLength(1, 'must hold a requirement'),
  v.maxLength(MAX_PARTS),
);
const allOfSchema = v.strictObject({ allOf: parts });
const anyOfSchema = v.strictObject({ anyOf: parts });

const largestSchema = v.strictObject({
  /** Bytes of an image on the line: its config and each different layer. */
  imageBytes: v.optional(count(1)),
  /** Bytes of a delta on the line: its layers. */
  deltaBytes: v.optional(count(1)),
  /** Room that applying a delta takes besides its blobs and the result. */
  deltaTemporaryBytes: v.optional(count(0)),
  /** Room that the layers take which a delta rebuilds. */
  deltaInstalledBytes: v.optional(count(1)),
  /** Memory for the largest window of a delta's compressor. */
  deltaWindowBytes: v.optional(count(1)),
});

const oldestSchema = v.strictObject({
  /** Lowest version, compared field by field. */
  version: v.optional(
    v.pipe(
      v.string(),
      v.check((value) => parseVersion(value) !== undefined, 'must be a version such as 2026.4.1'),
    ),
  ),
  /** Earliest time of making. */
  created: v.optional(time),
});

const channelSchema = v.strictObject({
  /** Name of the root that vouches for the statements about tags. */
  root: name,
  /** How long ago the statements may have been confirmed, in seconds. */
  maximumAgeSeconds: v.optional(count(1)),
});

const ruleSchema = v.strictObject({
  /**
   * The repositories that the rule is for, with the registry's host as the machine writes it:
   * `HOST/REPO` for one, `HOST/PREFIX/*` or `HOST/*` for all beneath, `*` for all. Of several that
   * match, the longest holds; a repository that none matches is refused.
   */
  repository: v.pipe(
    v.string(),
    v.check(isRepositoryPattern, 'must be HOST/REPO, a prefix of it followed by /*, or *'),
  ),
  /** Who must have signed an image. */
  images: requirementSchema,
  /** Who must have signed a delta, or `false`: none is used. The same as for images, when absent. */
  deltas: v.optional(v.union([v.literal(false), requirementSchema])),
  /** What a tag means is taken from signed statements only, and not from the registry. */
  channel: v.optional(channelSchema),
  /** Annotations of an image, or else labels of its config, and the values that they may have. */
  annotations: v.optional(
    v.pipe(
      v.record(text, v.union([text, v.pipe(v.array(text), v.minLength(1), v.maxLength(64))])),
      v.maxEntries(64),
    ),
  ),
  /** `os/architecture[/variant]` of images. */
  platforms: v.optional(
    v.pipe(
      v.array(v.pipe(v.string(), v.regex(/^[^/\s]+\/[^/\s]+(\/[^/\s]+)?$/, 'must be OS/ARCH'))),
      v.minLength(1),
      v.maxLength(64),
    ),
  ),
  /** The only images that are accepted, by digest of manifest or index. */
  allowedDigests: v.optional(digests),
  /** What is never accepted: digests of manifests, indexes, configs and deltas. */
  deniedDigests: v.optional(digests),
  /** The oldest image that is still accepted. */
  oldest: v.optional(oldestSchema),
  /** Sizes beyond which nothing is accepted. */
  largest: v.optional(largestSchema),
});

/** A policy file. */
export const policySchema = v.strictObject({
  /** Version of this format. */
  version: v.literal(1, 'must be 1'),
  /** The keys that rules speak of, by a name of your choice. */
  keys: v.optional(v.pipe(v.record(name, keySchema), v.maxEntries(MAX_SIGNERS)), {}),
  /** Signers known by certificates of short life instead of keys, by a name of your choice. */
  identities: v.optional(v.pipe(v.record(name, identitySchema), v.maxEntries(MAX_SIGNERS)), {}),
  /** The content of `trusted_root.json` files, by a name of your choice. */
  trustedRoots: v.optional(v.pipe(v.record(name, v.unknown()), v.maxEntries(8)), {}),
  /** Where trust in statements about tags begins: `root.json` files of TUF, by a name of your choice. */
  channelRoots: v.optional(v.pipe(v.record(name, v.unknown()), v.maxEntries(8)), {}),
  rules: v.pipe(v.array(ruleSchema), v.maxLength(MAX_RULES)),
});

export type PolicyInput = v.InferOutput<typeof policySchema>;
export type RuleInput = PolicyInput['rules'][number];
