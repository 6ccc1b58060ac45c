import * as v from 'valibot';
import { type Digest, isDigest } from '../digest.ts';
import { type ErrorCode, SnapgateError } from '../errors.ts';
import { parseStrictJson } from '../strict-json.ts';
import { isIndexType } from './media-types.ts';

/** Largest manifest, index or referrers answer read, in bytes: the limit that registries share. */
export const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;
/** Largest image config read, in bytes. */
export const MAX_CONFIG_BYTES = 8 * 1024 * 1024;
/** Most layers an image may have: the limit of overlay and of Docker, with room. */
export const MAX_LAYERS = 512;

/** A digest in JSON. */
export const digestSchema = v.pipe(
  v.string(),
  v.check((text) => isDigest(text), 'not a sha256 digest'),
  v.transform((text) => text as Digest),
);
/** What is both an image and an index would be one to some readers and the other to the rest. */
const notHere = v.optional(v.never('makes it an image and an index at once'));
const annotationsSchema = v.record(v.string(), v.string());
const platformSchema = v.object({
  architecture: v.string(),
  os: v.string(),
  variant: v.optional(v.string()),
  'os.version': v.optional(v.string()),
  'os.features': v.optional(v.array(v.string())),
});
const descriptorSchema = v.object({
  mediaType: v.string(),
  digest: digestSchema,
  size: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  annotations: v.optional(annotationsSchema),
  artifactType: v.optional(v.string()),
  platform: v.optional(platformSchema),
  urls: v.optional(v.array(v.string())),
  data: v.optional(v.string()),
});
const manifestSchema = v.object({
  schemaVersion: v.literal(2),
  mediaType: v.optional(v.string()),
  artifactType: v.optional(v.string()),
  config: descriptorSchema,
  layers: v.pipe(v.array(descriptorSchema), v.maxLength(MAX_LAYERS)),
  manifests: notHere,
  subject: v.optional(descriptorSchema),
  annotations: v.optional(annotationsSchema),
});
const indexSchema = v.object({
  schemaVersion: v.literal(2),
  mediaType: v.optional(v.string()),
  artifactType: v.optional(v.string()),
  manifests: v.array(descriptorSchema),
  config: notHere,
  layers: notHere,
  subject: v.optional(descriptorSchema),
  annotations: v.optional(annotationsSchema),
});
const configSchema = v.object({
  architecture: v.string(),
  os: v.string(),
  variant: v.optional(v.string()),
  created: v.optional(v.string()),
  config: v.nullish(v.object({ Labels: v.nullish(v.record(v.string(), v.string())) })),
  rootfs: v.object({
    type: v.literal('layers'),
    diff_ids: v.pipe(v.array(digestSchema), v.maxLength(MAX_LAYERS)),
  }),
});

/** A content descriptor (OCI image specification, "Descriptor"). Sizes are bytes. */
export type Descriptor = v.InferOutput<typeof descriptorSchema>;
/** A platform as an index entry names it. */
export type Platform = v.InferOutput<typeof platformSchema>;
/** An image manifest or artifact manifest, OCI or Docker schema 2. */
export type Manifest = v.InferOutput<typeof manifestSchema>;
/** An image index or Docker manifest list. */
export type Index = v.InferOutput<typeof indexSchema>;
/** The parts of an image config that this project reads. The original bytes are kept elsewhere. */
export type ImageConfig = v.InferOutput<typeof configSchema>;

function parseJson<T>(
  schema: v.GenericSchema<unknown, T>,
  bytes: Uint8Array,
  code: ErrorCode,
  what: string,
): T {
  let json: unknown;
  try {
    json = parseStrictJson(bytes);
  } catch (cause) {
    const reason = (cause as Error).message.slice(0, 200);
    throw new SnapgateError(code, `${what} is not JSON of one meaning: ${reason}`, { cause });
  }
  const result = v.safeParse(schema, json);
  if (result.success) return result.output;
  const issue = result.issues[0];
  const path = v.getDotPath(issue) ?? '(root)';
  throw new SnapgateError(code, `${what}: ${path}: ${issue.message}`);
}

/** Parses an image or artifact manifest. Throws MANIFEST_INVALID. */
export function parseManifest(bytes: Uint8Array): Manifest {
  return parseJson(manifestSchema, bytes, 'MANIFEST_INVALID', 'manifest');
}

/** Parses an index or manifest list. Throws MANIFEST_INVALID. */
export function parseIndex(bytes: Uint8Array): Index {
  return parseJson(indexSchema, bytes, 'MANIFEST_INVALID', 'index');
}

/** Parses what this project needs of an image config. Throws CONFIG_BLOB_INVALID. */
export function parseImageConfig(bytes: Uint8Array): ImageConfig {
  return parseJson(configSchema, bytes, 'CONFIG_BLOB_INVALID', 'image config');
}

/**
 * The media type of a manifest or index: the one stated inside wins over the one it was served with,
 * which must then agree (OCI image specification, "mediaType"). Throws MANIFEST_INVALID.
 */
export function manifestMediaType(bytes: Uint8Array, served: string): string {
  const schema = v.object({ mediaType: v.optional(v.string()) });
  const { mediaType } = parseJson(schema, bytes, 'MANIFEST_INVALID', 'manifest');
  const type = served.split(';')[0]?.trim() ?? '';
  if (mediaType !== undefined && type !== '' && mediaType !== type) {
    throw new SnapgateError(
      'MANIFEST_INVALID',
      `manifest says it is ${mediaType} but was served as ${type}`,
    );
  }
  return mediaType ?? type;
}

/**
 * Picks the entry of an index for a platform: equal os and architecture, and variant where asked for.
 * Entries that are attestations (`unknown/unknown`) never match. Throws MANIFEST_UNKNOWN.
 */
export function selectPlatform(index: Index, wanted: Platform): Descriptor {
  const found = index.manifests.find(
    (entry) =>
      !isIndexType(entry.mediaType) &&
      entry.platform?.os === wanted.os &&
      entry.platform.architecture === wanted.architecture &&
      (wanted.variant === undefined || entry.platform.variant === wanted.variant),
  );
  if (found !== undefined) return found;
  const have = index.manifests.map((entry) => platformName(entry.platform)).join(', ');
  throw new SnapgateError('MANIFEST_UNKNOWN', `no image for ${platformName(wanted)}`, {
    hint: `The index holds: ${have || 'nothing'}.`,
  });
}

/** `os/architecture[/variant]`, as the command line takes and prints it. */
export function platformName(platform: Platform | undefined): string {
  if (platform === undefined) return 'unknown';
  return [platform.os, platform.architecture, platform.variant].filter(Boolean).join('/');
}

/** Parses `os/architecture[/variant]`. Throws USAGE. */
export function parsePlatform(text: string): Platform {
  const [os, architecture, variant, ...rest] = text.split('/');
  if (!os || !architecture || rest.length > 0) {
    throw new SnapgateError('USAGE', `not a platform: ${text}`, {
      hint: 'Write it as os/architecture or os/architecture/variant, for example linux/arm64.',
    });
  }
  return { os, architecture, ...(variant ? { variant } : {}) };
}
